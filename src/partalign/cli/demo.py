"""partalign demo."""

from __future__ import annotations

from pathlib import Path


def demo(*, out: Path = Path("demo"), seed: int = 0) -> None:
    """Show everything on generated people: train a baseline and the part-aligned network, search, write a report.

    Takes a few minutes on two CPU cores. Stopped with Ctrl-C, the same command goes on where it was.

    Example: partalign demo --out demo-1 --seed 1

    Args:
        out: folder for pictures, models and report.html; it must be empty, or an earlier demo's
        seed: another seed is another world of people
    """
    print(f"partalign demo: {out}, a few minutes on two cores; after Ctrl-C the same command goes on", flush=True)
    import torch

    from partalign.demo import run_demo

    # Networks so small gain nothing from more; and where a container owns less than it sees, more would wait in line.
    torch.set_num_threads(min(2, torch.get_num_threads()))
    outcome = run_demo(out, seed=seed)
    if outcome.found:
        print(f"{out}: finished before, nothing was left to do; delete the folder to make it anew")
    print(outcome.table())
    print(f"report, opens in any browser: {outcome.report}")
