"""A process that changes a gallery until it is killed, and says after each change that it is done."""

import numpy as np

from partalign.gallery import Filter, Record, embedded, matrix, open_gallery, upkeep
from partalign.gallery.database import Database

EACH = 8  # records of a step


def write(pipe, address, model, first, folder=None):
    """Add, remove and now and then compact, for ever; step numbers start at `first`.

    Sends ("try", what, step) before a change and ("done", what, step) after it; where a folder is given also
    ("synced", sizes of its files) whenever the system has promised that everything is on the disk.
    """
    if folder is not None:
        tell_when_synced(pipe, folder)
    with open_gallery(address, model=model, create=True) as gallery:
        if folder is not None:
            # SQLite moves a large journal into the database before COMMIT or VACUUM returns, and so before it is told
            # here that the journal is on the disk: a cut of it would then be one that no power cut makes.
            gallery._database.execute("PRAGMA wal_autocheckpoint = 0")
        draw = np.random.default_rng(first)
        pipe.send(("ready", None, first))
        for step in range(first, 10**9):
            made = [Record(f"r{step * EACH + i:08}", camera=str(step)) for i in range(EACH)]
            rows = draw.standard_normal((EACH, model.dimension)).astype(np.float32)
            pipe.send(("try", "add", step))
            gallery.add(made, rows, [b"\xff\xd8" + bytes(500)] * EACH)
            pipe.send(("done", "add", step))
            if step % 3 == 0:
                pipe.send(("try", "remove", step))
                gallery.remove(Filter(cameras=(str(step),)))
                pipe.send(("done", "remove", step))
            if step % 7 == 0 and folder is not None:
                gallery.compact()


def tell_when_synced(pipe, folder):
    execute, write_rows = Database.execute, matrix.write_rows

    def tell(pattern):
        pipe.send(("synced", None, {path.name: path.stat().st_size for path in folder.glob(pattern)}))

    def executed(self, statement, values=()):
        rows = execute(self, statement, values)
        if statement in ("COMMIT", "VACUUM"):
            tell("*-wal")
        return rows

    def written(*arguments):
        write_rows(*arguments)
        tell("vectors-*")

    Database.execute = executed
    embedded.write_rows = upkeep.write_rows = written


class Account:
    """What writers have said: which steps must be there, which must not, and which may be either."""

    def __init__(self):
        self.added, self.removed, self.open, self.sizes, self.next = set(), set(), {}, {}, 0

    def read(self, pipe):
        """Take in everything that a writer said before it was killed."""
        try:
            while pipe.poll():
                self.take(*pipe.recv())
        except (EOFError, OSError):
            pass

    def take(self, kind, what, value):
        if kind == "synced":
            self.sizes |= value
            return
        self.next = max(self.next, value + 1 if kind != "ready" else value)
        if kind == "try":
            self.open[value] = what
        elif kind == "done":
            self.open.pop(value, None)
            (self.added if what == "add" else self.removed).add(value)

    def check(self, gallery):
        """Compare with what the gallery holds."""
        found = gallery.values("camera")
        for step in self.added - self.removed:
            allowed = (0, EACH) if self.open.get(step) == "remove" else (EACH,)
            assert found.get(str(step), 0) in allowed, f"step {step} was added"
        for step in self.removed:
            assert str(step) not in found, f"step {step} was removed"
        assert set(found.values()) <= {EACH}, "all of an addition, or nothing"
        assert {int(step) for step in found} <= self.added | self.open.keys()
