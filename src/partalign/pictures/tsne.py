"""Local descriptors in the plane (Fig. 3): places drawn by lot, t-SNE, patches of the pictures, who agrees with whom.

Plain arrays and pictures in, arrays out; drawing is in `plane`. Knows no network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from partalign.errors import ShapeError
from partalign.pictures.theme import missing_extra

PATCH = 0.2
"""Side of the square that is cut around a place, as a share of the crop's height: about what its descriptor sees."""

NEIGHBOURS = 10


def sample_places(shape: tuple[int, int, int], count: int, seed: int = 0) -> np.ndarray:
    """Draw places of maps by lot, at most `count`, each once.

    shape: (N, h, w) of the maps. Returns (M, 3) int: picture, row and column, ascending.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(int(np.prod(shape)))[:count])
    return np.stack(np.unravel_index(chosen, shape), axis=1)


def descriptors_at(maps: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the local descriptors at places, of unit length (appendix A.1); zero ones stay zero.

    maps: (N, C, h, w); places: (M, 3). Returns (M, C) float64. Raises ShapeError.
    """
    maps = np.asarray(maps)
    if maps.ndim != 4 or np.ndim(places) != 2 or np.shape(places)[1] != 3:
        raise ShapeError(f"expected maps (N, C, h, w) and places (M, 3), found {maps.shape} and {np.shape(places)}")
    picture, row, column = places.T
    found = maps[picture, :, row, column].astype(np.float64)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(norms > 0, norms, 1)


def embed_in_plane(descriptors: np.ndarray, seed: int = 0, perplexity: float = 30.0) -> np.ndarray:
    """Lay descriptors out in the plane by t-SNE (van der Maaten and Hinton 2008): near points are alike.

    descriptors: (M, C), at least 4 different rows. Returns (M, 2) in 0..1; the same for the same seed.
    Raises ShapeError, and MissingExtraError without scikit-learn.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise missing_extra("t-SNE", "scikit-learn") from None
    descriptors = np.asarray(descriptors, np.float64)
    if descriptors.ndim != 2 or descriptors.shape[1] < 2 or len(np.unique(descriptors[:1000], axis=0)) < 4:
        raise ShapeError(
            f"expected at least 4 different descriptors (M, C), found {descriptors.shape}: name more crops"
        )
    # Every point needs more neighbours than the perplexity says.
    perplexity = min(perplexity, (len(descriptors) - 1) / 3)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(descriptors)
    return ((plane - plane.min(axis=0)) / np.ptp(plane, axis=0)).astype(np.float64)


def cut_patches(
    pictures: Sequence[Image.Image], places: np.ndarray, size: tuple[int, int], side: int, share: float = PATCH
) -> np.ndarray:
    """Cut a square around each place out of its picture; beyond the edge, the edge goes on.

    places: (M, 3) of maps of `size` (h, w). Returns (M, side, side, 3) uint8.
    """
    arrays = [np.asarray(picture.convert("RGB")) for picture in pictures]
    patches = np.empty((len(places), side, side, 3), np.uint8)
    for i, (picture, row, column) in enumerate(np.asarray(places).tolist()):
        pixels = arrays[picture]
        height, width = pixels.shape[:2]
        half = max(1, round(height * share / 2))
        y, x = round((row + 0.5) / size[0] * height), round((column + 0.5) / size[1] * width)
        rows = np.clip(np.arange(y - half, y + half), 0, height - 1)
        columns = np.clip(np.arange(x - half, x + half), 0, width - 1)
        patch = Image.fromarray(pixels[rows[:, None], columns])
        patches[i] = np.asarray(patch.resize((side, side), Image.Resampling.BICUBIC))
    return patches


def agreement(descriptors: np.ndarray, numbers: np.ndarray, pictures: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Return how often a place and one of its k nearest in other pictures have the same label, in 0..1.

    descriptors: (M, C) of unit length; numbers: (M,) labels, places with -1 count neither way; pictures: (M,) which
    picture each is of. Measured on the descriptors themselves, not in the plane. NaN where nothing can be compared.
    """
    known = np.flatnonzero(np.asarray(numbers) >= 0)
    vectors, labels, owners = descriptors[known], np.asarray(numbers)[known], np.asarray(pictures)[known]
    shares = []
    for start in range(0, len(known), 1024):
        rows = slice(start, start + 1024)
        similarity = vectors[rows] @ vectors.T
        similarity[owners[rows, None] == owners] = -np.inf
        best = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        valid = np.isfinite(np.take_along_axis(similarity, best, axis=1))
        shares.append((labels[best] == labels[rows, None])[valid])
    found = np.concatenate(shares) if shares else np.empty(0)
    return float(found.mean()) if len(found) else float("nan")
