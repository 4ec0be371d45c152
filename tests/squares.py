"""A worker for tests in a module that other processes can import."""

import os
import signal

from partalign.errors import WeightsError


class Square:
    """Squares numbers; ends its process at 13, and raises at 17."""

    def __init__(self, more=0):
        self.more = more

    def __call__(self, number):
        if number == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 17:
            raise WeightsError("seventeen")
        return number, number**2 + self.more, os.getpid()
