import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from partalign.crops import Crop, Embeddings, Split
from partalign.errors import EvaluationError, ShapeError
from partalign.evaluation.evaluate import match_saved, score, similar_pairs, top_matches
from partalign.evaluation.protocols import MARKET1501, MARS, SINGLE_CAMERA, SINGLE_SHOT


def embeddings(vectors, pairs, folder):
    crops = tuple(Crop(Path(f"{folder}/{i}.jpg"), person, camera) for i, (person, camera) in enumerate(pairs))
    return Embeddings(np.asarray(vectors, dtype=np.float32).reshape(len(crops), len(vectors[0]) if crops else 2), crops)


def pairs_of(embedded):
    return [(c.person, c.camera) for c in embedded.crops]


def random_side(rng, rows, persons, folder):
    """Unit vectors with four entries of +-1/2 out of six, so that products are exact and ties abound."""
    vectors = np.zeros((rows, 6), dtype=np.float32)
    for row in vectors:
        row[rng.choice(6, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    return embeddings(vectors, [(rng.choice(persons), str(rng.integers(1, 4))) for _ in range(rows)], folder)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 80), st.sampled_from(["pessimistic", "optimistic"])
)
def test_scores_equal_the_slow_reference(slow_score, seed, queries, rows, ties):
    rng = np.random.default_rng(seed)
    query = random_side(rng, queries, ["1", "2", "3", "4"], "query")
    gallery = random_side(rng, rows, ["1", "2", "3", "0000", "-1"], "gallery")
    trapezoidal, rectangular, curve = slow_score(
        pairs_of(query), pairs_of(gallery), query.vectors @ gallery.vectors.T, ties
    )
    if curve is None:
        with pytest.raises(EvaluationError, match=rf"all {queries} queries|all {rows} gallery crops are junk"):
            score(query, gallery, ties=ties)
        return
    scores = score(query, gallery, ties=ties)
    unscored = np.isnan(scores.query_ap())
    assert scores.query_ap()[~unscored] == pytest.approx(rectangular, abs=1e-12)
    assert scores.query_ap("trapezoidal")[~unscored] == pytest.approx(trapezoidal, abs=1e-12)
    assert scores.mAP == pytest.approx(np.mean(rectangular), abs=1e-12)
    assert scores.mean_ap("trapezoidal") == pytest.approx(np.mean(trapezoidal), abs=1e-12)
    assert scores.cmc == pytest.approx(curve, abs=1e-12)
    assert (scores.first_ranks == 0).tolist() == unscored.tolist()
    counts = scores.counts
    assert (counts.queries, counts.scored, counts.without_match) == (queries, len(rectangular), unscored.sum())
    people = [p for p, _ in pairs_of(gallery)]
    assert (counts.gallery, counts.junk, counts.distractors) == (rows, people.count("-1"), people.count("0000"))


@pytest.fixture(scope="module")
def small():
    """Two queries with a match, one without; the first match is second for "1", first for "2"."""
    gallery = embeddings(
        [[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [1, 0], [1, 0]],
        [("0000", "1"), ("1", "2"), ("1", "3"), ("2", "2"), ("-1", "1"), ("1", "1")],
        "gallery",
    )
    return embeddings([[1, 0], [0, 1], [1, 0]], [("1", "1"), ("2", "1"), ("3", "1")], "query"), gallery


def test_json_and_table(small):
    scores = score(*small, ap="trapezoidal")
    written = json.loads(scores.to_json())
    assert {k: written[k] for k in ("rank-1", "rank-5", "rank-10", "rank-20")} == {
        "rank-1": 0.5,
        "rank-5": 1.0,
        "rank-10": 1.0,
        "rank-20": 1.0,
    }
    # Ranks 2 and 3 for the first query, 1 for the second.
    assert written["mAP"] == pytest.approx(((0 + 1 / 2 + 1 / 2 + 2 / 3) / 4 + 1) / 2)
    assert written["mINP"] == pytest.approx((2 / 3 + 1) / 2)
    assert (written["ap"], written["protocol"], written["seeds"]) == ("trapezoidal", "market1501", [])
    assert written["counts"] == {
        "queries": 3,
        "scored": 2,
        "without_match": 1,
        "gallery": 6,
        "junk": 1,
        "distractors": 1,
    }
    heads, figures, source = scores.table().splitlines()
    assert heads.split() == ["rank-1", "rank-5", "rank-10", "rank-20", "mAP", "(trapezoidal)", "mINP"]
    assert figures.split() == ["50.0", "100.0", "100.0", "100.0", "70.8", "83.3"]
    assert "2 of 3 queries scored, 1 without a match and left out" in source


def drawn_sides(shuffle=None):
    """Eight persons seen by two cameras, two crops each, in clusters; the rows shuffled by a seed."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(8, 5))

    def side(folder):
        vectors = np.repeat(centres, 2, axis=0) + 0.8 * rng.normal(size=(16, 5))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        made = embeddings(vectors, [(str(row // 2), folder) for row in range(16)], folder)
        return made if shuffle is None else made.select(np.random.default_rng(shuffle).permutation(16))

    return side("a"), side("b")


def test_single_shot_is_the_mean_over_drawn_galleries():
    query, gallery = drawn_sides()
    rules = replace(SINGLE_SHOT, draws=40, seed=5)
    sets = (frozenset("0123"), frozenset("4567"))
    scores = score(query, gallery, rules, test_sets=sets)
    by_hand = []
    for number, persons in enumerate(sets):
        for draw in range(40):
            generator = np.random.default_rng([5, number, draw])
            picked = [
                [generator.choice([row for row, c in enumerate(side.crops) if c.person == p]) for p in sorted(persons)]
                for side in (query, gallery)
            ]
            products = query.vectors[picked[0]] @ gallery.vectors[picked[1]].T
            by_hand += [1 + int((row > row[i]).sum()) for i, row in enumerate(products)]
    assert np.concatenate(scores.ranks).tolist() == by_hand
    assert scores.rank(1) == pytest.approx(np.mean(np.array(by_hand) == 1))
    assert scores.trials == (4,) * 80
    assert scores.counts.gallery == 4
    means = (np.array(by_hand) == 1).reshape(80, 4).mean(axis=1)
    assert scores.spread["rank-1"] == pytest.approx(means.std(ddof=1))
    assert scores.as_dict()["seeds"] == [5]
    assert "mean over 80 trials" in scores.table()


@pytest.mark.parametrize("shuffle", [1, 2])
def test_draws_do_not_depend_on_the_order_of_crops(shuffle):
    assert score(*drawn_sides(), SINGLE_SHOT).figures == pytest.approx(
        score(*drawn_sides(shuffle), SINGLE_SHOT).figures
    )
    assert score(*drawn_sides(), replace(SINGLE_SHOT, seed=1)).figures != score(*drawn_sides(), SINGLE_SHOT).figures


def test_a_gallery_of_junk_and_a_file_saved_twice():
    query, gallery = drawn_sides()
    junk = Embeddings(gallery.vectors, tuple(replace(crop, person="-1") for crop in gallery.crops))
    with pytest.raises(EvaluationError, match=r"all 16 gallery crops are junk \(person -1\)"):
        score(query, junk)
    split = Split("s", query=query.crops, gallery=gallery.crops)
    again = Embeddings(
        np.vstack([query.vectors, gallery.vectors, query.vectors]), query.crops + gallery.crops + query.crops
    )
    assert match_saved(again, split).query.vectors.tolist() == query.vectors.tolist()
    again.vectors[35] = again.vectors[0]
    with pytest.raises(EvaluationError, match="1 crops are there twice with different descriptors"):
        match_saved(again, split)


def test_a_test_set_without_crops_is_named():
    with pytest.raises(EvaluationError, match="test set 1 has no crops"):
        score(*drawn_sides(), test_sets=(frozenset("12"), frozenset("x")))
    query, gallery = drawn_sides()
    apart = (query.select(range(4)), gallery.select(range(8, 16)))
    with pytest.raises(EvaluationError, match="no person is both in the query and in the gallery"):
        score(*apart, SINGLE_SHOT)


def test_tracklets_are_scored_as_their_pooled_descriptors():
    query, gallery = drawn_sides()
    sides = [
        Embeddings(s.vectors, tuple(replace(c, tracklet=f"t{c.person}") for c in s.crops)) for s in (query, gallery)
    ]
    pooled = [s.vectors.reshape(8, 2, 5).mean(axis=1) for s in (query, gallery)]
    units = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in pooled]
    scores = score(*sides, MARS)
    products = units[0] @ units[1].T
    assert np.concatenate(scores.ranks).tolist() == [1 + int((row > row[i]).sum()) for i, row in enumerate(products)]
    assert scores.counts.queries == scores.counts.gallery == 8
    assert "mean of tracklets" in scores.table()


def test_single_camera_data(small):
    query, gallery = small
    everyone = embeddings(np.vstack([query.vectors, gallery.vectors[:4]]), [("1", None)] * 3 + [("2", None)] * 4, "all")
    scores = score(everyone, everyone, SINGLE_CAMERA)
    assert (scores.protocol, scores.counts.scored) == (SINGLE_CAMERA, 7)
    assert "protocol single-camera (same camera: keep): 7 of 7" in scores.table()
    assert json.loads(scores.to_json())["same_camera"] == "keep"
    assert all(len(r) in (2, 3) for r in scores.ranks)


def test_top_matches_leaves_out_junk_and_ignored(small):
    query, gallery = small
    rows, similarities = top_matches(query, gallery, count=5)
    assert rows.tolist() == [[0, 1, 2, 3, -1], [3, 2, 1, 0, 5], [0, 5, 1, 2, 3]]
    assert similarities[0].tolist() == [1, np.float32(0.8), np.float32(0.6), 0, -np.inf]
    assert top_matches(query, gallery, count=99)[0].shape == (3, 6)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 50))
def test_top_matches_equal_a_full_sort(seed, rows, count):
    rng = np.random.default_rng(seed)
    query = random_side(rng, 3, ["1", "2"], "query")
    gallery = random_side(rng, rows, ["1", "2", "0000", "-1"], "gallery")
    relevance = MARKET1501.relevance(query.crops, gallery.crops)
    found, similarities = top_matches(query, gallery, count=count)
    for i, scores in enumerate((query.vectors @ gallery.vectors.T).tolist()):
        left_out = {*relevance.junk.tolist(), *relevance.ignored[i].tolist()}
        order = sorted((j for j in range(rows) if j not in left_out), key=lambda j, s=scores: (-s[j], j))[:count]
        padding = min(count, rows) - len(order)
        assert found[i].tolist() == order + [-1] * padding
        assert similarities[i].tolist() == [scores[j] for j in order] + [-np.inf] * padding


def test_bad_input_is_told_in_one_line(small):
    query, gallery = small
    empty = embeddings(np.zeros((0, 2)), [], "none")
    same_camera = embeddings(gallery.vectors, [("1", "1")] * 6, "gallery")
    strangers = embeddings(gallery.vectors, [("x", "1")] * 6, "gallery")
    cases = [
        (empty, gallery, MARKET1501, "expected query descriptors, found none"),
        (query, empty, MARKET1501, "expected gallery descriptors, found none"),
        (query, Embeddings(gallery.vectors * 3, gallery.crops), MARKET1501, "found lengths from 3 to 3"),
        (
            query,
            same_camera,
            MARKET1501,
            r"all 3 queries have no match from another camera \(1 have .*same_camera=keep",
        ),
        (query, strangers, MARKET1501, "persons of all 3 queries are absent from the gallery"),
        (query, strangers, SINGLE_CAMERA, "none of 3 queries has another picture"),
    ]
    for of_query, of_gallery, protocol, message in cases:
        with pytest.raises(EvaluationError, match=message) as caught:
            score(of_query, of_gallery, protocol)
        assert "\n" not in str(caught.value)
    with pytest.raises(ShapeError, match="query descriptors have 3 dimensions, gallery descriptors 2"):
        score(embeddings(np.ones((1, 3)), [("1", "1")], "query"), gallery)
    with pytest.raises(EvaluationError, match="found 'trapezoid'"):
        score(query, gallery, ap="trapezoid")  # type: ignore[arg-type]


def test_length_of_queries_has_no_effect(small):
    query, gallery = small
    longer = Embeddings(query.vectors * np.float32(8), query.crops)
    assert score(longer, gallery).to_json() == score(query, gallery).to_json()


class TestMatchSaved:
    @pytest.fixture
    def split(self):
        query = (Crop(Path("/new/query/a.jpg"), "1", "1"), Crop(Path("/new/query/b.jpg"), "2", "1"))
        gallery = (Crop(Path("/new/gallery/a.jpg"), "1", "2"), Crop(Path("/new/gallery/c.jpg"), "2", "2"))
        return Split("moved", query=query, gallery=gallery)

    @staticmethod
    def saved(*paths):
        return Embeddings(np.eye(len(paths), dtype=np.float32), tuple(Crop(Path(p)) for p in paths))

    def test_rows_are_found_where_the_data_set_has_moved(self, split, tmp_path):
        file = tmp_path / "saved.npz"
        self.saved(
            "/old/gallery/c.jpg", "/old/train/x.jpg", "/old/query/b.jpg", "/old/query/a.jpg", "/old/gallery/a.jpg"
        ).save(file)
        query, gallery, _ = match_saved(file, split)
        assert (query.crops, gallery.crops) == (split.query, split.gallery)
        assert query.vectors.argmax(axis=1).tolist() == [3, 2]
        assert gallery.vectors.argmax(axis=1).tolist() == [4, 0]
        assert score(query, gallery).counts.scored == 2

    def test_absent_crops_are_counted_and_named(self, split):
        with pytest.raises(
            EvaluationError, match=r"3 of 4 .* of moved .* 2 saved .* first are query/b\.jpg, gallery/a\.jpg"
        ):
            match_saved(self.saved("/old/query/a.jpg", "/old/train/x.jpg"), split)

    def test_names_of_several_files_are_refused_unless_the_path_tells(self):
        # One folder per person on both sides: "1/a.jpg" names two files.
        split = Split(
            "folders", query=(Crop(Path("q/1/a.jpg"), "1", "1"),), gallery=(Crop(Path("g/1/a.jpg"), "1", "2"),)
        )
        query, gallery, _ = match_saved(self.saved("g/1/a.jpg", "q/1/a.jpg"), split)
        assert query.vectors.argmax(axis=1).tolist() == [1]
        assert gallery.vectors.argmax(axis=1).tolist() == [0]
        for paths in (("old/g/1/a.jpg", "old/q/1/a.jpg"), ("old/g/1/a.jpg",), ("g/1/a.jpg",)):
            with pytest.raises(EvaluationError, match=r"cannot be told apart .* the first is 1/a\.jpg"):
                match_saved(self.saved(*paths), split)

    def test_a_crop_may_be_query_and_gallery(self):
        crop = Crop(Path("all/a.jpg"), "1")
        query, gallery, _ = match_saved(self.saved("old/all/a.jpg"), Split("one", query=(crop,), gallery=(crop,)))
        assert np.array_equal(query.vectors, gallery.vectors)


@pytest.fixture(scope="module")
def pixels(shared):
    """(query, gallery) of real crops; the descriptor is the crop itself at 16 x 8 pixels."""

    def side(folder):
        vectors, crops = [], []
        for path in sorted((shared / "data/Market-1501-v15.09.15" / folder).glob("*.jpg")):
            person, camera = re.match(r"(-?\d+)_c(\d)", path.name).groups()
            with Image.open(path) as image:
                vectors.append(np.asarray(image.resize((8, 16), Image.Resampling.BILINEAR), dtype=np.float32).ravel())
            crops.append(Crop(path, person, camera))
        vectors = np.array(vectors) - 110
        return Embeddings(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), tuple(crops))

    return side("query"), side("bounding_box_test")


@pytest.mark.shared
def test_real_crops_equal_the_slow_reference(pixels, slow_score):
    # On a grid of 2^-11 every sum of products is exact in float32, so that no last bit can differ.
    query, gallery = (Embeddings(np.round(e.vectors * 2048) / 2048, e.crops) for e in pixels)
    whole = [np.round(e.vectors * 2048).astype(np.int64) for e in pixels]
    trapezoidal, rectangular, curve = slow_score(pairs_of(query), pairs_of(gallery), whole[0] @ whole[1].T)
    scores = score(query, gallery)
    assert (len(query), scores.counts.scored, len(rectangular)) == (445, 441, 441)
    scored = scores.first_ranks > 0
    assert np.abs(scores.query_ap()[scored] - rectangular).max() < 1e-12
    assert np.abs(scores.query_ap("trapezoidal")[scored] - trapezoidal).max() < 1e-12
    assert scores.cmc == pytest.approx(curve, abs=1e-12)
    # The grid itself moves figures little, and pixels tell something, not much.
    fine = score(*pixels)
    assert fine.mAP == pytest.approx(scores.mAP, abs=2e-3)
    assert 0.03 < fine.mAP < fine.rank(1) < 0.5


@given(st.integers(2, 12), st.integers(1, 80), st.integers(0, 999))
def test_similar_pairs_are_those_of_the_whole_matrix(count, wanted, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embeddings = Embeddings(vectors, tuple(Crop(Path(f"{i}.jpg")) for i in range(count)))
    found = similar_pairs(embeddings, wanted)
    every = [(float(vectors[i] @ vectors[j]), i, j) for i in range(count) for j in range(i + 1, count)]
    best = sorted(every, reverse=True)[:wanted]
    np.testing.assert_allclose([s for _, _, s in found], [s for s, _, _ in best], atol=1e-6)
    assert {(i, j) for i, j, _ in found} == {(i, j) for _, i, j in best}
