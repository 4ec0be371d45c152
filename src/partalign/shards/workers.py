"""Tasks spread over workers: one after another here, over processes, or over the machines of a Ray cluster.

Knows nothing of what the tasks are. A worker is made where it works and is given task after task; a task that was
begun by a worker that died is begun again by another.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from partalign.errors import MissingExtraError, PartAlignError, ShardsError
from partalign.progress import console

Work = Callable[[Any], Any]

_TRIES = 3  # how often a task is given to another worker when those that had it died: it may be what kills them
_MOST_BLOCKS = 2000  # Ray's book-keeping of more pieces of work would cost more than their size saves


@dataclass(frozen=True)
class Workers:
    """How many work, and where.

    count: 1 works here, more are processes, on Ray actors; None is 1 here, on Ray one for each CPU core or GPU. ray:
    None, "local" (Ray on this machine alone), "auto" (the cluster that this machine is part of) or its address.
    gpu: each worker needs a GPU; of use on Ray only. Raises ShardsError where `count` is below one.
    """

    count: int | None = None
    ray: str | None = None
    gpu: bool = False

    def __post_init__(self):
        if self.count is not None and self.count < 1:
            raise ShardsError(f"expected one worker at least, found {self.count}: give a larger number, or none")

    def run(self, make: Callable[[], Work], tasks: Sequence[Any]) -> Iterator[Any]:
        """Yield what the workers that `make` makes return for each task, in the order in which they finish.

        make, tasks and results must be picklable. Raises what a worker raises of PartAlignError; ShardsError where
        workers died, after all that could be done was; MissingExtraError where Ray is not installed.
        """
        if not tasks:
            return iter(())
        if self.ray is not None:
            return _on_ray(make, tasks, self)
        if (self.count or 1) > 1:
            return _in_processes(make, tasks, self.count or 1)
        return map(make(), tasks)


HERE = Workers()


def _in_processes(make: Callable[[], Work], tasks: Sequence[Any], count: int) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")  # a fork of a process in which torch has threads may hang
    others = multiprocessing.active_children()
    with _threads(count), ProcessPoolExecutor(min(count, len(tasks)), context, _begin, (make,)) as pool:
        try:
            for future in as_completed([pool.submit(_work, task) for task in tasks]):
                yield future.result()
        except BaseException as error:  # Ctrl-C too: a worker would finish its task first
            for process in set(multiprocessing.active_children()) - set(others):
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise ShardsError(
                    "a worker ended by itself (killed, or out of memory?): what is done stands, the same call goes on"
                ) from None
            raise


_make: Callable[[], Work]  # of a process in a pool
_worker: Work | None = None


def _begin(make: Callable[[], Work]) -> None:
    """Make ready a process in a pool: Ctrl-C ends it at once, and it leaves the terminal to the one that started it."""
    global _make
    _make, console.quiet = make, True
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _work(task: Any) -> Any:
    global _worker
    if _worker is None:
        _worker = _make()
    return _worker(task)


@contextmanager
def _threads(processes: int) -> Iterator[None]:
    """Let the processes started meanwhile share the cores, unless the user has decided that."""
    name = "OMP_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(max(1, (os.cpu_count() or 1) // processes))
    try:
        yield
    finally:
        del os.environ[name]


class _Actor:
    """A worker in Ray. Errors travel as values: Ray would take them for a reason to give the task up, and go on."""

    def __init__(self, make: Callable[[], Work]):
        self._make, self._worker = make, None

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        try:
            if self._worker is None:
                self._worker = self._make()
            result = self._worker(pickle.loads(row["task"]))  # noqa: S301 - made below
        except PartAlignError as error:
            result = error
        except Exception as error:
            result = ShardsError(f"a worker failed ({type(error).__name__}: {_last_line(error)}): see Ray's log")
        return {"result": pickle.dumps(result)}


def _on_ray(make: Callable[[], Work], tasks: Sequence[Any], workers: Workers) -> Iterator[Any]:
    data = _ray_data()
    from ray.exceptions import RayError

    done = 0
    with _cluster(workers) as (count, resources):
        context = data.DataContext.get_current()
        context.enable_progress_bars, context.max_errored_blocks = False, -1
        rows = data.from_items(
            [{"task": pickle.dumps(task)} for task in tasks], override_num_blocks=min(len(tasks), _MOST_BLOCKS)
        )
        pool = data.ActorPoolStrategy(size=min(count, len(tasks)), max_tasks_in_flight_per_actor=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray 2.64 will no longer take the tries, and pyproject.toml stays below it
            retries = {"max_restarts": -1, "max_task_retries": _TRIES}
            results = rows.map(_Actor, fn_constructor_args=(make,), compute=pool, **resources, **retries)
        try:
            for row in results.iter_rows():
                result = pickle.loads(row["result"])  # noqa: S301 - made by our own workers; Ray itself pickles
                if isinstance(result, PartAlignError):
                    raise result
                done += 1
                yield result
        except RayError as error:
            raise ShardsError(f"Ray: {_last_line(error)}: what is done stands, the same call goes on") from None
    if done < len(tasks):
        raise ShardsError(
            f"{len(tasks) - done:,} of {len(tasks):,} pieces of work were given up, as {_TRIES + 1} workers died at "
            "each: what is done stands; look into Ray's log, and the same call tries again"
        )


@contextmanager
def _cluster(workers: Workers) -> Iterator[tuple[int, dict[str, float]]]:
    """Join or start Ray; yields how many workers there are to be and what each takes."""
    import ray

    joined = ray.is_initialized()
    if not joined:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if workers.ray == "local":  # what passes through the store of objects is small
            quiet |= {"include_dashboard": False, "object_store_memory": 200 * 2**20}
        try:
            ray.init(address=workers.ray, **quiet)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ShardsError(
                f"cannot join Ray at {workers.ray} ({_last_line(error)}): start it there, or give --ray local"
            ) from None
    try:
        have = ray.cluster_resources()
        cores, gpus = int(have.get("CPU", 0)), int(have.get("GPU", 0))
        if workers.gpu and not gpus:
            raise ShardsError("expected a GPU in the Ray cluster, found none: leave out --device cuda, or add machines")
        if workers.gpu:  # each with its share of the cores, which decode pictures
            yield workers.count or gpus, {"num_gpus": 1, "num_cpus": max(1, cores // gpus)}
        else:
            yield workers.count or max(1, cores), {"num_cpus": 1}
    finally:
        if not joined:
            ray.shutdown()


def _ray_data() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it tells its makers of every cluster
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # warnings of its own internals, on standard error
    try:
        import ray.data
    except ImportError:
        raise MissingExtraError('work on several machines needs Ray: pip install "partalign[ray]"') from None
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # of its tracebacks ours is the line that counts
    return ray.data


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
