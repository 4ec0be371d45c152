"""Market-1501 (Zheng et al., ICCV 2015) as its authors unpack it, and everything written in the same layout.

File names say all: `PPPP_cCsS_FFFFFF_BB.jpg` is person, camera and sequence, frame, number of the detection.
Person -1 is junk (ignored in scoring), 0000 a distractor (kept). 24 files of the official release end in `.jpg.jpg`.
The hand-drawn crops of `gt_bbox`, where that folder is there, are what multi-query scoring averages.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from partalign.crops import Crop, Split
from partalign.datasets.layout import GALLERY, QUERY, TRAIN, Layout

FOLDER = "Market-1501-v15.09.15"
POOL = "gt_bbox"

OFFICIAL = {
    TRAIN: "12,936 crops of 751 persons",
    QUERY: "3,368 crops of 750 persons",
    GALLERY: "19,732 crops of 750 persons, 2,798 of them distractors (0000) and 3,819 junk (-1)",
}

LAYOUT = Layout(
    "market1501",
    "Market-1501",
    FOLDER,
    re.compile(r"(?P<person>-1|[0-9]{4})_(?P<camera>c[0-9])s[0-9]_(?P<frame>[0-9]{6})_[0-9]{2}(?:\.jpg){1,2}"),
    "0002_c1s1_000451_03.jpg",
    OFFICIAL,
)

is_here = LAYOUT.is_here
parse_name = LAYOUT.parse_name


def load(folder: Path) -> Split:
    """Read the folder that holds `Market-1501-v15.09.15`, or that folder itself.

    `Crop.time` is the frame number, which starts anew with each sequence. `Split.pool` is empty where there is no
    `gt_bbox`. Other counts than the official ones are allowed and said in `Split.notes`. Raises DatasetError where one
    of the other folders is missing, or any is empty or has files named otherwise.
    """
    root = LAYOUT.find(Path(folder))
    split = LAYOUT.load(root)
    if not (root / POOL).is_dir():
        return split
    pool = LAYOUT.read(root / POOL)
    return replace(split, pool=pool, notes=(*split.notes, *_pool_notes(split.query, pool)))


def _pool_notes(query: tuple[Crop, ...], pool: tuple[Crop, ...]) -> list[str]:
    seen = {(crop.person, crop.camera) for crop in pool}
    alone = sum((crop.person, crop.camera) not in seen for crop in query)
    told = f"{alone:,} of {len(query):,} queries have no crop of their person and camera there"
    return [f"{POOL}: {told}, so multi-query scoring has nothing to average for them"] if alone else []
