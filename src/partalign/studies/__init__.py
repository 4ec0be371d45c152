"""Studies: the paper's claims, each as variants side by side on generated people or on a data set of the user's."""

from partalign.studies.claims import STUDIES, Study
from partalign.studies.grounds import GeneratedPeople, RealPeople, Size, SmallRealPeople
from partalign.studies.run import Finding, run_study

__all__ = ["STUDIES", "Finding", "GeneratedPeople", "RealPeople", "Size", "SmallRealPeople", "Study", "run_study"]
