import pytest
import torch

from partalign.embedding import Embedder
from partalign.errors import DatasetError
from partalign.model.network import NetworkSettings, build_network
from partalign.pictures.search import choose_search


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    settings = {"appearance": "light", "parts": "light", "appearance_channels": 16, "part_channels": 8}
    return Embedder(build_network(NetworkSettings.model_validate(settings | {"height": 64, "width": 32})))


def test_a_picture_finds_itself_first_in_a_folder(embedder, tiny_market):
    folder = tiny_market / "Market-1501-v15.09.15/query"
    picture = sorted(folder.glob("*.jpg"))[3]
    (row,) = choose_search([picture], folder).run(embedder, top=3)
    assert len(row.matches) == 3
    assert row.matches[0].score == pytest.approx(1, abs=1e-5)
    assert row.matches[0].right
    assert row.matches[0].picture.tobytes() == row.query.picture.tobytes()


def test_of_a_data_set_queries_are_drawn_by_lot_and_its_protocol_holds(embedder, tiny_market):
    search = choose_search(data=tiny_market, queries=3, seed=1)
    assert search == choose_search(data=tiny_market, queries=3, seed=1)
    assert search.queries != choose_search(data=tiny_market, queries=3, seed=2).queries
    rows = search.run(embedder, top=100)
    for query, row in zip(search.queries, rows, strict=True):
        assert row.label == f"Person {query.person}"
        # Of 16 gallery crops the two of the query's own person and camera are left out.
        assert len(row.matches) == 14
        assert not any(match.right and match.camera == query.camera for match in row.matches)
        scores = [match.score for match in row.matches]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "given", [{}, {"images": True}, {"gallery": True}, {"images": True, "gallery": True, "data": True}]
)
def test_it_is_either_pictures_and_a_folder_or_a_data_set(tiny_market, given):
    images = [tiny_market] if given.get("images") else []
    places = {name: tiny_market for name in ("gallery", "data") if given.get(name)}
    with pytest.raises(DatasetError, match="give one of the two"):
        choose_search(images, **places)
