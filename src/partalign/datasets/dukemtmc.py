"""DukeMTMC-reID (Zheng et al., ICCV 2017; videos of Ristani et al., ECCV Workshops 2016), for those who hold it.

The videos' authors withdrew them in 2019. File names: `PPPP_cC_fNNNNNNN.jpg` is person, camera (8 of them) and frame.
No person is -1 or 0000: the 408 who were seen by one camera only, and serve as distractors in the gallery, have
numbers of their own.
"""

from __future__ import annotations

import re
from pathlib import Path

from partalign.crops import Split
from partalign.datasets.layout import GALLERY, QUERY, TRAIN, Layout

FOLDER = "DukeMTMC-reID"

OFFICIAL = {
    TRAIN: "16,522 crops of 702 persons",
    QUERY: "2,228 crops of 702 persons",
    GALLERY: "17,661 crops of 1,110 persons",  # the 702 and 408 distractors
}

LAYOUT = Layout(
    "dukemtmc",
    "DukeMTMC-reID",
    FOLDER,
    re.compile(r"(?P<person>[0-9]{4})_(?P<camera>c[0-9])_f(?P<frame>[0-9]{7})\.jpg"),
    "0005_c2_f0046985.jpg",
    OFFICIAL,
)

parse_name = LAYOUT.parse_name


def load(folder: Path) -> Split:
    """Read the folder that holds `DukeMTMC-reID`, or that folder itself; scored by the rules of Market-1501.

    `Crop.time` is the frame number of the camera's video. Other counts than the official ones are allowed and said in
    `Split.notes`. Raises DatasetError where a folder is missing or empty, or files are named otherwise.
    """
    return LAYOUT.load(Path(folder))
