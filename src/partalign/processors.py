"""How many processors to use: the same answer with torch and without it."""

import os
import sys


def thread_count() -> int:
    """Return torch's number of threads where torch is loaded, else OMP_NUM_THREADS, else the processors allowed."""
    if torch := sys.modules.get("torch"):
        return torch.get_num_threads()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
