"""The text of a serialised program, read by a process that may crash or hang over it.

MLIR's reader of bytecode is native code that takes its input for sound: a changed byte
can make it jump to nowhere or never come back. So the bytes are read in a process of
their own, with a limit on its time, and the caller goes on with the text that process
printed. MLIR's text parser is made for people's mistakes.

Run as a script this file is that process. It imports JAX once and then forks for every
program, so that each is read by a process that has read nothing else.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO

SECONDS = 60
"""That reading one program may take; it takes milliseconds."""
_READ, _REFUSED = b"+", b"-"
_HEADER = struct.Struct("<cQ")
"""Of a message: what it is, and how many bytes follow."""
_turn = threading.Lock()
_reader: tuple[int, subprocess.Popen] | None = None
"""Whose it is, as a forked process must not share it, and the process that reads."""


@functools.lru_cache(maxsize=32)
def program_text(content: bytes) -> str:
    """The StableHLO of what `jax.export` serialised.

    Raises:
      ValueError: it is no program, or reading it ended or held up its process.
    """
    with _turn:
        process = _running()
        try:
            _write(process.stdin, _READ, content)
            kind, answer = _read(process.stdout)
        except (EOFError, OSError) as error:
            _stop()
            raise ValueError("the process that reads programs died") from error
        except BaseException:  # lest a late answer be taken for the next one
            _stop()
            raise
    text = answer.decode(errors="replace")
    if kind != _READ:
        raise ValueError(text)
    return text


def _running() -> subprocess.Popen:
    global _reader
    if _reader and (_reader[0] != os.getpid() or _reader[1].poll() is not None):
        _stop()
    if _reader is None:
        pipe = subprocess.PIPE
        # -P: this folder has modules named as the standard library's.
        process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        _reader = (os.getpid(), process)
    return _reader[1]


@atexit.register
def _stop() -> None:
    """Ends the reader of this process, if it has one."""
    global _reader
    if _reader is not None and _reader[0] == os.getpid():
        process = _reader[1]
        with contextlib.suppress(OSError):  # what it could not be told any more
            process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
    _reader = None


def _write(stream: BinaryIO, kind: bytes, content: bytes) -> None:
    stream.write(_HEADER.pack(kind, len(content)) + content)
    stream.flush()


def _read(stream: BinaryIO) -> tuple[bytes, bytes]:
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    kind, size = _HEADER.unpack(header)
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return kind, content


# What follows is done by the process that reads


def _serve() -> None:
    """Answers until nobody asks any more."""
    import jax.export  # so that the processes it forks have it

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for whatever else would print
    while True:
        try:
            _, content = _read(sys.stdin.buffer)
        except EOFError:
            return
        if not hasattr(os, "fork"):
            _write(answers, *_answer(jax.export.deserialize, content))
        elif child := os.fork():
            _, status = os.waitpid(child, 0)
            if status:
                _write(answers, _REFUSED, _reason(status).encode())
        else:
            signal.alarm(SECONDS)
            answer = _answer(jax.export.deserialize, content)
            signal.alarm(0)  # half an answer would be none
            _write(answers, *answer)
            os._exit(0)


def _answer(deserialize: Callable, content: bytes) -> tuple[bytes, bytes]:
    """A program's text, or why there is none."""
    try:
        return _READ, deserialize(bytearray(content)).mlir_module().encode()
    except Exception as error:  # whatever a parser meets in bytes that are no program
        return _REFUSED, repr(error).encode(errors="replace")


def _reason(status: int) -> str:
    """Why a process ended before it answered."""
    ended_by = os.waitstatus_to_exitcode(status)
    if ended_by == -signal.SIGALRM:
        return f"reading it took over {SECONDS} s"
    return f"reading it ended its process ({ended_by})"


if __name__ == "__main__":
    _serve()
