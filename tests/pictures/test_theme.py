import numpy as np
import pytest
from PIL import Image, ImageDraw

from partalign.pictures.theme import DARK, LIGHT, RIGHT, WRONG, enlarge, write


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as the WCAG define it."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_lines_have_the_contrast_that_wcag_aa_asks_for(theme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert min(contrast(theme.ink, theme.paper), contrast(theme.muted, theme.paper)) >= 4.5
    assert min(contrast(colour, theme.paper) for colour in theme.series) >= 3


def test_white_signs_stand_out_from_the_frames():
    assert min(contrast(RIGHT, "#ffffff"), contrast(WRONG, "#ffffff")) >= 4.3


def test_long_or_hostile_text_stays_on_one_line_within_its_width():
    sheet = Image.new("RGB", (400, 100), "white")
    write(
        ImageDraw.Draw(sheet), (200, 50), "camera\nat the very long corridor behind the kitchen", 120, 20, "black", "ms"
    )
    rows, columns = np.nonzero(np.asarray(sheet.convert("L")) < 128)
    assert columns.min() >= 140
    assert columns.max() < 260
    assert rows.max() - rows.min() < 30


def test_letters_beyond_ascii_are_drawn_as_themselves():
    def drawn(text):
        sheet = Image.new("L", (80, 40), "white")
        write(ImageDraw.Draw(sheet), (40, 30), text, 80, 20, "black", "ms")
        return sheet.tobytes()

    assert len({drawn(letter) for letter in "äéøЖγ…"}) == 6


def test_enlarging_keeps_the_aspect():
    assert enlarge(Image.new("L", (64, 128)), 336).size == (168, 336)
    assert enlarge(Image.new("RGB", (1, 500)), 10).size == (1, 10)
