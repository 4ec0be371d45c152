import numpy as np
import pytest

from partalign.crops import Embeddings
from partalign.shards.listing import make_list
from partalign.shards.manifest import Manifest
from partalign.shards.store import LIST, Shards


def unit(count, dimension=16, seed=0):
    vectors = np.random.default_rng([seed, count]).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def described():
    """A function that writes shards of a folder of files, with descriptors by chance or as given, some corrupt."""

    def write(source, out, size=5, *, vectors=None, corrupt=(), seed=0, **how) -> Shards:
        listed = make_list(source, size, out / LIST)
        vectors = unit(listed.crops, seed=seed) if vectors is None else vectors
        defaults = {"model": "light", "version": "abc", "engine": "auto", "flip": False, "precision": "float32"}
        manifest = Manifest(
            source=str(source),
            crops=listed.crops,
            list_sha256=listed.sha256,
            shard_size=size,
            dimension=vectors.shape[1],
            **defaults | how,
        )
        shards = Shards.begin(out, manifest)
        for number in range(manifest.shards):
            crops = shards.listed(number)
            kept = [place for place in range(len(crops)) if number * size + place not in corrupt]
            found = Embeddings(vectors[number * size :][kept], tuple(crops[place] for place in kept))
            shards.write(number, found, {p: f"{crops[p].path}: damaged" for p in range(len(crops)) if p not in kept})
        shards.finish()
        return shards

    return write
