"""A run folder: settings, log, checkpoint, final model; every file is complete or absent, and a run can be resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from partalign import progress
from partalign.errors import MissingExtraError, TrainingError
from partalign.evaluation.scores import Scores
from partalign.files import atomic_file
from partalign.training.settings import PoseSettings, TrainSettings
from partalign.weights.checkpoint import read_checkpoint, save_checkpoint


class Resumable(Protocol):
    """Something that trains: its state is tensors by name."""

    def state(self) -> dict[str, Tensor]:
        """All tensors that decide how training goes on."""
        ...

    def restore(self, tensors: dict[str, Tensor], source: Path) -> None:
        """Take up a state. Raises WeightsError."""
        ...


class Run:
    """The folder of one training run.

    `settings.json` says what is being trained, `log.jsonl` has a line for every iteration and evaluation,
    `last.safetensors` is the newest checkpoint, `model.safetensors` the result. As a context manager it closes the log.
    Raises TrainingError where the folder holds another run, or one to be resumed was not asked for.
    writes: of processes that train together only one writes.
    """

    def __init__(
        self, folder: Path, settings: TrainSettings | PoseSettings, *, resume: bool = False, writes: bool = True
    ):
        self.folder, self.settings, self._writes = Path(folder), settings, writes
        self._log_path = self.folder / "log.jsonl"
        self._checkpoint = self.folder / "last.safetensors"
        self._refuse_others(resume)
        self._file = None
        self._board = _open_board(self.folder) if settings.tensorboard and writes else None

    def __enter__(self):
        if self._writes:
            self._file = self._log_path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_):
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def restore(self, trainer: Resumable) -> int:
        """Give `trainer` the newest checkpoint's state; returns the iterations it has behind it (0 for a fresh run)."""
        # Only now: a run that could not even start leaves its folder free.
        claim = self.folder / "settings.json"
        if self._writes and not claim.exists():
            with atomic_file(claim) as file:
                file.write(json.dumps(self.settings.model_dump(mode="json"), indent=2).encode())
        done = 0
        if self._checkpoint.exists():
            tensors, description = read_checkpoint(self._checkpoint)
            trainer.restore(tensors, self._checkpoint)
            done = int(description["iteration"])
        if self._writes:
            self._cut_log(done)
        return done

    def save(self, trainer: Resumable, iteration: int) -> None:
        """Replace the checkpoint, atomically. Raises SaveError; the previous checkpoint then stays."""
        if not self._writes:
            return
        save_checkpoint(self._checkpoint, trainer.state(), {"format": 1, "kind": "training", "iteration": iteration})

    def log(self, iteration: int, **values: float) -> None:
        """Append one line to the log, and to TensorBoard; where no bar is drawn, print every twentieth."""
        if not self._writes:
            return
        self._write(iteration, values)
        if not progress.console.is_terminal and iteration % 20 == 0:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            _say(f"iteration {iteration}  {shown}")

    def _write(self, iteration: int, values: dict[str, float]) -> None:
        if self._file is None:
            raise TrainingError(f"{self.folder}: the log is closed")
        self._file.write(json.dumps({"iteration": iteration, **{k: round(v, 6) for k, v in values.items()}}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, iteration)

    def log_scores(self, iteration: int, scores: Scores | None) -> None:
        """Log an evaluation, and print it in one line."""
        if scores is None:
            return
        values = headline(scores)
        self._write(iteration, values)
        line = "  ".join(f"{name} {value:.1%}" for name, value in values.items())
        _say(f"iteration {iteration}: {line}")

    def finish(self, network: nn.Module, scores: Scores | None) -> Path:
        """Write `model.safetensors`: the network, how it was built, trained and scored."""
        model = self.folder / "model.safetensors"
        description = {
            "format": 1,
            "kind": "network",
            "network": self.settings.network.model_dump(mode="json"),
            "trained": self.settings.model_dump(mode="json"),
            "results": headline(scores) if scores else {},
        }
        if self._writes:
            save_checkpoint(model, network.state_dict(), description)
        return model

    def _refuse_others(self, resume: bool) -> None:
        mine = self.settings.model_dump(mode="json")
        path = self.folder / "settings.json"
        if path.exists():
            theirs = json.loads(path.read_text(encoding="utf-8"))
            different = sorted(_differences(mine, theirs))
            if different:
                raise TrainingError(
                    f"{self.folder} holds a run with other settings ({', '.join(different)}): choose another --out"
                )
            if not resume:
                raise TrainingError(
                    f"{self.folder} holds a run already: add --resume to go on, or choose another --out"
                )

    def _cut_log(self, done: int) -> None:
        """Drop what was logged after the checkpoint that training goes on from, and a half-written last line."""
        if not self._log_path.exists():
            return
        kept = [line for line in self._log_path.read_text(encoding="utf-8").splitlines() if _iteration(line) <= done]
        with atomic_file(self._log_path) as file:
            file.write("".join(line + "\n" for line in kept).encode())


def headline(scores: Scores) -> dict[str, float]:
    """The figures that logs and model files keep, as fractions."""
    figures = scores.as_dict()
    return {name: figures[name] for name in ("rank-1", "rank-5", "rank-10", "rank-20", "mAP", "mINP")}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pick the tensors whose names start with `prefix`, and take it off."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _iteration(line: str) -> float:
    try:
        return json.loads(line)["iteration"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")


def _say(line: str) -> None:
    progress.console.print(line, highlight=False, soft_wrap=True)


def _differences(mine: dict, theirs: dict, prefix: str = "") -> list[str]:
    names = []
    for key in mine.keys() | theirs.keys():
        a, b = mine.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            names += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            names.append(prefix + key)
    return names


def _open_board(folder: Path):
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        raise MissingExtraError('tensorboard = true needs an extra: pip install "partalign[tensorboard]"') from None
    return SummaryWriter(str(folder))
