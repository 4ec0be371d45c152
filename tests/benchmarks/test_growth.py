import numpy as np
import pytest
from PIL import Image, ImageColor

from partalign.benchmarks import curves, growth
from partalign.benchmarks.growth import Growth
from partalign.pictures.theme import DARK, LIGHT


def small_curves(monkeypatch, expected=1.0):
    def forms(size):
        return lambda: (np.ones(size),), lambda: (np.full(size, expected),)

    none = Growth("nothing", "", "", (), 0, forms)
    curve = Growth("ones, twice", "slow", "crops in a batch", (2, 4, 8), 4, forms)
    for name in ("losses", "identities", "sketches", "networks", "galleries"):
        monkeypatch.setattr(growth, name, lambda: none)
    monkeypatch.setattr(growth, "losses", lambda: curve)


def test_the_reference_takes_part_until_it_is_too_slow(monkeypatch):
    small_curves(monkeypatch)
    lines = growth.run(rounds=1)
    assert [(line.what, line.size, line.ratio is None) for line in lines] == [
        ("ones, twice, 2", 2, False),
        ("ones, twice, 4", 4, False),
        ("ones, twice, 8", 8, True),
    ]
    assert {line.axis for line in lines} == {"crops in a batch"}
    assert [line.size for line in growth.run(rounds=1, most=4)] == [2, 4]


@pytest.mark.parametrize(("curve", "size"), [("losses", 40), ("identities", 16), ("sketches", 2), ("galleries", 2000)])
def test_both_forms_of_the_real_curves_agree(curve, size):
    made = getattr(growth, curve)()
    assert size in made.sizes or size < max(made.sizes)
    for found, expected in zip(*(form() for form in made.forms(size)), strict=True):
        np.testing.assert_allclose(
            *(np.asarray(x.detach() if hasattr(x, "detach") else x) for x in (found, expected)), rtol=1e-3, atol=1e-5
        )


def test_curves_are_drawn_for_light_and_dark_pages(monkeypatch, tmp_path):
    small_curves(monkeypatch)
    paths = curves.save([line.as_dict() for line in growth.run(rounds=1)], tmp_path)
    assert [path.name for path in paths] == ["ones-twice.png", "ones-twice-dark.png"]
    for path, theme in zip(paths, (LIGHT, DARK), strict=True):
        corner = Image.open(path).convert("RGB").getpixel((2, 2))
        assert corner == ImageColor.getrgb(theme.paper)
