"""From a batch of picture numbers to pictures and joints: pose, view, framing, painting, recording.

Two steps that share one geometry: `arrange` says where everything is, `paint` makes pictures of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partalign.datasets.generated import skeleton as sk
from partalign.datasets.generated.camera import Cameras, Framing, draw_scenes, draw_textures, frame, place_scene, record
from partalign.datasets.generated.canvas import Canvas, windows
from partalign.datasets.generated.clothes import Wardrobe
from partalign.datasets.generated.draws import Draws
from partalign.datasets.generated.occluders import Occluders
from partalign.datasets.generated.painting import paint_people
from partalign.datasets.generated.people import People
from partalign.datasets.generated.skeleton import Bodies

STRANGERS = 96
"""People who walk before or behind the person of a picture; none of them is a person of the world."""


@dataclass
class Studio:
    """What all pictures of a world share: its people and strangers, cameras, backgrounds and textures."""

    bodies: Bodies
    wardrobe: Wardrobe
    strange_bodies: Bodies
    strange_wardrobe: Wardrobe
    cameras: Cameras
    scenes: np.ndarray
    cloth: np.ndarray
    noise: np.ndarray

    @classmethod
    def build(cls, seed: int, persons: int, group_size: int, cameras: int, height: int, width: int) -> Studio:
        """Draw all of it; the scenes take longest, some 50 ms a camera at 128 x 64."""
        numbers, strange = np.arange(persons), (1 << 20) + np.arange(STRANGERS)
        wardrobe, strange_wardrobe = Wardrobe.draw(seed, numbers, group_size), Wardrobe.draw(seed, strange, 1)
        return cls(
            Bodies.draw(Draws(seed, "body", numbers), wardrobe.feminine),
            wardrobe,
            Bodies.draw(Draws(seed, "body", strange), strange_wardrobe.feminine),
            strange_wardrobe,
            Cameras.draw(seed, cameras),
            draw_scenes(seed, cameras, height, width),
            *draw_textures(seed, height, width),
        )


@dataclass
class Arrangement:
    """Where everything is in a batch of pictures.

    joints: (B, 18, 3) float32: x and y in pixels, 1 where visible, else 0. others: b strangers, in the pictures
    `others_in` (b,) int; those of `others_before` (b,) bool stand before the person. camera: (B,) int. corner: top and
    left (B,) of the pictures in their cameras' scenes. size: height and width.
    """

    draws: Draws
    people: People
    others: People
    others_in: np.ndarray
    others_before: np.ndarray
    occluders: Occluders
    joints: np.ndarray
    camera: np.ndarray
    corner: tuple[np.ndarray, np.ndarray]
    size: tuple[int, int]


def arrange(
    studio: Studio,
    draws: Draws,
    person: np.ndarray,
    camera: np.ndarray,
    away: np.ndarray,
    size: tuple[int, int],
    misalignment: float,
    occlusion: float,
) -> Arrangement:
    """Place persons (B,) before cameras (B,), in pictures of (height, width) `size`.

    away (B,) bool: they walk the other way, against the camera's axis.
    """
    height, width = size
    bodies, clothes, cameras = studio.bodies.take(person), studio.wardrobe.take(person), studio.cameras.take(camera)
    yaw = cameras.axis + np.pi * away + draws.normal("yaw", 0.0, 0.5)
    pitch = np.clip(cameras.pitch + draws.normal("pitch", 0.0, 0.05), 0.0, 0.6)
    seen = sk.view(sk.pose(bodies, sk.draw_angles(draws, clothes.loaded_arms)), yaw, pitch)
    framing = frame(draws, seen, height, width, misalignment)
    people = _place(draws, seen, framing, yaw, bodies, clothes, size)
    feet = np.maximum(people.points[:, sk.ANKLE[0], 1], people.points[:, sk.ANKLE[1], 1])
    corner = place_scene(draws, feet, pitch, height, width, studio.scenes.shape[2:])

    what = draws.uniform("in the way")  # a thing before the person, a stranger before, or a stranger behind
    occluders = Occluders.draw(draws, what < 0.7 * occlusion, framing.scale, people.points, size)
    before = (what >= 0.7 * occlusion) & (what < occlusion)
    others_in = np.flatnonzero(before | draws.chance("stranger behind", 0.6 * occlusion))
    others = _strangers(
        studio,
        draws.take(others_in),
        framing.take(others_in),
        people.take(others_in),
        pitch[others_in],
        before[others_in],
        size,
    )

    x, y = people.points[:, :18, 0], people.points[:, :18, 1]
    shown = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    shown &= sk.face_in_sight(seen) & ~people.hidden_by_own_body() & ~occluders.cover(x, y)
    shown[others_in] &= ~(others.cover(x[others_in], y[others_in]) & before[others_in, None])
    joints = np.stack([x, y, shown], axis=-1).astype(np.float32)
    return Arrangement(draws, people, others, others_in, before[others_in], occluders, joints, camera, corner, size)


def paint(studio: Studio, a: Arrangement, *, empty: bool = False) -> np.ndarray:
    """Paint the pictures, (B, H, W, 3) uint8 RGB; where `empty`, without the people and what hides them."""
    cameras = studio.cameras.take(a.camera)
    background = windows(studio.scenes, *a.size)[a.camera, :, a.corner[0], a.corner[1]]
    light = cameras.light.copy()
    light[:, 1] += a.draws.normal("light", 0.0, 0.05)
    canvas = Canvas(background, light, studio.cloth)
    if not empty:
        _paint_others(canvas, a, ~a.others_before)
        paint_people(canvas, a.people)
        _paint_others(canvas, a, a.others_before)
        a.occluders.paint(canvas)
    return record(a.draws, canvas.pixels, cameras, studio.noise)


def _paint_others(canvas: Canvas, a: Arrangement, chosen: np.ndarray) -> None:
    rows = a.others_in[chosen]
    if len(rows):
        part = Canvas(canvas.pixels[rows], canvas.light[rows], canvas.cloth)
        paint_people(part, a.others.take(chosen))
        canvas.pixels[rows] = part.pixels


def _place(
    draws: Draws,
    seen: np.ndarray,
    framing: Framing,
    yaw: np.ndarray,
    bodies: Bodies,
    clothes: Wardrobe,
    size: tuple[int, int],
) -> People:
    return People(
        points=framing.pixels(seen),
        near=seen[..., 2],
        facing=np.remainder(yaw, 2 * np.pi),
        head=sk.head_direction(seen),
        scale=framing.scale * (bodies.height / 1.7)[:, None],
        folds=np.floor(draws.uniform("folds", size=2) * [size[1], size[0]]).astype(int),
        bodies=bodies,
        clothes=clothes,
    )


def _strangers(
    studio: Studio,
    draws: Draws,
    framing: Framing,
    people: People,
    pitch: np.ndarray,
    before: np.ndarray,
    size: tuple[int, int],
) -> People:
    """Other people beside those framed: before them, lower and larger, or behind, higher and smaller."""
    draws = draws.branch("stranger")
    who = draws.choice("who", (1.0,) * STRANGERS)
    bodies, clothes = studio.strange_bodies.take(who), studio.strange_wardrobe.take(who)
    yaw = draws.uniform("yaw", 0.0, 2 * np.pi)
    seen = sk.view(sk.pose(bodies, sk.draw_angles(draws, clothes.loaded_arms)), yaw, pitch)
    further = np.where(before, draws.uniform("before", -0.12, 0.0), draws.uniform("behind", 0.05, 0.35))
    aside = np.where(before, draws.uniform("close", 0.22, 0.42), draws.uniform("aside", 0.2, 0.6))
    aside *= np.where(draws.chance("left", 0.5), -1.0, 1.0)
    scale = framing.scale * (1 - further)[:, None]
    feet = people.points[:, :, 1].max(axis=1) - further * framing.scale[:, 1] * 1.5
    x = people.points[:, sk.PELVIS, 0] + aside * framing.scale[:, 0] - seen[:, sk.PELVIS, 0] * scale[:, 0]
    y = feet - seen[..., 1].max(axis=1) * scale[:, 1]
    return _place(draws, seen, Framing(scale, np.stack([x, y], 1)), yaw, bodies, clothes, size)
