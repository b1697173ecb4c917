"""Numbers of the pages that stand in results: written from their JSON, never typed.

    python -m qa.pages            # writes them anew into README.md and docs/

What stands between `<!-- NAME: FILE WORDS -->` and `<!-- end -->` is made of a file
below `experiments/results` by the function of that name: `number` is for a span within
a sentence, the others are those of `page_tables`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from qa import page_tables

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
END = "<!-- end -->"
MARKED = re.compile(
    r"(?P<head><!-- (?P<name>\w+): (?P<file>\S+\.json)(?P<words>[^\n]*?) -->)"
    rf".*?(?P<tail>{END})",
    re.DOTALL,
)


def pages() -> list[Path]:
    """The files that may hold marked numbers."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def renewed(text: str) -> str:
    """The text of a page with all its marked numbers made anew.

    Raises:
      ValueError: a mark names no file, function or number that there is, or cannot be
        read as a mark.
    """

    def make(found: re.Match) -> str:
        try:
            result = json.loads((RESULTS / found["file"]).read_text(encoding="utf-8"))
            made = MADE_BY[found["name"]](result, *found["words"].split())
        except (KeyError, LookupError, OSError, StopIteration, TypeError) as error:
            raise ValueError(f"{found['head']}: cannot be made, {error!r}") from error
        return found["head"] + made + found["tail"]

    made, count = MARKED.subn(make, text)
    if count != text.count(END):
        raise ValueError(
            f"{text.count(END)} times {END}, but {count} marks that begin as"
            " `<!-- NAME: FILE.json WORDS -->`"
        )
    return made


def number(result: Any, *words: str) -> str:
    """One number: `rows/lt4rec.s_weight/metrics/cvr.mse/mean .4f`.

    Of a list a key takes the element at that place, or the one that holds the key.
    """
    *path, form = words
    for key in " ".join(path).split("/"):
        if isinstance(result, list):
            named = (row for row in result if key in map(str, row.values()))
            result = result[int(key)] if key.isdigit() else next(named)
        else:
            result = result[key]
    return format(result, form)


MADE_BY = {
    made.__name__: made
    for made in (
        number,
        page_tables.adaptation,
        page_tables.answers,
        page_tables.bundles,
        page_tables.changes,
        page_tables.contrasts,
        page_tables.costs,
        page_tables.daily,
        page_tables.margins,
        page_tables.online,
        page_tables.sweep,
    )
}
"""Name of a mark -> what makes it."""


def main() -> None:
    """Writes all marked numbers anew."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        path.write_text(renewed(text), encoding="utf-8")


if __name__ == "__main__":
    main()
