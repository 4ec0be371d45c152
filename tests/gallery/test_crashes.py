"""Nothing acknowledged is lost: processes killed at random moments, files cut as a power cut may leave them."""

import multiprocessing
import os
import random
import subprocess
import sys
import time
from contextlib import suppress

import pytest

import gallery_writer
from gallery_records import MODEL, start_server
from partalign.errors import GalleryError
from partalign.gallery import open_gallery

KILLS = int(os.environ.get("PARTALIGN_KILLS", "100"))
SERVER_KILLS = int(os.environ.get("PARTALIGN_SERVER_KILLS", "100"))


@pytest.fixture(scope="module")
def processes():
    """Start processes from one that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gallery_writer", "partalign.gallery.embedded", "partalign.gallery.server"])
    return context


def start(processes, *arguments):
    ours, theirs = processes.Pipe(duplex=False)
    writer = processes.Process(target=gallery_writer.write, args=(theirs, *arguments), daemon=True)
    writer.start()
    theirs.close()
    return writer, ours


def kill(writer, pipe, account):
    writer.kill()
    writer.join()
    account.read(pipe)
    pipe.close()
    writer.close()


def test_acknowledged_changes_outlive_kills_at_random_moments(tmp_path, processes):
    folder, account, chance, cuts = tmp_path / "gallery", gallery_writer.Account(), random.Random(0), 0
    for number in range(KILLS):
        account.sizes = {}
        writer, pipe = start(processes, folder, MODEL, account.next, folder)
        if number % 5:
            # A random place in what it does, however busy the machine is: a step of it says four things or more.
            for _ in range(chance.randint(1, 30)):
                pipe.poll(60)
                account.take(*pipe.recv())
        time.sleep(chance.uniform(0, 0.02))
        kill(writer, pipe, account)
        cuts += cut(folder, account.sizes, chance)
        if number % 10 == 9:
            with open_gallery(folder, model=MODEL) as gallery:
                account.check(gallery)
                assert gallery.verify() == []
    assert len(account.added) > KILLS / 2
    assert len(account.removed) > KILLS / 10
    assert cuts > KILLS / 10


def cut(folder, sizes, chance):
    """Cut files somewhere behind what the disk was known to hold, or fill that with zeros; returns whether any.

    The database itself is written from its journal only, which stays until the database is known to be on the disk.
    """
    done = False
    for path in [*folder.glob("vectors-*"), *folder.glob("*-wal")]:
        now, known = path.stat().st_size, sizes.get(path.name)
        if known is not None and now > known:
            where = chance.randint(known, now)
            os.truncate(path, where)
            if chance.random() < 0.5:
                os.truncate(path, now)
            done = True
    return done


def test_two_processes_write_at_once(tmp_path, processes):
    folder = tmp_path / "gallery"
    open_gallery(folder, model=MODEL, create=True).close()
    accounts = gallery_writer.Account(), gallery_writer.Account()
    writers = [start(processes, folder, MODEL, first) for first in (0, 10**6)]
    for (_, pipe), account in zip(writers, accounts, strict=True):
        while len(account.added) < 3:  # however busy the machine is
            assert pipe.poll(60)
            account.take(*pipe.recv())
    for (writer, pipe), account in zip(writers, accounts, strict=True):
        assert writer.is_alive()
        kill(writer, pipe, account)
        assert account.added
    both = gallery_writer.Account()
    both.added, both.removed = accounts[0].added | accounts[1].added, accounts[0].removed | accounts[1].removed
    both.open = accounts[0].open | accounts[1].open
    with open_gallery(folder, model=MODEL) as gallery:
        both.check(gallery)
        assert gallery.verify() == []


def start_killable_server(folder):
    """Start a server that is soon up again after a kill.

    By default it then syncs each of its thousand files, and by seconds it is this that a start takes; told so, it syncs
    the whole file system at once. What it promises stays: it syncs before it says that a change is done.
    """
    server = start_server(folder)
    if sys.platform == "linux":
        server.psql("ALTER SYSTEM SET recovery_init_sync_method = syncfs")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert "on" in server.psql(f"SHOW {setting}").split()
    return server


def kill_server(server, folder):
    """Kill all processes of a server at once, and wait for the last of them to be gone."""
    import psutil  # the starter of servers needs it

    postmaster = psutil.Process(server.get_pid())
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:  # the system may take seconds to forget it
                time.sleep(0.002)
    # The numbers in them may belong to other processes by now, or to the zombies.
    (folder / "postmaster.pid").unlink()
    (server.get_postmaster_info().socket_dir / ".s.PGSQL.5432.lock").unlink(missing_ok=True)


def start_again(server):
    """A process that the server began while it was killed may live for a moment, and keep the next one from it."""
    for _ in range(20):
        with suppress(subprocess.SubprocessError):  # or it takes longer than the starter waits
            return server.ensure_postgres_running()
        time.sleep(0.5)
    pytest.fail("the server does not start again")


def test_the_server_killed_under_load_keeps_what_it_acknowledged(processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server", numbered=True)
    server = start_killable_server(folder)
    address, chance = f"{server.get_uri()}&gallery=load", random.Random(0)
    accounts = gallery_writer.Account(), gallery_writer.Account()
    accounts[1].next = 10**6
    try:
        open_gallery(address, model=MODEL, create=True).close()
        for _ in range(SERVER_KILLS):
            writers = [start(processes, address, MODEL, account.next) for account in accounts]
            for (_, pipe), account in zip(writers, accounts, strict=True):
                pipe.poll(60)
                account.take(*pipe.recv())
            time.sleep(chance.uniform(0, 0.2))
            kill_server(server, folder)
            for (writer, pipe), account in zip(writers, accounts, strict=True):
                writer.join(30)  # it ends by itself, for the server does not answer
                assert writer.exitcode == 1
                kill(writer, pipe, account)
            start_again(server)
            with open_gallery(address, model=MODEL) as gallery:
                both = gallery_writer.Account()
                for account in accounts:
                    both.added |= account.added
                    both.removed |= account.removed
                    both.open |= account.open
                both.check(gallery)
                assert gallery.verify() == []
        assert all(len(account.added) > SERVER_KILLS / 2 for account in accounts)
    finally:
        server.cleanup()


def test_a_gallery_goes_on_after_its_server_was_restarted(tmp_path_factory):
    server = start_server(tmp_path_factory.mktemp("restarted", numbered=True))
    try:
        with open_gallery(f"{server.get_uri()}&gallery=again", model=MODEL, create=True) as gallery:
            server.stop()
            with pytest.raises(GalleryError, match="server"):
                gallery.count()
            server.ensure_postgres_running()
            assert gallery.count() == 0
    finally:
        server.cleanup()
