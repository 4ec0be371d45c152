"""The HTTP search under load: clients that search one after the other against a real server, and how long answers take.

The server is a process of its own, `partalign serve` with its log, on the same machine: its processor time is shared
with the clients'. Descriptors and thumbnails of the gallery are random, the network is the one given; both change no
time.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from partalign.errors import BenchmarkError
from partalign.gallery import Record
from partalign.search import PictureSearch, thumbnail

Ask = Callable[[http.client.HTTPConnection], int]
"""One search; returns the status of the answer."""

_CAMERAS = 8
_AT_ONCE = 10_000


@dataclass(frozen=True)
class Load:
    """Searches of one kind. seconds: of each that was answered with success, sorted; errors: of the others."""

    what: str
    clients: int
    lasted: float
    seconds: np.ndarray = field(repr=False)
    errors: int

    def percentile(self, share: float) -> float:
        """Return the seconds within which that share (0-100) of the answers came."""
        return float(np.percentile(self.seconds, share))

    def as_dict(self) -> dict[str, Any]:
        """Return the figures, in seconds, for JSON."""
        figures = {f"p{share}": self.percentile(share) for share in (50, 90, 99)}
        values = asdict(self) | {"seconds": None, "answers": len(self.seconds), "rate": len(self.seconds) / self.lasted}
        return {name: value for name, value in values.items() if value is not None} | figures

    def __str__(self) -> str:
        p50, p99 = (1e3 * self.percentile(share) for share in (50, 99))
        rate = len(self.seconds) / self.lasted
        return (
            f"{self.what}, {self.clients} clients, {self.lasted:.0f} s: {len(self.seconds):,} answers ({rate:.1f} a "
            f"second), p50 {p50:.0f} ms, p99 {p99:.0f} ms, {self.errors} errors"
        )


def run(model: Path | None = None, records: int = 100_000, seconds: float = 60.0, clients: int = 8) -> Iterator[Load]:
    """Search by a record, with a filter on every second search; then by a picture that is sent and described.

    records: of the gallery. seconds: of each kind. Raises BenchmarkError where the server does not start or answers
    nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        ids = fill(Path(folder) / "gallery", model, records)
        with serving(Path(folder) / "gallery", model) as port:
            yield load("search by a record", port, lambda number: by_record(ids, number), seconds, clients)
            yield load("send a picture and search", port, by_picture, seconds, clients)


def load(what: str, port: int, make: Callable[[int], Ask], seconds: float, clients: int) -> Load:
    """Let clients ask, each its own way, one question after the other, for so many seconds."""
    found: list[list[tuple[float, bool]]] = [[] for _ in range(clients)]
    start = threading.Barrier(clients + 1)

    def work(number: int) -> None:
        ask = make(number)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            _answered(ask, connection)  # what is loaded on first use is no search
            start.wait()
            until = time.perf_counter() + seconds
            while (began := time.perf_counter()) < until:
                good = _answered(ask, connection)
                found[number].append((time.perf_counter() - began, good))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    answers = [answer for each in found for answer in each]
    times = np.sort([took for took, good in answers if good])
    if not len(times):
        raise BenchmarkError(f"{what}: expected answers, found {len(answers)} errors: see what the server says")
    return Load(what, clients, time.perf_counter() - began, times, len(answers) - len(times))


def by_record(ids: list[str], number: int) -> Ask:
    """Search by one record after the other; every second time two cameras only."""
    draw = np.random.default_rng(number)

    def ask(connection: http.client.HTTPConnection) -> int:
        like = [ids[int(draw.integers(len(ids)))]]
        where = {"cameras": ["c1", "c2"]} if draw.random() < 0.5 else {}
        return _post(connection, "/api/search", {"like": like, "where": where})[0]

    return ask


def by_picture(number: int) -> Ask:
    """Send a picture of noise, and search by it."""
    pixels = np.random.default_rng(number).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    head = b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a.jpg"\r\n\r\n'
    body = head + file.getvalue() + b"\r\n--x--\r\n"

    def ask(connection: http.client.HTTPConnection) -> int:
        status, content = _post(connection, "/api/queries", body, "multipart/form-data; boundary=x")
        return _post(connection, "/api/search", {"query": content["query"]})[0] if status == 201 else status

    return ask


def fill(folder: Path, model: Path | None, records: int) -> list[str]:
    """Make a gallery of random descriptors; returns its ids."""
    draw, picture = np.random.default_rng(0), thumbnail(Image.new("RGB", (64, 128), (90, 110, 130)))
    ids = [f"crop-{number}" for number in range(records)]
    with PictureSearch.open(folder, model, create=True) as search:
        for start in range(0, records, _AT_ONCE):
            part = range(start, min(start + _AT_ONCE, records))
            made = [Record(ids[i], camera=f"c{i % _CAMERAS}", time=1.7e9 + i, tracklet=f"t{i // 10}") for i in part]
            vectors = draw.standard_normal((len(part), search.gallery.model.dimension)).astype(np.float32)
            search.gallery.add(made, vectors, [picture] * len(part))
    return ids


@contextmanager
def serving(gallery: Path, model: Path | None) -> Iterator[int]:
    """Run `partalign serve` on a free port, without its limit on how often one client asks; yields the port."""
    words = [
        sys.executable,
        "-m",
        "partalign",
        "serve",
        str(gallery),
        "--port",
        "0",
        "--rate",
        "1e6",
        "--waiting",
        "64",
    ]
    words += [] if model is None else ["--model", str(model)]
    environment = os.environ | {"COLUMNS": "300"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as server:  # noqa: S603
        try:
            line = server.stderr.readline() if server.stderr else ""
            if not line.startswith("http://"):
                raise BenchmarkError(f"expected a server to measure, it said: {line.strip()}")
            yield int(line.split()[0].rpartition(":")[2])
        finally:
            server.terminate()


def _answered(ask: Ask, connection: http.client.HTTPConnection) -> bool:
    try:
        return ask(connection) == 200
    except (OSError, http.client.HTTPException, ValueError):
        connection.close()  # the next request opens it again
        return False


def _post(
    connection: http.client.HTTPConnection, path: str, body: Any, kind: str = "application/json"
) -> tuple[int, dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, content, {"Content-Type": kind})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())
