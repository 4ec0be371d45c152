import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partalign.datasets.folder import find_crops
from partalign.errors import SaveError, VideoError
from partalign.people import Settings, find_people
from video_files import WALL, crossing, find_colours, paint, walking, write_video

TESTS = Path(__file__).parents[1]


def files(root: Path) -> dict[str, bytes]:
    """Everything that was written, but for what differs between runs without meaning."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return {name: (root / name).read_bytes() for name in names}


def colour_of(path: Path) -> int:
    """Who is on a crop: the place in COLOURS."""
    pixels = np.asarray(Image.open(path).convert("RGB"), float)
    middle = pixels[pixels.shape[0] // 3 : -pixels.shape[0] // 3, pixels.shape[1] // 3 : -pixels.shape[1] // 3]
    return {0: 0, 2: 1, 1: 2}[int(middle.mean((0, 1)).argmax())]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Red crosses, then blue and green at the same time; then red again."""
    walks = (lambda t: crossing(0)(t) or crossing(14)(t), crossing(7, top=20), crossing(7.5, top=70))
    return walking(tmp_path_factory.mktemp("video") / "hall ä.mp4", *walks, seconds=21)


@pytest.fixture(scope="module")
def whole(video, tmp_path_factory) -> Path:
    """What an uninterrupted run writes."""
    out = tmp_path_factory.mktemp("whole")
    find_people(video, out, detector=find_colours)
    return out


def test_each_visit_is_a_tracklet_with_camera_time_and_box(video, whole):
    crops = find_crops([whole])
    visits: dict[str, list] = {}
    for crop in crops:
        visits.setdefault(crop.tracklet, []).append(crop)
    assert sorted(visits) == [f"hall ä-000{number}" for number in (1, 2, 3, 4)]
    seen = {name: ({colour_of(crop.path) for crop in mine}, min(c.time for c in mine)) for name, mine in visits.items()}
    assert [colours for colours, _ in seen.values()][0::3] == [{0}, {0}]
    assert sorted(map(min, [colours for colours, _ in seen.values()][1:3])) == [1, 2]
    assert all(len(colours) == 1 for colours, _ in seen.values())
    assert [begun for _, begun in seen.values()] == pytest.approx([0, 7.2, 7.7, 14], abs=1.1)
    for crop in crops:
        assert crop.camera == "hall ä"
        left, _, width, height = crop.box
        with Image.open(crop.path) as picture:
            assert picture.size == (width, height)
        walk = crossing({0: 0, 1: 7, 2: 7.5}[colour_of(crop.path)] + (14 if crop.time > 13 else 0))
        assert abs(left + width / 2 - walk(crop.time)[0] - 12) < 8 or min(left, 160 - left - width) == 0
        assert 44 <= height <= 66


def test_the_crops_are_what_the_frame_shows(whole):
    for crop in find_crops([whole])[:2]:
        left, top, width, height = map(int, crop.box)
        frame = paint(crop.time, [crossing(0)])[top : top + height, left : left + width].astype(int)
        assert np.abs(np.asarray(Image.open(crop.path), int) - frame).mean() < 12


def test_a_second_call_does_nothing(video, whole):
    def fails(pixels):
        raise AssertionError("looked again")

    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.jpg")}
    fails.__qualname__ = find_colours.__qualname__
    (found,) = find_people(video, whole, detector=fails)
    assert not found.new
    assert (found.tracklets, found.crops) == (4, len(before))
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.jpg")} == before


@pytest.mark.parametrize("save_every", [0.0, 1e9])
def test_stopped_at_any_frame_it_ends_the_same(video, whole, tmp_path, save_every, monkeypatch):
    """Stopped after 1, 8, 15 ... frames, again and again, with a state after each frame or with none at all."""
    calls = 0

    def stops(pixels):
        nonlocal calls
        calls += 1
        if calls % 8 == 0:
            raise KeyboardInterrupt
        return find_colours(pixels)

    stops.__qualname__ = find_colours.__qualname__
    for _ in range(3 if save_every else 60):
        try:
            find_people(video, tmp_path, detector=stops, save_every=save_every)
            break
        except KeyboardInterrupt:
            continue
    find_people(video, tmp_path, detector=find_colours, save_every=save_every)
    assert calls > 20
    assert files(tmp_path) == files(whole)


def test_killed_at_random_moments_it_ends_the_same(video, whole, tmp_path):
    script = (
        "import time, sys; from pathlib import Path; from partalign.people import find_people; import video_files\n"
        "def find_colours(pixels): time.sleep(0.05); return video_files.find_colours(pixels)\n"
        "print('ready', flush=True)\n"
        "find_people(Path(sys.argv[1]), sys.argv[2], detector=find_colours, save_every=0.05)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    draw, killed = random.Random(0), 0
    for _ in range(40):
        words = [sys.executable, "-c", script, video, tmp_path]
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(draw.uniform(0.3, 1.0))
        process.kill()
        process.stdout.close()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
        killed += 1
    assert killed >= 2
    find_people(video, tmp_path, detector=find_colours)
    assert files(tmp_path) == files(whole)


def test_other_settings_or_another_video_are_not_mixed_in(video, whole, tmp_path):
    with pytest.raises(VideoError, match=r"made with other settings \(rate 5.0, now 4.0\)"):
        find_people(video, whole, detector=find_colours, settings=Settings(rate=4.0))
    with pytest.raises(VideoError, match="people from"):
        find_people(video, whole, detector=lambda pixels: [])
    other = walking(tmp_path / video.name, crossing(0), seconds=6)
    out = tmp_path / "out"
    first, second = find_people([video, other], out, detector=find_colours)
    assert (first.name, second.name) == ("hall ä", "hall ä-2")
    crops = find_crops([out])
    assert len(crops) == first.crops + second.crops
    assert len({crop.tracklet for crop in crops}) == first.tracklets + second.tracklets == 5
    assert len({crop.key for crop in crops}) == len(crops)
    # In another order, and one at a time, each finds its place again.
    assert [one.name for one in find_people([other, video], out, detector=find_colours)] == ["hall ä-2", "hall ä"]


def test_camera_and_clock_are_stored(video, tmp_path):
    settings = Settings(camera="lobby", start=1_764_000_000.0)
    find_people(video, tmp_path, detector=find_colours, settings=settings)
    crops = find_crops([tmp_path])
    assert {crop.camera for crop in crops} == {"lobby"}
    assert min(crop.time for crop in crops) == pytest.approx(1_764_000_000, abs=1.1)


def test_a_variable_frame_rate_gives_the_same_people(whole, tmp_path):
    draw = np.random.default_rng(1)
    times = np.cumsum(draw.choice([0.02, 0.04, 0.11, 0.2], 250))
    times = times[times < 21]
    walks = (lambda t: crossing(0)(t) or crossing(14)(t), crossing(7, top=20), crossing(7.5, top=70))
    path = write_video(tmp_path / "v.mp4", (paint(t, walks) for t in times), times=times)
    (found,) = find_people(path, tmp_path / "out", detector=find_colours)
    assert found.tracklets == 4
    for crop in find_crops([tmp_path / "out"]):
        walk = [crossing(0), crossing(14)][crop.time > 12.5] if colour_of(crop.path) == 0 else None
        if walk and (place := walk(crop.time + times[0])):
            assert abs(crop.box[0] + crop.box[2] / 2 - place[0] - 12) < 4 or min(place[0], 136 - place[0]) < 4
    assert found.frames < 21 * 5 + 1


def test_a_folder_of_frames_and_its_video_give_the_same_boxes(tmp_path):
    frames = tmp_path / "yard"
    frames.mkdir()
    for number in range(40):
        Image.fromarray(paint(number / 5, [crossing(0)])).save(frames / f"{number}.png")
    (found,) = find_people(frames, tmp_path / "out", detector=find_colours, settings=Settings(rate=5))
    assert (found.name, found.frames, found.tracklets) == ("yard", 40, 1)
    assert all(
        abs(c.box[0] + c.box[2] / 2 - crossing(0)(c.time)[0] - 12) < 2 for c in find_crops([tmp_path / "out"])[1:-1]
    )


def test_frames_without_movement_need_no_detector(tmp_path):
    calls = []

    def counted(pixels):
        calls.append(1)
        return find_colours(pixels)

    stands = lambda t: (min(t * 30, 60), 40) if 1 < t < 30 else None  # noqa: E731
    path = walking(tmp_path / "still.mp4", stands, seconds=32)
    (found,) = find_people(path, tmp_path / "out", detector=counted)
    assert found.frames == 160
    assert found.moving == len(calls) < 40
    assert found.tracklets == 1


def test_time_passes_in_an_empty_room(tmp_path):
    """One person vanishes as in a cut, the room is empty for a while, another appears in the same place."""
    come = [paint(number / 10, [crossing(0)]) for number in range(35)]
    go = [paint(number / 10, [lambda time: None, lambda time: None, crossing(0)]) for number in range(35, 65)]
    path = write_video(tmp_path / "cut.mp4", [*come, *([WALL] * 40), *go])
    (found,) = find_people(path, tmp_path / "out", detector=find_colours)
    assert found.tracklets == 2


def test_what_never_moves_is_no_person_unless_asked_for(tmp_path):
    def coat_on_a_hook(pixels):
        return np.vstack([find_colours(pixels), [(130, 10, 20, 40, 0.9)]])

    path = walking(tmp_path / "hook.mp4", crossing(0, top=60), seconds=8)
    (without,) = find_people(path, tmp_path / "a", detector=coat_on_a_hook, settings=Settings(height=30))
    (asked,) = find_people(path, tmp_path / "b", detector=coat_on_a_hook, settings=Settings(height=30, still=True))
    assert (without.tracklets, asked.tracklets) == (1, 2)


def test_boxes_from_elsewhere_with_and_without_ids(video, tmp_path):
    rows = []
    for number in range(210):
        for walk, name in ((crossing(0), 7), (crossing(7, top=20), 3), (crossing(14), 7)):
            if place := walk(number / 10):
                rows.append((number + 1, name, *place, 24, 48))
    named, plain = tmp_path / "named.txt", tmp_path / "plain.csv"
    named.write_text("".join(f"{','.join(map(str, row))},1,-1,-1,-1\n" for row in rows))
    lines = [f"{(row[0] - 1) / 10:.3f},{','.join(map(str, row[2:]))}\n" for row in rows]
    plain.write_text("time,left,top,width,height\n" + "".join(lines))
    for file, expected in ((named, {"hall ä-7", "hall ä-3"}), (plain, {f"hall ä-000{number}" for number in (1, 2, 3)})):
        out = tmp_path / file.stem
        find_people(video, out, boxes=[file])
        crops = find_crops([out])
        assert {crop.tracklet for crop in crops} == expected
        assert all(colour_of(c.path) == (1 if 7.5 < c.time < 13 else 0) for c in crops)


def test_boxes_outside_the_frame_give_no_crops(video, tmp_path):
    (tmp_path / "b.txt").write_text("".join(f"{n},1,900,900,24,48,1\n{n},2,-1e8,0,2e8,48,1\n" for n in range(1, 90, 2)))
    (found,) = find_people(video, tmp_path / "out", boxes=[tmp_path / "b.txt"])
    assert all(crop.tracklet == "hall ä-2" for crop in find_crops([tmp_path / "out"]))
    assert found.crops >= 1
    (tmp_path / "late.txt").write_text("1,1,5,5,24,48,1\n500,1,5,5,24,48,1\n501,2,5,5,24,48,1\n")
    (found,) = find_people(video, tmp_path / "late", boxes=[tmp_path / "late.txt"])
    assert found.note == "2 of 3 boxes are of frames after its end"


def test_a_truncated_video_keeps_its_people_and_says_where_it_ends(video, tmp_path):
    path = tmp_path / "cut.mp4"
    path.write_bytes(video.read_bytes()[: int(video.stat().st_size * 0.6)])
    (found,) = find_people(path, tmp_path / "out", detector=find_colours)
    assert found.tracklets >= 1
    assert "of 21.0 seconds; what was there is kept" in found.note


def test_names_that_mean_something_in_the_folder_are_not_taken(video, tmp_path):
    for name in ("gallery", "crops.csv", "...", "a" * 200):
        copy = tmp_path / f"{name}.mp4"
        copy.write_bytes(video.read_bytes())
        find_people(copy, tmp_path / "out", detector=find_colours)
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == [".people", "a" * 80, "crops.csv-video", "gallery-video", "video"]
    assert {crop.camera for crop in find_crops([tmp_path / "out"])} == set(folders[1:])


def test_a_folder_of_frames_is_not_written_into(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "1.png")
    with pytest.raises(VideoError, match="another folder for the crops"):
        find_people(tmp_path, tmp_path, detector=find_colours)


def test_a_video_without_frames_is_told(tmp_path):
    path = write_video(tmp_path / "none.mkv", [WALL] * 30)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(bytes([0x1F, 0x43, 0xB6, 0x75])) + 30])  # cut in the first cluster
    (found,) = find_people(path, tmp_path / "out", detector=find_colours)
    assert found.note == "not one frame could be decoded"


def test_an_empty_room_gives_no_table(tmp_path):
    path = write_video(tmp_path / "empty.mp4", [WALL] * 30)
    (found,) = find_people(path, tmp_path / "out", detector=find_colours)
    assert (found.frames, found.boxes, found.crops, found.note) == (15, 0, 0, None)
    assert not (tmp_path / "out/crops.csv").exists()


@pytest.mark.parametrize(
    "wrong",
    [{"rate": -1}, {"rate": 0}, {"rate": float("nan")}, {"gap": -1}, {"least": 0}, {"every": -2}, {"height": 0}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(VideoError, match=f"--{next(iter(wrong))}: expected"):
        replace(Settings(), **wrong)


def test_places_that_cannot_be_written_to_are_named(video, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(VideoError, match="file: expected a folder"):
        find_people(video, tmp_path / "file", detector=find_colours)
    with pytest.raises(SaveError, match="cannot be written"):
        find_people(video, tmp_path / "file/below", detector=find_colours)
    other = tmp_path / "others"
    other.mkdir()
    (other / "crops.csv").write_text("path\na.jpg\n")
    with pytest.raises(VideoError, match="from elsewhere"):
        find_people(video, other, detector=find_colours)
    full = tmp_path / "full"
    monkeypatch.setattr("partalign.files.os.fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(SaveError, match="No space left"):
        find_people(video, full, detector=find_colours)
    monkeypatch.undo()
    find_people(video, full, detector=find_colours)
    assert (full / "crops.csv").exists()


def test_damaged_states_are_named(video, tmp_path):
    find_people(video, tmp_path, detector=find_colours)
    state = tmp_path / ".people/hall ä.json"
    good = json.loads(state.read_text())
    for text in ("", "[]", "{}", '{"format": 2}', json.dumps(good | {"done": False})):
        state.write_text(text)
        with pytest.raises(VideoError, match="delete it"):
            find_people(video, tmp_path, detector=find_colours)


def test_two_runs_do_not_write_into_one_folder(video, tmp_path):
    def meets_another(pixels):
        find_people(video, tmp_path, detector=find_colours)
        return []

    with pytest.raises(VideoError, match="another run is writing there"):
        find_people(video, tmp_path, detector=meets_another)


def test_memory_does_not_grow_with_the_length(tmp_path):
    """Ten times as many frames, and people who come and go in all of them, take no more memory."""
    script = (
        "import sys, resource; from pathlib import Path; from partalign.people import find_people; import video_files\n"
        "found, = find_people(Path(sys.argv[1]), sys.argv[2], detector=video_files.find_red, save_every=0.2)\n"
        "print(found.tracklets, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    peaks = {}
    loop = [paint(number / 20, [crossing(0, speed=40)]) for number in range(160)]
    for count in (400, 4000):
        path = write_video(tmp_path / f"{count}.mp4", (loop[number % 160] for number in range(count)), rate=20)
        words = [sys.executable, "-c", script, path, tmp_path / str(count)]
        run = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        tracklets, peaks[count] = map(int, run.stdout.split())
        assert tracklets >= count // 160
    assert peaks[4000] - peaks[400] < 8 * 1024  # KiB


@pytest.mark.shared
def test_six_real_people_come_and_go(shared, tmp_path):
    """With the boxes of a detector that costs nothing here: where the picture differs from the empty room."""
    path = shared / "data/video/one-by-one-person-detection.mp4"
    empty = None

    def differs(pixels):
        nonlocal empty
        small = pixels[::4, ::4].astype(int)
        empty = small if empty is None else empty
        rows, columns = np.nonzero(np.abs(small - empty).max(2) > 60)
        if len(rows) < 300:
            return []
        left, top = columns.min() * 4, rows.min() * 4
        return [(left, top, columns.max() * 4 - left + 4, rows.max() * 4 - top + 4, 1.0)]

    (found,) = find_people(path, tmp_path, detector=differs, settings=Settings(rate=2, height=150))
    assert found.seconds == pytest.approx(139.3, abs=0.05)
    assert (found.tracklets, found.note) == (6, None)
    begun: dict[str, float] = {}
    for crop in find_crops([tmp_path]):
        begun[crop.tracklet] = min(begun.get(crop.tracklet, 1e9), crop.time)
    assert list(begun.values()) == pytest.approx([6.5, 23, 51, 75, 93, 123.5], abs=1.5)
