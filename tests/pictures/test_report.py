import base64
import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from partalign.errors import MissingExtraError, SaveError, ShapeError
from partalign.pictures.curves import draw_cmc
from partalign.pictures.report import ModelScores, Picture, Report, write_report
from partalign.pictures.theme import DARK, LIGHT, SCALE

HOSTILE = "<script src='https://evil.example/x.js'>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"
VOID = {"meta", "img", "source", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a report holds: its tags, attributes and text; checks on the way that tags are closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text, self.open = "", []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def photograph(seed: int, size=(300, 200)) -> Image.Image:
    noise = np.random.default_rng(seed).normal(128, 40, (size[1] // 10, size[0] // 10, 3)).clip(0, 255)
    return Image.fromarray(noise.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def report() -> Report:
    cmc = {"baseline": np.linspace(0.6, 0.9, 20), "part-aligned": np.linspace(0.8, 0.95, 20)}
    return Report(
        title="What part alignment adds",
        summary="Better.",
        shown=("Generated people.", "Two models."),
        limits=("Real people.",),
        models=(
            ModelScores("baseline", 0.336, 0.5, None, 0.301, None, 18.2),
            ModelScores("part-aligned", 0.7834, 0.85, None, 0.662, None, 4.25),
        ),
        cmc=(Picture(draw_cmc(cmc), "CMC curves", "Rank by rank.", draw_cmc(cmc, theme=DARK)),),
        ranked=(Picture(photograph(0, (1600, 300)), "ranked list"),),
        parts=(Picture(photograph(1), "joints"), Picture(photograph(2), "parts")),
        settings={"seed": 0, "recipe": "demo.toml"},
    )


def write(path, report: Report) -> str:
    write_report(path, report)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(report, tmp_path_factory) -> str:
    return write(tmp_path_factory.mktemp("report") / "report.html", report)


def test_the_page_asks_for_nothing_from_outside(page):
    parsed = Page(page)
    assert parsed.all("script") == parsed.all("link") == parsed.all("iframe") == []
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "href", "data", "action", "poster"):
            assert attributes.get(name, "data:image/").startswith("data:image/")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert not re.search(r"https?://", page)
    (policy,) = [m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_pictures_decode_at_twice_the_size_shown(page, report):
    parsed = Page(page)
    pictures = [p for group in (report.cmc, report.training, report.ranked, report.parts) for p in group]
    tags = parsed.all("img")
    assert [t["alt"] for t in tags] == [p.alt for p in pictures]
    for tag, expected in zip(tags, pictures, strict=True):
        decoded = decode(tag["src"])
        assert decoded.size == expected.image.size
        assert (int(tag["width"]), int(tag["height"])) == tuple(side // SCALE for side in decoded.size)
        difference = np.asarray(decoded, int) - np.asarray(expected.image, int)
        assert np.abs(difference).mean() < 3
    (dark,) = parsed.all("source")
    assert dark["media"] == "(prefers-color-scheme: dark)"
    assert decode(dark["srcset"]).tobytes() == report.cmc[0].dark.tobytes()


def decode(uri: str) -> Image.Image:
    head, data = uri.split(",", 1)
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB")


def test_charts_are_kept_without_loss(page, report):
    assert decode(Page(page).all("img")[0]["src"]).tobytes() == report.cmc[0].image.tobytes()


def test_the_page_follows_light_and_dark_and_narrow_screens(page):
    assert "@media (prefers-color-scheme: dark)" in page
    for theme in (LIGHT, DARK):
        assert f"--paper: {theme.paper}; --ink: {theme.ink}" in page
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in Page(page).all("meta")


def test_the_table_gives_percent_marks_the_best_and_leaves_out_empty_columns(page):
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', page)
    assert rows[0] == ("baseline", "<td>33.6</td><td>50.0</td><td>30.1</td><td>18</td>")
    best = '<td class="best">'
    assert rows[1] == ("part-aligned", f"{best}78.3</td>{best}85.0</td>{best}66.2</td><td>4.2</td>")
    assert re.findall(r'<th scope="col">(.*?)</th>', page) == ["Model", "Rank-1", "Rank-5", "mAP", "Seconds"]


def test_a_score_that_only_some_models_have_is_a_dash(report, tmp_path):
    models = (ModelScores("a", 0.5, mINP=0.2), ModelScores("b", 0.6))
    page = write(tmp_path / "r.html", replace(report, models=models))
    assert re.findall(r"<td.*?>(.*?)</td>", page)[:4] == ["50.0", "20.0", "60.0", "–"]


def test_hostile_names_are_text(report, tmp_path):
    hostile = replace(
        report,
        title=HOSTILE,
        summary=HOSTILE,
        shown=(HOSTILE,),
        limits=(HOSTILE,),
        seconds=HOSTILE,
        models=(ModelScores(HOSTILE, 0.5, seconds=1.0),),
        parts=(Picture(photograph(1), HOSTILE, HOSTILE),),
        ranked=(Picture(photograph(1, (1600, 40)), HOSTILE, HOSTILE),),
        settings={HOSTILE: HOSTILE},
    )
    parsed = Page(write(tmp_path / "r.html", hostile))
    assert parsed.all("script") == []
    assert [t for t in parsed.all("img") if not t["src"].startswith("data:image/")] == []
    assert parsed.text.count(HOSTILE) == 11
    assert [t["alt"] for t in parsed.all("img")][1:] == [HOSTILE, HOSTILE]
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)


def test_sections_stand_in_order_and_empty_ones_are_left_out(page, report, tmp_path):
    def headings(text):
        return re.findall(r'<h2 id="(\w+)">', text)

    assert headings(page) == ["shown", "models", "ranked", "parts", "settings", "limits"]
    full = replace(report, training=(Picture(photograph(3), "loss"),))
    assert headings(write(tmp_path / "full.html", full)) == [
        "shown", "models", "training", "ranked", "parts", "settings", "limits",
    ]  # fmt: skip
    small = write(tmp_path / "small.html", Report("Title", "Summary", (), ("Everything.",)))
    assert headings(small) == ["limits"]


def test_settings_are_collapsed(page):
    (details,) = Page(page).all("details")
    assert "open" not in details
    assert "demo.toml" in page


def test_a_report_must_say_what_it_does_not_show(report):
    with pytest.raises(ShapeError, match="does not show"):
        replace(report, limits=())


def test_a_report_that_cannot_be_made_leaves_the_old_one(report, tmp_path):
    path = tmp_path / "report.html"
    old = write(path, report)
    broken = replace(report, parts=(Picture(None, "nothing"),))
    with pytest.raises(AttributeError):
        write_report(path, broken)
    assert path.read_text(encoding="utf-8") == old
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(SaveError, match=r"report\.html"):
        write_report(path / "inside" / "report.html", report)


def test_the_same_report_is_the_same_file(page, report, tmp_path):
    assert write(tmp_path / "again.html", report) == page


def test_without_jinja_the_extra_is_named(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError) as caught:
        write_report(tmp_path / "r.html", report)
    assert str(caught.value) == 'a report needs jinja2, which is not installed: pip install "partalign[plot]"'
    assert list(tmp_path.iterdir()) == []
