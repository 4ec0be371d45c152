"""What people wear: colours, garments, hair and bags of each person.

Persons come in groups that share one set of four colours, worn in different places: upper body, sleeves, legs, and a
second colour (bag, stripes, print). Within a group, mostly *where* a colour sits tells people apart; that is what
part-aligned representations are about.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from partalign.datasets.generated.draws import Draws, Table

UPPER, SLEEVES, LEGS, SECOND = range(4)
LARGEST_GROUP = 24  # the orders of four colours

PLAIN, STRIPES, BARS, CHECKS, PRINT, OPEN, HALVES = range(7)
_PATTERNS = (0.30, 0.13, 0.07, 0.13, 0.15, 0.13, 0.09)
TROUSERS, SHORTS, SKIRT, LONG_SKIRT = range(4)
NO_BAG, BACKPACK, SHOULDER_BAG, HANDBAG = range(4)
SHORT, CHIN, LONG, TAIL, SHAVED = range(5)

# sRGB, 0 to 255, and how often people wear it
_PALETTE = np.array([
    (32, 32, 35, 9), (228, 228, 225, 9), (178, 180, 182, 5), (104, 107, 112, 6), (38, 45, 76, 6), (56, 90, 150, 4),
    (134, 172, 206, 4), (44, 116, 118, 2.5), (58, 116, 70, 3), (98, 99, 64, 2.5), (152, 178, 90, 1.5),
    (220, 188, 76, 3), (212, 118, 60, 2.5), (178, 48, 50, 4), (104, 36, 48, 2.5), (214, 144, 158, 3),
    (104, 66, 132, 2.5), (178, 160, 200, 2), (94, 66, 46, 3), (204, 186, 150, 4), (146, 128, 98, 3),
    (78, 99, 134, 5), (206, 84, 124, 1.5), (118, 182, 166, 1.5),
])  # fmt: skip
_SKIN = np.array([(236, 196, 170), (226, 182, 150), (208, 160, 126), (178, 128, 94), (134, 90, 64), (92, 60, 44)]) / 255
_HAIR = np.array([(26, 22, 22), (48, 34, 28), (84, 58, 40), (146, 112, 70), (150, 148, 146), (112, 54, 34)]) / 255
_SHOES = np.array([(30, 29, 30), (218, 218, 216), (92, 66, 46), (124, 126, 130), (168, 52, 48), (56, 74, 122)]) / 255


@dataclass
class Wardrobe(Table):
    """What each person looks like, (P, ...): colours are sRGB from 0 to 1, lengths ratios.

    colors: (P, 4, 3) of upper body, sleeves, legs and second colour. sleeve: 0.25 (short) to 1 (to the wrist).
    hem: 0.28 to 1, how far down the leg trousers, shorts or skirt reach. coat: how far it reaches below the hips.
    period: of the pattern, in metres. flare: 0 (narrow) to 1 (wide) clothes. bag_side: 0 right, 1 left.
    """

    colors: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    shoes: np.ndarray
    cap: np.ndarray
    feminine: np.ndarray
    pattern: np.ndarray
    period: np.ndarray
    sleeve: np.ndarray
    bottom: np.ndarray
    hem: np.ndarray
    flare: np.ndarray
    coat: np.ndarray
    hair_style: np.ndarray
    wears_cap: np.ndarray
    glasses: np.ndarray
    bag: np.ndarray
    bag_side: np.ndarray
    bag_size: np.ndarray

    @property
    def loaded_arms(self) -> np.ndarray:
        """The arms, right and left, that hold a bag: (P, 2) bool."""
        return (self.bag == HANDBAG)[:, None] & (self.bag_side[:, None] == [0, 1])

    @classmethod
    def draw(cls, seed: int, persons: np.ndarray, group_size: int) -> Wardrobe:
        """Dress the given persons, (P,) int. What a person wears does not depend on which others are drawn."""
        draws = Draws(seed, "wardrobe", persons)
        feminine = draws.chance("feminine", 0.48)
        bottom = np.where(
            feminine,
            draws.choice("her bottom", (0.5, 0.17, 0.22, 0.11)),
            draws.choice("his bottom", (0.68, 0.32, 0, 0)),
        )
        bag = draws.choice("bag", (0.42, 0.24, 0.18, 0.16))
        pattern = draws.choice("pattern", _PATTERNS)
        # the second colour has to be seen somewhere: on a bag, or else as a pattern
        pattern = np.where(
            (pattern == PLAIN) & (bag == NO_BAG), draws.choice("pattern instead", (0, *_PATTERNS[1:])), pattern
        )
        hem = np.select(
            [bottom == TROUSERS, bottom == SHORTS, bottom == SKIRT],
            [np.ones(len(persons)), draws.uniform("shorts", 0.3, 0.58), draws.uniform("skirt", 0.28, 0.52)],
            draws.uniform("long skirt", 0.6, 0.9),
        )
        hair_style = np.where(
            feminine,
            draws.choice("her hair", (0.12, 0.22, 0.38, 0.28, 0)),
            draws.choice("his hair", (0.8, 0.05, 0.03, 0.02, 0.1)),
        )
        return cls(
            colors=_colors(seed, persons, group_size),
            skin=_shade(_SKIN[draws.choice("skin", (3, 4, 3, 2, 1, 1))], draws, "skin tint", 0.02),
            hair=_shade(_HAIR[draws.choice("hair", (5, 4, 2.5, 1.2, 1, 0.6))], draws, "hair tint", 0.015),
            shoes=_shade(_SHOES[draws.choice("shoes", (5, 3, 2, 2, 0.7, 0.8))], draws, "shoe tint", 0.03),
            cap=_shade(_SHOES[draws.choice("cap", (4, 2, 1, 2, 2, 2))], draws, "cap tint", 0.04),
            feminine=feminine,
            pattern=pattern,
            period=draws.uniform("period", 0.09, 0.2),
            sleeve=np.where(draws.chance("short sleeves", 0.45), draws.uniform("sleeve", 0.25, 0.45), 1.0),
            bottom=bottom,
            hem=hem,
            flare=draws.uniform("flare"),
            coat=np.where(draws.chance("coat", 0.16), draws.uniform("coat length", 0.12, 0.32), 0.0),
            hair_style=hair_style,
            wears_cap=draws.chance("wears cap", 0.1),
            glasses=draws.chance("glasses", 0.2),
            bag=bag,
            bag_side=draws.chance("bag side", 0.5).astype(int),
            bag_size=draws.uniform("bag size", 0.8, 1.25),
        )


def _colors(seed: int, persons: np.ndarray, group_size: int) -> np.ndarray:
    """(P, 4, 3): each group's four colours in an order that no other person of the group has."""
    group, member = np.divmod(np.asarray(persons), group_size)
    draws = Draws(seed, "group", group)
    weights = _PALETTE[:, 3]
    # the four largest of u ** (1 / weight): four different entries of the palette, drawn by weight
    keys = -np.log(1.0 - draws.uniform("palette", size=len(_PALETTE))) / weights
    four = np.argsort(keys, axis=1, kind="stable")[:, :4]
    colors = _PALETTE[four, :3] / 255 + draws.normal("dye", 0.0, 0.035, size=12).reshape(-1, 4, 3)
    orders = np.array(list(permutations(range(4))))
    order = orders[draws.order("places", len(orders))[np.arange(len(group)), member]]
    colors = np.clip(np.take_along_axis(colors, order[:, :, None], axis=1), 0.04, 0.96)
    if group_size == 1:  # no groups: dress as people do, sleeves mostly like the rest of the garment
        same = Draws(seed, "wardrobe", persons).chance("sleeves match", 0.8)
        colors[same, SLEEVES] = colors[same, UPPER]
    return colors


def _shade(colors: np.ndarray, draws: Draws, name: str, sigma: float) -> np.ndarray:
    return np.clip(colors + draws.normal(name, 0.0, sigma, size=3), 0.03, 0.97)
