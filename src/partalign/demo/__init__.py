"""The demonstration: generated people, a pose network, two trained networks, a search, and a report of all that."""

from partalign.demo.run import Outcome, run_demo
from partalign.demo.stages import Size

__all__ = ["Outcome", "Size", "run_demo"]
