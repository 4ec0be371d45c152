"""What is claimed, and which variants show it: a table of variants, and one of studies. Nothing here runs.

A variant is known by its name in all studies, so that it is trained once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

LEVEL = 0.03
"""Two variants are level where the difference of their mAP lies within this."""

PEOPLE: dict[str, dict[str, float]] = {
    "": {},
    "half": {"misalignment": 0.5},
    "aligned": {"misalignment": 0.0},
    "tight": {"misalignment": 0.0, "occlusion": 0.0},
}
"""Kinds of generated people, by what differs from `World`'s defaults: boxes of a poor detector, a quarter occluded."""


@dataclass(frozen=True)
class Variant:
    """A network and how it is trained and scored.

    label: its name in tables. network: the recipe that it starts from. changes: to that recipe, as with `--set`.
    frozen: the pose network stays as it is. people: a kind of `PEOPLE`. pose: the kind that its part stream was
    pre-trained on, None for never. sees: whose picture the part stream is given; "another": a training crop drawn for
    each crop, "mean": the mean training crop, the same for all. rerank: score after k-reciprocal re-ranking, the
    network being that of the variant `of`. published: the recipe of the paper's row.
    """

    label: str
    network: Literal["baseline", "proposed"] = "proposed"
    changes: tuple[str, ...] = ()
    frozen: bool = False
    people: str = ""
    pose: str | None = ""
    sees: Literal["crop", "another", "mean"] = "crop"
    of: str | None = None
    rerank: bool = False
    published: str | None = None

    @property
    def generated(self) -> bool:
        """Whether it needs people or poses of a kind that only generated people come in."""
        return bool(self.people or self.pose)


@dataclass(frozen=True)
class Expectation:
    """What a claim says of figures: a weighted sum of the variants' mAP is above 0, or within `LEVEL` of it."""

    text: str
    weights: Mapping[str, float]
    level: bool = False


@dataclass(frozen=True)
class Study:
    """A claim, the variants that show it, and what the claim expects of their figures.

    source: where the paper makes it, or "control" for what it does not test. reference: the variant that the table's
    differences are to. panels: for the plot, group -> name of the row -> variant; without them, all in one.
    """

    title: str
    source: str
    claim: str
    reference: str
    variants: tuple[str, ...]
    expectations: tuple[Expectation, ...]
    panels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    note: str = ""


def above(text: str, better: str, worse: str) -> Expectation:
    """Expect the mAP of one variant to be above another's."""
    return Expectation(text, {better: 1.0, worse: -1.0})


def level(text: str, one: str, other: str) -> Expectation:
    """Expect the mAP of two variants to differ by less than `LEVEL`."""
    return Expectation(text, {one: 1.0, other: -1.0}, level=True)


RESIDUAL = 'network.appearance="light-residual"'
STRIPES = 'network.pooling="stripes"'

VARIANTS: dict[str, Variant] = {
    "baseline": Variant("baseline", "baseline", pose=None, published="market1501-baseline"),
    "frozen": Variant("part stream frozen", frozen=True, published="market1501-frozen"),
    "trained": Variant("part stream trained", published="market1501-openpose"),
    "unpretrained": Variant("never pre-trained", pose=None, published="market1501-unpretrained"),
    "nonnegative": Variant(
        "non-negative parts", changes=("network.nonnegative=true",), published="market1501-nonnegative"
    ),
    "concat": Variant("concat, trained", changes=('network.pooling="concat"',)),
    "concat-frozen": Variant("concat, frozen", changes=('network.pooling="concat"',), frozen=True),
    "joints": Variant("joints only", changes=('network.maps="joints"',), published="market1501-joints"),
    "limbs": Variant("limbs only", changes=('network.maps="limbs"',), published="market1501-limbs"),
    "internal": Variant("internal only", changes=('network.maps="internal"',), published="market1501-internal"),
    "residual-baseline": Variant("residual: baseline", "baseline", (RESIDUAL,), pose=None),
    "residual-frozen": Variant("residual: frozen", changes=(RESIDUAL,), frozen=True),
    "residual-trained": Variant("residual: trained", changes=(RESIDUAL,)),
    "dilated": Variant("dilated", changes=("network.dilation=true",), published="market1501-openpose-dilated"),
    "baseline-dilated": Variant("baseline, dilated", "baseline", ("network.dilation=true",), pose=None),
    "baseline-reranked": Variant("baseline, re-ranked", "baseline", pose=None, of="baseline", rerank=True),
    "reranked": Variant("part-aligned, re-ranked", of="trained", rerank=True),
    "stripes": Variant("stripes, poor boxes", "baseline", (STRIPES,), pose=None),
    "stripes-half": Variant("stripes, fair boxes", "baseline", (STRIPES,), people="half", pose=None),
    "stripes-aligned": Variant("stripes, tight boxes", "baseline", (STRIPES,), people="aligned", pose=None),
    "baseline-half": Variant("baseline, fair boxes", "baseline", people="half", pose=None),
    "baseline-aligned": Variant("baseline, tight boxes", "baseline", people="aligned", pose=None),
    "trained-half": Variant("part-aligned, fair boxes", people="half"),
    "trained-aligned": Variant("part-aligned, tight boxes", people="aligned"),
    "frozen-foreign": Variant("other domain, frozen", frozen=True, pose="tight"),
    "trained-foreign": Variant("other domain, trained", pose="tight"),
    "sketch-64": Variant("sketch, 64 numbers", changes=("network.dimension=64",)),
    "sketch-256": Variant("sketch, 256 numbers", changes=("network.dimension=256",)),
    "full": Variant("full bilinear", changes=('network.pooling="full"',), published="market1501-full-bilinear"),
    "no-identity": Variant("triplets alone", changes=("loss.identity_weight=0",)),
    "cameras": Variant("batches balanced over cameras", changes=('batch.sampler="cameras"',)),
    "averaged": Variant("averaged weights", changes=("average=0.95",)),
    "coloured": Variant("changes of colour", changes=("augment.color=0.3",)),
    "shifted": Variant("shifts", changes=("augment.crop=8",)),
    "erased": Variant("erasing", changes=("augment.erase=0.3",)),
    "shrunk": Variant("lost detail", changes=("augment.shrink=0.3",)),
    "another": Variant("another crop's parts, frozen", frozen=True, sees="another"),
    "mean": Variant("mean crop's parts, trained", sees="mean"),
}

STUDIES: dict[str, Study] = {
    "parts": Study(
        "Part maps",
        "Fig. 6a",
        "Part maps improve on the baseline, and training the pose network improves on leaving it as it is.",
        "baseline",
        ("baseline", "frozen", "trained"),
        (
            above("part maps of a frozen pose network help", "frozen", "baseline"),
            above("part maps of a trained pose network help", "trained", "baseline"),
            above("training the pose network helps further", "trained", "frozen"),
        ),
    ),
    "architecture": Study(
        "Another appearance stream",
        "Fig. 6b",
        "The same order shows whatever the architecture of the appearance stream is.",
        "residual-baseline",
        ("baseline", "frozen", "trained", "residual-baseline", "residual-frozen", "residual-trained"),
        (
            above("plain stream: part maps help", "frozen", "baseline"),
            above("plain stream: training the pose network helps further", "trained", "frozen"),
            above("residual stream: part maps help", "residual-frozen", "residual-baseline"),
            above(
                "residual stream: training the pose network helps further",
                "residual-trained",
                "residual-frozen",
            ),
        ),
        {
            "Plain stream": {"baseline": "baseline", "frozen": "frozen", "trained": "trained"},
            "Residual stream": {
                "baseline": "residual-baseline",
                "frozen": "residual-frozen",
                "trained": "residual-trained",
            },
        },
    ),
    "aggregation": Study(
        "Aggregation",
        "Fig. 6c",
        "Bilinear pooling of both maps beats concatenating and averaging them, the pose network frozen or trained.",
        "concat",
        ("baseline", "concat-frozen", "frozen", "concat", "trained"),
        (
            above("bilinear beats concatenation, frozen", "frozen", "concat-frozen"),
            above("bilinear beats concatenation, trained", "trained", "concat"),
        ),
        {
            "Pose network frozen": {"concatenated": "concat-frozen", "bilinear": "frozen"},
            "Pose network trained": {"concatenated": "concat", "bilinear": "trained"},
        },
    ),
    "maps": Study(
        "Pose sub-networks",
        "Table 1",
        "Joint maps and limb maps do about as well as each other, and all maps together do best.",
        "trained",
        ("joints", "limbs", "internal", "trained"),
        (
            level("joints and limbs are level", "joints", "limbs"),
            above("all maps beat joints", "trained", "joints"),
            above("all maps beat limbs", "trained", "limbs"),
            above("all maps beat internal maps", "trained", "internal"),
        ),
    ),
    "nonnegative": Study(
        "Non-negative parts",
        "Table 7",
        "Part maps that cannot be negative do about as well as the original, both far better than the baseline.",
        "trained",
        ("baseline", "trained", "nonnegative"),
        (
            level("non-negative and original are level", "nonnegative", "trained"),
            above("non-negative beats the baseline", "nonnegative", "baseline"),
        ),
    ),
    "dilation": Study(
        "Dilation",
        "Table 2",
        "Maps of twice the resolution, by dilated filters with the same weights, do better.",
        "trained",
        ("baseline", "baseline-dilated", "trained", "dilated"),
        (above("dilation helps the part-aligned network", "dilated", "trained"),),
        {
            "Plain": {"baseline": "baseline", "part-aligned": "trained"},
            "Dilated": {"baseline": "baseline-dilated", "part-aligned": "dilated"},
        },
        note="The paper gives no dilated baseline; ours is there to tell what is due to parts.",
    ),
    "reranking": Study(
        "Re-ranking",
        "Table 2",
        "k-reciprocal re-ranking of the descriptors improves the result, mAP above all.",
        "trained",
        ("baseline", "baseline-reranked", "trained", "reranked"),
        (
            above("re-ranking helps the part-aligned network", "reranked", "trained"),
            above("re-ranking helps the baseline", "baseline-reranked", "baseline"),
        ),
        {
            "As it is": {"baseline": "baseline", "part-aligned": "trained"},
            "Re-ranked": {"baseline": "baseline-reranked", "part-aligned": "reranked"},
        },
        note="The paper re-ranks its dilated network: 91.7, 79.6 before.",
    ),
    "misalignment": Study(
        "Stripes against growing misalignment",
        "section 1",
        "Fixed stripes fail as boxes fit worse; body parts keep up, and their lead grows.",
        "stripes",
        (
            *("baseline-aligned", "stripes-aligned", "trained-aligned"),
            *("baseline-half", "stripes-half", "trained-half"),
            *("baseline", "stripes", "trained"),
        ),
        (
            above("parts beat stripes in tight boxes", "trained-aligned", "stripes-aligned"),
            above("parts beat stripes in fair boxes", "trained-half", "stripes-half"),
            above("parts beat stripes in poor boxes", "trained", "stripes"),
            Expectation(
                "their lead over stripes grows from tight to poor boxes",
                {"trained": 1, "stripes": -1, "trained-aligned": -1, "stripes-aligned": 1},
            ),
            Expectation(
                "their lead over the baseline grows from tight to poor boxes",
                {"trained": 1, "baseline": -1, "trained-aligned": -1, "baseline-aligned": 1},
            ),
        ),
        {
            "Tight boxes": {
                "baseline": "baseline-aligned",
                "stripes": "stripes-aligned",
                "part-aligned": "trained-aligned",
            },
            "Fair boxes": {"baseline": "baseline-half", "stripes": "stripes-half", "part-aligned": "trained-half"},
            "Poor boxes": {"baseline": "baseline", "stripes": "stripes", "part-aligned": "trained"},
        },
        note="Misalignment 0, 0.5 and 1 of `partalign generate`; all part streams were pre-trained on poor boxes.",
    ),
    "pretraining": Study(
        "A part stream never pre-trained",
        "control",
        "The part stream owes its use to what it learned of poses before.",
        "unpretrained",
        ("baseline", "concat", "unpretrained", "trained"),
        (
            above("pre-training on joints helps", "trained", "unpretrained"),
            above("without it, the network still beats the baseline", "unpretrained", "baseline"),
            above("without it, bilinear still beats concatenation with it", "unpretrained", "concat"),
        ),
    ),
    "pose-domain": Study(
        "Pose network of another domain",
        "section 6.3",
        "Training the pose network adapts it to re-identification: it should pay most where it comes from elsewhere.",
        "frozen",
        ("frozen", "trained", "frozen-foreign", "trained-foreign"),
        (
            above("a pose network of the same domain is the better frozen one", "frozen", "frozen-foreign"),
            above("training helps that of another domain", "trained-foreign", "frozen-foreign"),
            Expectation(
                "it helps that of another domain more",
                {"trained-foreign": 1, "frozen-foreign": -1, "trained": -1, "frozen": 1},
            ),
        ),
        {
            "Same domain": {"frozen": "frozen", "trained": "trained"},
            "Other domain": {"frozen": "frozen-foreign", "trained": "trained-foreign"},
        },
        note="The other domain: tight boxes and nothing in front of anybody.",
    ),
    "sketch": Study(
        "Dimension of the sketch",
        "section 5",
        "A compact sketch of 512 numbers does about as well as the full bilinear form.",
        "full",
        ("sketch-64", "sketch-256", "trained", "full"),
        (
            level("512 numbers and the full form are level", "trained", "full"),
            above("512 numbers beat 64", "trained", "sketch-64"),
        ),
        note='"Part stream trained" has 512 numbers; the full form has 4,096 on generated people, 65,536 else.',
    ),
    "additions": Study(
        "Additions to the paper's training",
        "addition",
        "What the shipped models' recipes add to the paper's training helps, each thing by itself.",
        "trained",
        ("no-identity", "trained", "cameras", "averaged", "coloured", "shifted", "erased", "shrunk"),
        (
            above("an identity loss behind a BNNeck helps", "trained", "no-identity"),
            above("batches balanced over cameras help", "cameras", "trained"),
            above("averaged weights help", "averaged", "trained"),
            above("changes of colour help", "coloured", "trained"),
            above("shifts help", "shifted", "trained"),
            above("erasing helps", "erased", "trained"),
            above("lost detail helps", "shrunk", "trained"),
        ),
        note='"Part stream trained" has the identity loss and mirrored crops, and none of the others. These trainings '
        "are short; changes of pictures are for long ones, and for cameras that training did not see.",
    ),
    "shuffled": Study(
        "Parts of somebody else",
        "control",
        "The gain comes from knowing where this person's body parts are, not from more parameters or from positions.",
        "baseline",
        ("baseline", "another", "frozen", "mean", "trained"),
        (
            above("a crop's own parts beat another crop's, frozen", "frozen", "another"),
            above("a crop's own parts beat the mean crop's, trained", "trained", "mean"),
            above("position alone (the mean crop's parts) beats the baseline", "mean", "baseline"),
        ),
        note="In training as in scoring, the pre-trained part stream sees another training crop, drawn for each crop, "
        "or the mean of 256 of them: as many parameters, the same maps, of the wrong person or of nobody.",
    ),
}
