"""Contenders in processes of their own, which take turns and may run out of memory.

Threads and memory of one do not touch the others, and one that needs more memory than
it may have ends alone: the measurement goes on and says so.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

try:
    import resource
except ImportError:  # on Windows
    resource = None

PATIENCE = 10.0
"""Seconds that a process has to end by itself."""
Run = Callable[[], object]
Make = Callable[[], tuple[Run, Any]]
OUT_OF_MEMORY = "out of memory"
WORDS = ("memory", "alloc", "exhausted")
"""One of them is in what NumPy, PyTorch and XLA say where memory runs out."""


class Failed(RuntimeError):
    """A contender cannot take part, or can no longer; says why."""


class Apart:
    """A contender in a fresh process, to be asked to run again and again.

    Attributes:
      about: what its maker told of it.
    """

    def __init__(self, make: Make, memory: float):
        """Starts the process and makes the contender there.

        Args:
          make: gives what to run and what to know of it; can be pickled.
          memory: bytes that the process may fill. Linux counts them.

        Raises:
          Failed: the contender could not be made.
        """
        spawn = multiprocessing.get_context("spawn")
        self._answers, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_serve, args=(theirs, make, memory), daemon=True
        )
        self._process.start()
        theirs.close()
        self.about = self._receive()

    def seconds(self) -> float:
        """How long a run takes; one that is not timed goes before it.

        That compiles, and the threads of whoever went before come to rest.

        Raises:
          Failed: it ran out of memory, or failed.
        """
        self._answers.send(None)
        return self._receive()

    def close(self) -> None:
        """Ends the process."""
        self._answers.close()  # it ends where nobody asks any more
        self._process.join(PATIENCE)
        self._process.terminate()
        self._process.join()

    def _receive(self) -> Any:
        try:
            answer = self._answers.recv()
        except (EOFError, ConnectionResetError):
            # The system kills who takes more than there is, and some allocators abort.
            answer = _Reason(f"{OUT_OF_MEMORY}, or its process was killed")
        if isinstance(answer, _Reason):
            self.close()
            raise Failed(answer.text)
        return answer


class _Reason(NamedTuple):
    text: str


def _serve(answers: Connection, make: Make, memory: float) -> None:
    """Makes the contender and runs it whenever asked, until nobody asks any more."""
    try:
        _limit(memory)
        silence = io.StringIO()  # of progress bars
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            run, about = make()
            answers.send(about)
            while True:
                answers.recv()
                run()
                started = time.perf_counter()
                run()
                answers.send(time.perf_counter() - started)
    except EOFError:
        return
    except Exception as error:
        answers.send(_Reason(_why(error)))


def _limit(memory: float) -> None:
    if resource is not None:
        # Of data and not of addresses, many more of which are mapped than filled.
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))


def _why(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    if any(word in text.lower() for word in WORDS):
        return OUT_OF_MEMORY
    return text.partition("\n")[0]
