import json

import numpy as np

from partalign.people.motion import SIDE, Motion

NOISE = np.random.default_rng(0)


def scene(row=None, column=None):
    grey = (100 + NOISE.normal(0, 1, (SIDE, SIDE))).round().astype(np.uint8)
    if row is not None:
        grey[row : row + 6, column : column + 3] = 30
    return grey


def test_noise_is_no_movement_and_a_small_person_is():
    motion = Motion()
    assert motion.moved(scene(10, 10))
    assert not any(motion.moved(scene(10, 10)) for _ in range(50))
    assert motion.moved(scene(10, 11))


def test_slow_change_adds_up():
    motion = Motion()
    moved = [motion.moved(np.full((SIDE, SIDE), 100 + step, np.uint8)) for step in range(20)]
    assert moved == [step % 8 == 0 for step in range(20)]


def test_the_share_of_a_box_that_changed():
    motion = Motion()
    motion.moved(np.full((SIDE, SIDE), 50, np.uint8))
    lit = np.full((SIDE, SIDE), 50, np.uint8)
    lit[:48, :24] = 90
    motion.moved(lit)
    boxes = np.array(
        [(0, 0, 1920, 1080), (0, 0, 480, 540), (0, 0, 960, 540), (960, 0, 900, 900), (-5000, -9, 9, 9)], float
    )
    assert motion.shares(boxes, 1920, 1080).tolist() == [0.125, 1, 0.5, 0, 1]  # outside: the nearest cell
    assert motion.shares(boxes[:0], 1920, 1080).tolist() == []


def test_it_goes_on_from_its_state():
    first, second = Motion(), Motion()
    second.from_json(json.loads(json.dumps(first.to_json())))
    for column in (3, 3, 4, 4, 9):
        grey = scene(5, column)
        assert first.moved(grey) == second.moved(grey)
        second.from_json(json.loads(json.dumps(first.to_json())))
