import pytest

from partalign.benchmarks import measure


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    """No step is repeated: these tests say nothing of speed."""
    monkeypatch.setattr(measure, "TURN_SECONDS", 0)
