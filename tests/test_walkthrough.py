"""docs/search.md, "From a video to an answer": every line of it is run, on a real video."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import httpx2 as httpx

from partalign.images import read_picture

PAGE = Path(__file__).resolve().parents[1] / "docs" / "search.md"
HER = "crops/yard/0002_f0000161.jpg"


def lines() -> list[str]:
    section = PAGE.read_text(encoding="utf-8").split("## From a video to an answer")[1].split("\n## ")[0]
    return re.findall(r"^    (partalign .+)$", section, re.MULTILINE)


def cut(source: Path, target: Path, since: float, until: float, mirrored: bool) -> None:
    """Write some seconds of a video as another, perhaps mirrored: as by another camera."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        old = read.streams.video[0]
        new = written.add_stream("libx264", rate=10, options={"crf": "20"})
        new.width, new.height, new.pix_fmt = old.width, old.height, "yuv420p"
        chosen = (frame for frame in read.decode(old) if since <= frame.time < until)
        for number, frame in enumerate(chosen):
            pixels = frame.to_ndarray(format="rgb24")
            copy = av.VideoFrame.from_ndarray(pixels[:, ::-1].copy() if mirrored else pixels, format="rgb24")
            copy.pts, copy.time_base = number, Fraction(1, 10)
            written.mux(new.encode(copy))
        written.mux(new.encode(None))


def run(line: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(line)], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout + done.stderr


@contextmanager
def serving(line: str, folder: Path):
    """Run `partalign serve` on a free port; yields its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", *shlex.split(line), "--port", "0"], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    try:
        found = None
        began = time.monotonic()
        while found is None and process.poll() is None and time.monotonic() - began < 120:
            found = re.search(r"http://[0-9.]+:\d+", process.stderr.readline())
        assert found, "the server did not say where it is"
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_every_line_of_the_walk_through_works_on_a_real_video(shared, tmp_path):
    (video,) = (shared / "data" / "video").glob("*.mp4")
    cut(video, tmp_path / "lobby.mp4", 0, 36, mirrored=False)
    cut(video, tmp_path / "yard.mp4", 10, 40, mirrored=True)
    people, add, cluster, search, explain, verify, serve = lines()

    assert run(people, tmp_path).count("2 tracklets") == 2
    crops = len(list((tmp_path / "crops").glob("*/*.jpg")))
    assert f"{crops} added, 0 replaced" in run(add, tmp_path)
    assert f"0 added, 0 replaced, {crops} unchanged" in run(add, tmp_path)
    assert f"2 persons in {crops} of {crops} records" in run(cluster, tmp_path)

    shutil.copy(tmp_path / HER, tmp_path / "her.jpg")
    rows = [row.split() for row in run(search, tmp_path).splitlines() if re.match(r"\d+ ", row)]
    persons = [next(word for word in row if word.startswith("person-")) for row in rows]
    similarity = [float(row[1]) for row in rows]
    # She is found before both cameras, and nobody else is like her.
    assert len(rows) == 4
    assert persons[0] == persons[1] != persons[2] == persons[3]
    assert min(similarity[:2]) > 0.8 > 0.4 > max(similarity[2:])
    assert read_picture(tmp_path / "found.png").width > 200

    assert "same person" in run(explain, tmp_path)
    assert read_picture(tmp_path / "why.png").width > 400
    assert f"{crops} records, nothing damaged" in run(verify, tmp_path)

    with serving(serve, tmp_path) as address, httpx.Client(base_url=address) as client:
        sent = client.post("/api/queries", files={"pictures": (tmp_path / "her.jpg").read_bytes()}).json()
        found = client.post("/api/search", json={"query": sent["query"], "group": True}).json()
        assert client.get("/").status_code == 200
    names = [match["record"]["person"] for match in found["matches"]]
    assert names == persons
