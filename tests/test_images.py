import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from partalign import images
from partalign.crops import Crop
from partalign.errors import PictureError, ShapeError
from partalign.images import MEAN_BGR, Pictures, read_batch, read_picture
from partalign.model.input import network_input

RED, GREEN = (200, 30, 40), (20, 180, 60)


@pytest.fixture
def crops(tmp_path) -> list[Path]:
    """Twelve noisy JPEGs of different sizes."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(12):
        noise = rng.integers(0, 256, (100 + number, 50 + 2 * number, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{number:02}.jpg")
        Image.fromarray(noise).save(paths[-1], quality=95)
    return paths


def saved(tmp_path: Path, picture: Image.Image, name: str = "picture.png", **options) -> Path:
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def mode_of(path: Path) -> str:
    with Image.open(path) as picture:
        return picture.mode


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG that claims a size; the pixels are missing."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\x20IDAT"
    )


# Reading


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.ppm", "a.tif"])
def test_lossless_formats_give_the_same_pixels(tmp_path, name):
    noise = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name, **({"lossless": True} if name == "a.webp" else {}))
    assert np.array_equal(read_picture(path), noise)


def test_jpeg_is_rgb(tmp_path):
    picture = read_picture(saved(tmp_path, Image.new("RGB", (64, 128), RED), "a.jpg", quality=95))
    assert (picture.mode, picture.size) == ("RGB", (64, 128))
    assert np.abs(np.asarray(picture, int) - RED).max() <= 3


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_has_three_equal_channels(tmp_path, mode):
    grey = Image.new("L", (6, 4), 255)
    grey.putpixel((2, 1), 0)
    pixels = np.asarray(read_picture(saved(tmp_path, grey.convert(mode))))
    assert pixels.shape == (4, 6, 3)
    assert pixels[1, 2].tolist() == [0, 0, 0]
    assert pixels.sum() == 255 * 3 * 23


def test_palette(tmp_path):
    picture = Image.new("RGB", (5, 3), RED)
    picture.putpixel((4, 2), GREEN)
    path = saved(tmp_path, picture.quantize(4))
    assert mode_of(path) == "P"
    assert np.array_equal(read_picture(path), picture)


def test_cmyk_jpeg(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (16, 16), RED).convert("CMYK"), "a.jpg", quality=95)
    assert mode_of(path) == "CMYK"
    assert np.abs(np.asarray(read_picture(path), int) - RED).max() <= 4


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    pixels = np.asarray(read_picture(saved(tmp_path, Image.fromarray(values), name)))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_places_are_zero_to_the_network(tmp_path, mode):
    picture = Image.new("RGBA", (80, 160), (255, 255, 255, 0))
    picture.paste((0, 0, 0, 255), (0, 80, 80, 160))
    if mode == "P":
        path = saved(tmp_path, picture.quantize(4), transparency=picture.quantize(4).getpixel((0, 0)))
    else:
        path = saved(tmp_path, picture.convert(mode))
    assert mode_of(path) == mode
    values = network_input(read_batch([path]))
    assert torch.equal(values[0, :, :70], torch.zeros(3, 70, 80))
    assert torch.equal(values[0, :, 90, 0], -torch.tensor(MEAN_BGR))


def test_transparent_colour_of_an_rgb_png(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (4, 4), RED), transparency=RED)
    assert read_picture(path).getpixel((0, 0)) == tuple(round(value) for value in reversed(MEAN_BGR))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_exif_rotation_is_applied(tmp_path, orientation, name):
    """Pillow's own `exif_transpose` is the oracle."""
    from PIL import ImageOps

    noise = np.random.default_rng(2).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(noise), name, exif=exif)
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    found = np.asarray(read_picture(path))
    assert found.shape == ((24, 16, 3) if orientation < 5 else (16, 24, 3))
    assert np.array_equal(found, expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_hide_the_picture(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (4, 4), RED), "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 40)
    assert read_picture(path).size == (4, 4)


def test_one_pixel_and_an_open_file(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (1, 1), GREEN))
    assert read_picture(io.BytesIO(path.read_bytes())).getpixel((0, 0)) == GREEN
    assert (read_batch([path]) == GREEN).all()


# Refusing


def refused(source, *words: str) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_of_a_video_it_says_what_takes_videos(tmp_path):
    (tmp_path / "lobby.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42")
    refused(tmp_path / "lobby.mp4", "lobby.mp4", "found a video", "partalign people")


def test_a_missing_an_empty_and_another_file(tmp_path):
    refused(tmp_path / "gone.jpg", str(tmp_path / "gone.jpg"), "No such file")
    refused(tmp_path, str(tmp_path), "folder")
    (tmp_path / "empty.jpg").touch()
    refused(tmp_path / "empty.jpg", "empty.jpg", "an empty file")
    (tmp_path / "text.jpg").write_text("I am a letter")
    refused(tmp_path / "text.jpg", "text.jpg", "JPEG", "something else")
    refused(io.BytesIO(b"GIF89a but not really"), "the uploaded file", "something else")


@pytest.mark.parametrize("name", ["a.gif", "a.pdf", "a.eps", "a.ico"])
def test_formats_outside_the_list_are_refused_whatever_they_are_called(tmp_path, name):
    saved(tmp_path, Image.new("RGB", (16, 16), RED), name)
    path = (tmp_path / name).rename(tmp_path / "person.jpg")
    refused(path, "person.jpg", "something else")


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(tmp_path / "pipe.jpg", "device")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp", "a.ppm", "a.tif"])
def test_truncated_files(tmp_path, name):
    noise = np.random.default_rng(3).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    whole = path.read_bytes()
    for part in (len(whole) // 10, len(whole) // 2, len(whole) - 300):
        path.write_bytes(whole[:part])
        refused(path, name)


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (10_000, 9_000), (9_000, 8_000), (1, 2**31 - 1)])
def test_bombs_are_refused_from_their_header(tmp_path, width, height):
    (tmp_path / "bomb.png").write_bytes(png_header(width, height))
    refused(tmp_path / "bomb.png", "bomb.png", "64,000,000 pixels")


def test_values_of_unknown_range_are_refused(tmp_path):
    refused(saved(tmp_path, Image.fromarray(np.ones((4, 4), np.float32)), "a.tif"), "mode F", "8-bit")
    refused(saved(tmp_path, Image.fromarray(np.full((4, 4), 70_000, np.int32)), "b.tif"), "32 bits")


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM", b"P6 4 4 255\n", b"II*\0"]),
)
def test_no_bytes_raise_anything_but_picture_error(data, start):
    mode = "RGB"
    with contextlib.suppress(PictureError):
        mode = read_picture(io.BytesIO(start + data)).mode
    assert mode == "RGB"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(
    st.sampled_from(["JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF"]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_raise_nothing_but_picture_error(kind, damage):
    file = io.BytesIO()
    Image.linear_gradient("L").resize((16, 24)).convert("RGB").save(file, kind)
    data = bytearray(file.getvalue())
    for place, value in damage:
        data[place % len(data)] = value
    mode = "RGB"
    with contextlib.suppress(PictureError):
        mode = read_picture(io.BytesIO(data)).mode
    assert mode == "RGB"


# Batches


def test_batch_is_pillows_bilinear_resize(crops):
    batch = read_batch(crops)
    assert (batch.shape, batch.dtype) == ((12, 160, 80, 3), np.uint8)
    for pixels, path in zip(batch, crops, strict=True):
        with Image.open(path) as picture:
            assert np.array_equal(pixels, picture.resize((80, 160), Image.Resampling.BILINEAR))


def test_shrinking_is_antialiased(tmp_path):
    """Fine black and white rows become grey. Draft decoding, which would start at this size, gives other pixels."""
    rows = np.tile(np.array([0, 255], np.uint8)[:, None], (800, 800))
    path = saved(tmp_path, Image.fromarray(rows), "a.jpg", quality=95)
    batch = read_batch([path])
    assert 115 < batch.min() <= batch.max() < 140
    with Image.open(path) as whole:
        assert np.array_equal(batch[0], whole.convert("RGB").resize((80, 160), Image.Resampling.BILINEAR))
    with Image.open(path) as draft:
        draft.draft("RGB", (80, 160))
        assert not np.array_equal(batch[0], draft.convert("RGB").resize((80, 160), Image.Resampling.BILINEAR))


def test_a_box_is_the_crop_saved_and_read_again(tmp_path, crops):
    left, top, width, height = 7, 11, 20, 48
    frame = read_picture(crops[0])
    cut = saved(tmp_path, frame.crop((left, top, left + width, top + height)))
    boxes = [(left, top, width, height), (left + 0.3, top - 0.4, width, height), None]
    batch = read_batch([crops[0]] * 3, boxes=boxes)
    assert np.array_equal(batch[:1], read_batch([cut]))
    assert np.array_equal(batch[1], batch[0])
    assert np.array_equal(batch[2:], read_batch([crops[0]]))


def test_a_box_is_clipped_or_refused(crops):
    whole = read_batch(crops[:1])
    assert np.array_equal(read_batch(crops[:1], boxes=[(-5, -9, 1000, 1000)]), whole)
    with pytest.raises(PictureError, match=r"00\.jpg.*box inside 50 x 100"):
        read_batch(crops[:1], boxes=[(60, 10, 20, 20)])
    with pytest.raises(ShapeError, match="2 pictures, found 1"):
        read_batch(crops[:2], boxes=[None])


# Sets


@pytest.mark.parametrize("cache_bytes", [0, 2**31])
@pytest.mark.parametrize("threads", [1, 3])
def test_pictures_by_row(crops, cache_bytes, threads):
    pictures = Pictures([Crop(path, "1") for path in crops], cache_bytes=cache_bytes, threads=threads)
    everything = read_batch(crops)
    for rows in ([3, 1, 3], np.arange(12), [], [11]):
        assert np.array_equal(pictures.batch(rows), everything[np.asarray(rows, int)])
    streamed = list(pictures.stream([[0, 5], [7], [5]]))
    assert [rows.tolist() for rows, _ in streamed] == [[0, 5], [7], [5]]
    assert np.array_equal(np.concatenate([pixels for _, pixels in streamed]), everything[[0, 5, 7, 5]])
    assert pictures.check() == []
    assert pictures.readable.tolist() == list(range(12))


def test_what_is_cached_is_not_decoded_again_and_cannot_be_changed(crops):
    pictures = Pictures(crops)
    first = pictures.batch([0])
    crops[0].unlink()
    expected = first.copy()
    first[:] = 0
    assert np.array_equal(pictures.batch([0]), expected)
    uncached = Pictures(crops, cache_bytes=12 * 160 * 80 * 3 - 1)
    with pytest.raises(PictureError, match=r"00\.jpg"):
        uncached.batch([0])


def test_rows_outside_are_refused(crops):
    for rows in ([12], [-1]):
        with pytest.raises(IndexError, match="rows from 0 to 11"):
            Pictures(crops).batch(rows)
    with pytest.raises(ShapeError, match="12 pictures, found 1"):
        Pictures(crops, boxes=[None])


def test_boxes_and_size(crops):
    boxes = [(0, 0, 20, 30)] * 12
    pictures = Pictures(crops, (30, 20), boxes=boxes)
    assert np.array_equal(pictures.batch([2])[0], np.asarray(read_picture(crops[2]))[:30, :20])


@pytest.mark.parametrize("cache_bytes", [0, 2**31])
def test_corrupt_pictures_are_refused(crops, cache_bytes):
    crops[4].write_bytes(crops[4].read_bytes()[:200])
    pictures = Pictures(crops, cache_bytes=cache_bytes)
    assert len(pictures.batch([0, 1])) == 2
    with pytest.raises(PictureError, match=r"04\.jpg: expected a whole picture"):
        pictures.batch([3, 4])
    with pytest.raises(PictureError, match=r"1 of 12 pictures cannot be read, the first: .*04\.jpg"):
        pictures.check()
    with pytest.raises(PictureError, match=r"04\.jpg"):
        list(pictures.stream([[0], [4]]))


@pytest.mark.parametrize("cache_bytes", [0, 2**31])
def test_corrupt_pictures_are_skipped_aloud(crops, cache_bytes, capsys):
    crops[4].write_bytes(b"")
    crops[9].write_text("[bold]no picture[/bold]")
    pictures = Pictures(crops, on_error="skip", cache_bytes=cache_bytes)
    streamed = list(pictures.stream([[8, 9], [4], [3]]))
    assert [rows.tolist() for rows, _ in streamed] == [[8], [], [3]]
    assert [len(pixels) for _, pixels in streamed] == [1, 0, 1]
    warning = capsys.readouterr().err
    assert "2 of 12 pictures cannot be read and are left out" in warning
    assert "04.jpg" in warning
    assert "09.jpg" in warning
    failures = pictures.check()
    assert [row for row, _ in failures] == [4, 9]
    assert "an empty file" in str(failures[0][1])
    assert pictures.readable.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]
    assert capsys.readouterr().err == "", "said once"
    with pytest.raises(PictureError, match=r"09\.jpg"):
        pictures.batch([9])


def test_nothing_readable_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(PictureError, match="1 of 1 pictures cannot be read"):
        Pictures([tmp_path / "a.jpg"], on_error="skip").check()


def test_an_empty_set():
    pictures = Pictures([])
    assert pictures.batch([]).shape == (0, 160, 80, 3)
    assert pictures.check() == []


# Real crops


@pytest.mark.shared
def test_real_crops(shared):
    paths = sorted((shared / "data/Market-1501-v15.09.15/query").glob("*.jpg"))[:40]
    pixels = Pictures(paths).batch(range(40))
    with Image.open(paths[7]) as crop:
        assert np.array_equal(pixels[7], crop.resize((80, 160), Image.Resampling.BILINEAR))
    # Street scenes are near the mean that is taken away, channel by channel, so the input is roughly centred.
    assert network_input(pixels).mean((0, 2, 3)).abs().max() < 40


def test_defaults_are_the_papers():
    assert images.INPUT_SIZE == (160, 80)
    assert images.MEAN_BGR == (104.0, 117.0, 123.0)
