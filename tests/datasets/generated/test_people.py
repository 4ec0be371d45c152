import numpy as np
import pytest

from partalign.datasets.generated import clothes as wear
from partalign.datasets.generated import skeleton as sk
from partalign.datasets.generated.bags import paint_handbag, paint_shoulder_bag
from partalign.datasets.generated.canvas import Canvas
from partalign.datasets.generated.draws import Draws
from partalign.datasets.generated.painting import paint_people
from partalign.datasets.generated.render import Arrangement, Studio, arrange

N, SIZE = 400, (96, 48)


def studio() -> Studio:
    return Studio.build(0, 100, 4, 2, *SIZE)


@pytest.fixture(scope="module")
def arranged() -> Arrangement:
    rows = np.arange(N)
    return arrange(studio(), Draws(0, "picture", rows), rows % 100, rows % 2, rows % 4 < 2, SIZE, 0.5, 1.0)


def arranged_with(**everybody: int) -> Arrangement:
    """Tight, free pictures of people who all wear something."""
    s, rows = studio(), np.arange(N)
    for name, value in everybody.items():
        getattr(s.wardrobe, name)[:] = value
    return arrange(s, Draws(0, "picture", rows), rows % 100, rows % 2, rows % 4 < 2, SIZE, 0.0, 0.0)


def blank(grey: float) -> Canvas:
    light = np.tile([0.5, 0.1, -0.1, 0.4], (N, 1))
    return Canvas(np.full((N, 3, *SIZE), grey, np.float32), light, np.zeros((192, 96), np.float32))


def at(joints: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Values (N, 18) of pictures (N, H, W) at the joints' pixels."""
    x, y = (np.clip(np.round(joints[..., k]).astype(int), 0, SIZE[1 - k] - 1) for k in (0, 1))
    return picture[np.arange(N)[:, None], y, x]


def painted(paint) -> np.ndarray:
    """How little of the background shows through, (N, H, W), after painting on black and on white."""
    canvases = blank(0.0), blank(1.0)
    for canvas in canvases:
        paint(canvas)
    return 1 - (canvases[1].pixels - canvases[0].pixels).mean(axis=1)


def test_visible_joints_lie_on_the_body(arranged):
    cover = at(arranged.joints, painted(lambda canvas: paint_people(canvas, arranged.people)))
    visible = arranged.joints[..., 2] > 0
    # a joint's pixel may reach over the body's edge, as that of an eye seen from the side
    assert np.mean(cover[visible] > 0.9) > 0.985
    assert np.mean(cover[visible] > 0.5) > 0.998


def test_what_stands_before_a_person_covers_no_visible_joint(arranged):
    things = at(arranged.joints, painted(arranged.occluders.paint))
    visible = arranged.joints[..., 2] > 0
    assert np.mean(things[visible] < 0.5) > 0.99
    assert 0.4 < np.any(things > 0.5, axis=1).mean() < 0.8  # 70% have a thing before them, some miss the joints


def test_things_hide_the_joints_that_they_cover(arranged):
    things = at(arranged.joints, painted(arranged.occluders.paint)) > 0.99
    assert things.sum() > 300
    assert arranged.joints[..., 2][things].mean() < 0.01


def test_the_near_parts_of_a_body_hide_the_far_ones(arranged):
    hidden = arranged.people.hidden_by_own_body()
    assert not hidden[:, [0, 1, 2, 5, 8, 11, 14, 15, 16, 17]].any()
    assert 0.03 < hidden[:, [*sk.ELBOW, *sk.WRIST]].mean() < 0.4
    assert not hidden[:, list(sk.KNEE)].all(axis=1).any()  # two knees cannot hide each other


def side_in_picture(arranged: Arrangement, paint) -> np.ndarray:
    """How far right of the pelvis what is painted lies, (N,) in metres; NaN where nothing is seen."""
    cover = painted(paint)
    total = cover.sum(axis=(1, 2))
    x = (cover * np.arange(SIZE[1])).sum(axis=(1, 2)) / np.where(total > 5, total, np.nan)
    return (x - arranged.people.points[:, sk.PELVIS, 0]) / arranged.people.scale[:, 0]


@pytest.fixture(scope="module")
def bags() -> dict[int, Arrangement]:
    """Everybody with a handbag, and everybody with a shoulder bag."""
    return {bag: arranged_with(bag=bag) for bag in (wear.HANDBAG, wear.SHOULDER_BAG)}


def sides(people) -> tuple[np.ndarray, np.ndarray]:
    """The bag's side in the picture, 1 for right, and whether people are seen from the front or the back."""
    left = np.where(people.clothes.bag_side == 1, 1.0, -1.0)
    from_front = np.where(np.cos(people.facing) > 0, 1.0, -1.0)
    return left * from_front, np.abs(np.cos(people.facing)) > 0.85


def test_a_handbag_keeps_its_side(bags):
    """On the left side of the body means right in the picture from the front, and left in it from behind."""
    a = bags[wear.HANDBAG]
    hand = np.array(sk.HAND)[a.people.clothes.bag_side]
    found = side_in_picture(a, lambda canvas: paint_handbag(canvas, a.people, hand, np.ones(N, bool)))
    expected, clear = sides(a.people)
    rows = clear & ~np.isnan(found)
    assert rows.sum() > 40
    assert np.all((found * expected)[rows] > 0)


def test_a_shoulder_bag_keeps_its_side(bags):
    a = bags[wear.SHOULDER_BAG]

    def paint(canvas: Canvas) -> None:
        paint_shoulder_bag(canvas, a.people, behind=True)
        paint_shoulder_bag(canvas, a.people, behind=False)

    found = side_in_picture(a, paint)
    expected, clear = sides(a.people)
    rows = clear & ~np.isnan(found)
    assert rows.sum() > 40
    assert np.mean((found * expected)[rows] > 0) > 0.97  # straps cross the body


def test_a_print_is_on_the_front_only():
    """The chest of people with a print shows their second colour from the front and never from behind."""
    a = arranged_with(pattern=wear.PRINT, bag=wear.NO_BAG, hair_style=wear.SHORT)
    canvas = blank(0.5)
    canvas.light[:] = (1.0, 0, 0, 0)
    paint_people(canvas, a.people)
    p = a.people.points
    chest = 0.65 * p[:, sk.NECK] + 0.35 * p[:, sk.PELVIS]
    color = canvas.pixels[np.arange(N), :, np.round(chest[:, 1]).astype(int), np.round(chest[:, 0]).astype(int)]
    printed = np.abs(color - a.people.clothes.colors[:, wear.SECOND]).max(axis=1) < 0.02
    ahead = np.cos(a.people.facing)
    assert printed[ahead > 0.95].mean() > 0.7  # folded arms and hands hide some
    assert not printed[ahead < -0.3].any()
