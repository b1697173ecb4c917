"""All readers by name, for the command and for the processes that it starts."""

from __future__ import annotations

import difflib

from qa.fuzz import logs, stored
from qa.fuzz.readers import Reader

READERS = logs.READERS | stored.READERS


def find_reader(name: str) -> Reader:
    """The reader of that name.

    Raises:
      ValueError: there is none; names the nearest.
    """
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1, cutoff=0.3)
        suggestion = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"no reader is called {name!r}{suggestion} (known are {', '.join(READERS)})"
        )
    return READERS[name]
