"""The command line. One file per group of commands, no logic; commands are imported when they are called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from partalign import __version__
from partalign.errors import PartAlignError

_OF_TORCH = ("torch", "scipy")
_STOPPED = "stopped; what was saved stays: give the same call again, with --resume where the command has that"
_WITHOUT = "without it partalign describes pictures by exported models (.onnx)"

app = App(
    name="partalign",
    help="Find the same person again: part-aligned bilinear representations for person re-identification.",
    version=__version__,
    suppress_keyboard_interrupt=False,  # `main` says what was saved
    help_epilogue="Every command has --help with an example. --debug shows the traceback of an error.",
)
app.command("partalign.cli.demo:demo", name="demo")
app.command("partalign.cli.training:train", name="train")
app.command("partalign.cli.training:pretrain_parts", name="pretrain-parts")
app.command("partalign.cli.evaluation:evaluate", name="evaluate")
app.command("partalign.cli.evaluation:embed", name="embed")
app.command("partalign.cli.shards:embed_many", name="embed-many")
app.command("partalign.cli.evaluation:results", name="results")
app.command("partalign.cli.studies:study", name="study")
app.command("partalign.cli.people:people", name="people")
app.command("partalign.cli.explanation:explain", name="explain")
app.command("partalign.cli.pictures:picture", name="picture")
app.command("partalign.cli.gallery:gallery", name="gallery")
app.command("partalign.cli.data:generate", name="generate")
app.command("partalign.cli.data:convert", name="convert")
app.command("partalign.cli.data:recipes", name="recipes")
app.command("partalign.cli.models:models", name="models")
app.command("partalign.cli.models:average", name="average")
app.command("partalign.cli.models:pack", name="pack")
app.command("partalign.cli.export:export", name="export")
app.command("partalign.cli.export:engines", name="engines")
app.command("partalign.cli.web:serve", name="serve")
app.command("partalign.cli.web:token", name="token")
app.command("partalign.cli.benchmarks:bench", name="bench")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with 0 (done), 1 (failed), 2 (wrong usage) or 130 (stopped with Ctrl-C)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        status = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        status = _fail(str(error).strip(), 2, debug)
    except PartAlignError as error:
        status = _fail(str(error), 1, debug)
    except ModuleNotFoundError as error:
        if error.name not in _OF_TORCH:
            raise
        status = _fail(f'this needs {error.name}: pip install "partalign[torch]"; {_WITHOUT}', 1, debug)
    except KeyboardInterrupt:
        status = _fail(_STOPPED, 130, debug)
    except BrokenPipeError:
        # The reader of our output left (`| head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status or 0)


def _fail(message: str, status: int, debug: bool) -> int:
    """Print an error in one line; called while it is being handled, so that `raise` shows its traceback."""
    if debug:
        raise
    print(f"partalign: {message}", file=sys.stderr)
    return status
