import os
import wave
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from partalign.errors import VideoError
from partalign.people import frames as room
from partalign.people.frames import open_source
from video_files import crossing, walking, write_video

IRREGULAR = [0.0, 0.04, 0.08, 0.5, 0.533, 0.6, 2.0, 2.001, 2.5, 2.51, 2.6, 3.0, 3.1, 3.2, 4.0, 4.5, 4.6, 4.7, 9.0, 9.04]
IRREGULAR += [10 + number / 7 for number in range(30)]


def numbered(count):
    """Frames that can be told apart: a bar as long as the frame's number."""
    for number in range(count):
        frame = np.full((48, 64, 3), 40, np.uint8)
        frame[: number % 48, : 32 + number // 48] = 220
        yield frame


@pytest.fixture(scope="module", params=["mp4", "mkv", "avi", "vfr.mp4", "vfr.mkv", "h264.mp4"])
def video(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / f"a b.{request.param}"
    if "vfr" in request.param:
        return write_video(path, numbered(len(IRREGULAR)), times=IRREGULAR)
    codec = "libx264" if "h264" in request.param else "mpeg4"
    return write_video(path, numbered(60), codec=codec, options={"crf": "18"} if codec == "libx264" else None)


def test_every_frame_comes_with_its_time(video):
    frames = list(open_source(video, 5).frames())
    expected = IRREGULAR if "vfr" in video.name else [number / 10 for number in range(60)]
    assert [frame.time for frame in frames] == pytest.approx(expected, abs=1.1e-3)
    assert [frame.number for frame in frames] == list(range(1, len(expected) + 1))
    lit = [int((frame.pixels()[..., 1] > 130)[:, :32].all(axis=1).sum()) for frame in frames]
    assert np.abs(np.array(lit) - np.arange(len(expected)) % 48).max() <= 1
    assert open_source(video, 5).ending(frames[-1].position) is None


def test_reading_goes_on_from_every_frame_with_the_same_pixels(video):
    frames = list(open_source(video, 5).frames())
    assert frames[-1].position.regular or video.suffix == ".avi"
    for place in range(0, len(frames), 7):
        rest = list(open_source(video, 5).frames(frames[place].position))
        assert [(f.number, f.time, f.position) for f in rest] == [
            (f.number, f.time, f.position) for f in frames[place + 1 :]
        ]
        assert all((a.pixels() == b.pixels()).all() for a, b in zip(rest[:15], frames[place + 1 :], strict=False))
    assert list(open_source(video, 5).frames(frames[-1].position)) == []


def test_a_position_that_seeking_cannot_find_is_counted_to(video):
    frames = list(open_source(video, 5).frames())
    lost = replace(frames[20].position, pts=(frames[20].position.pts or 0) + 10**12)
    assert [frame.number for frame in open_source(video, 5).frames(lost)] == [f.number for f in frames[21:]]


def test_times_that_fall_back_still_rise(tmp_path):
    path = tmp_path / "reset.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number, frame in enumerate(numbered(20)):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            for packet in stream.encode(picture):
                container.mux(packet)
        container.mux(stream.encode(None))
    once = path.read_bytes()
    path.write_bytes(once + once)  # a recorder that began again in the same file
    frames = list(open_source(path, 5).frames())
    times = [frame.time for frame in frames]
    assert len(frames) > 35
    assert all(0 < later - earlier < 1 for earlier, later in pairwise(times))
    assert not frames[-1].position.regular
    rest = list(open_source(path, 5).frames(frames[29].position))
    assert [(f.number, f.time) for f in rest] == [(f.number, f.time) for f in frames[30:]]


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.avi", "cut.ts"])
@pytest.mark.parametrize("share", [0.35, 0.8])
def test_of_a_truncated_video_what_was_there_is_kept(tmp_path, name, share):
    path = walking(tmp_path / name, crossing(0), seconds=12)
    whole = list(open_source(path, 5).frames())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    source = open_source(path, 5)
    frames = list(source.frames())
    assert 0.5 * share * len(whole) < len(frames) < len(whole)
    if path.suffix in (".mp4", ".mkv"):  # the others' headers say no length, or it is made up from what is there
        assert "ends after" in (source.ending(frames[-1].position) or "")
    assert all((a.pixels() == b.pixels()).all() for a, b in zip(frames[:-2:9], whole[::9], strict=False))


def test_damage_in_the_middle_is_counted_and_the_rest_read(tmp_path):
    path = walking(tmp_path / "damaged.mkv", crossing(0), seconds=20, codec="libx264", options={"crf": "20"})
    whole = sum(1 for _ in open_source(path, 5).frames())
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    content[len(content) // 2 : len(content) // 2 + 3000] = noise
    path.write_bytes(content)
    frames = list(open_source(path, 5).frames())
    assert whole // 2 < len(frames) <= whole
    assert frames[-1].time > 18
    for place in (10, len(frames) // 2 + 5, len(frames) - 10):
        rest = list(open_source(path, 5).frames(frames[place].position))
        assert [f.position for f in rest] == [f.position for f in frames[place + 1 :]]


def test_a_turned_video_is_read_upright(tmp_path):
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:8] = 255  # light from above
    path = write_video(tmp_path / "phone.mp4", [frame] * 12)
    content = bytearray(path.read_bytes())
    # The matrix in the track's header, as a phone held upright writes it: turn by 90 degrees clockwise.
    place = content.index(b"tkhd") + 4 + 40
    content[place : place + 36] = np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 2**30], ">i4").tobytes()
    path.write_bytes(content)
    pixels = next(iter(open_source(path, 5).frames())).pixels()
    assert pixels.shape == (64, 48, 3)
    assert pixels[:, -6:].mean() > 200 > 60 > pixels[:, :-10].mean()
    grey = next(iter(open_source(path, 5).frames())).grey(16)
    assert grey[:, -1].mean() > 200 > 60 > grey[:, :-4].mean()


def test_a_folder_of_frames_is_in_the_order_of_its_numbers(tmp_path):
    for number in (1, 2, 9, 10, 100):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / f"frame {number}.png")
    (tmp_path / "frame 3.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("x")
    source = open_source(tmp_path, 4)
    frames = list(source.frames())
    assert [int(frame.pixels()[0, 0, 0]) for frame in frames] == [1, 2, 9, 10, 100]
    assert [frame.time for frame in frames] == [0, 0.25, 0.75, 1, 1.25]  # the damaged one leaves a gap
    assert source.ending(frames[-1].position) == "1 of 6 pictures cannot be read and were left out"
    assert [f.position for f in source.frames(frames[1].position)] == [f.position for f in frames[2:]]
    assert frames[0].grey(8).shape == (8, 8)


def test_what_is_no_video_gets_one_clear_line(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 500)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    for name in ("empty.mp4", "text.mp4", "list.m3u8", "folder", "pipe", "sound.wav", "nowhere.mp4", "http:__x"):
        with pytest.raises(VideoError, match="expected") as caught:
            list(open_source(tmp_path / name, 5).frames())
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_frames_that_are_too_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "MAX_PIXELS", 1000)
    path = write_video(tmp_path / "large.mp4", numbered(3))
    with pytest.raises(VideoError, match="at most 1,000 pixels, found 64 x 48"):
        list(open_source(path, 5).frames())
