"""Generated people: pictures with known joints, for tests, demonstrations, pose pre-training and extra identities.

Nobody's consent is needed, nothing is downloaded. `World.render` makes pictures by number, `World.write` a data set.
"""

from partalign.datasets.generated.world import World

__all__ = ["World"]
