"""Measures the code: its lines, the files a walk leads through, searches, compilations.

    python -m qa.house            # prints JSON
    python -m qa.house lines      # that alone; also `walks`, `table2`

- lines: logical ones, without blanks, comments and docstrings, of `jaxmtl`,
  `experiments`, `qa` and `tests`.
- walks: the distinct files of the project whose functions run on the way of a batch
  from disk to loss, of a mask from its search to an exported folder, and of a setting
  from the command line to the program that is trained. What a walk only passes by
  (the training itself on the way of a mask) is left out.
- table2: what `lt4rec.table2` searches and compiles, on tiny settings, in one process.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import io
import json
import sys
import tempfile
import threading
import tokenize
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("jaxmtl", "experiments", "qa", "tests")
TINY = """
--data.feed.users 60 --data.feed.videos 60 --data.feed.impressions 3000
--data.feed.days 4 --model.hidden 16 8 --model.embedding-dim 4
--model.dcrnn.length 2 --model.dcrnn.interval 1 --model.dcrnn.hidden 4
--model.mmoe.experts 2 --model.mmoe.expert-hidden 8 4
--model.ple.shared-experts 1 --model.ple.task-experts 1
--model.ple.expert-hidden 8 4 --training.batch-size 256 --training.epochs 1
--pruning.rounds 1 --pruning.epochs 1 --no-report --seeds 1 --processes 1
"""
LAYOUT = frozenset(
    (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
)


def logical_lines(path: Path) -> int:
    """Lines of a file that hold code: no blanks, comments or docstrings."""
    text = path.read_text(encoding="utf-8")
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        # A string that stands alone documents: a module, a function, an attribute.
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            prose |= set(range(node.lineno, node.end_lineno + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT and token.type != tokenize.ENDMARKER:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - prose)


def lines() -> dict[str, int]:
    """Part of the project -> its logical lines."""
    return {
        part: sum(logical_lines(path) for path in sorted((ROOT / part).rglob("*.py")))
        for part in PARTS
    }


@contextlib.contextmanager
def files_run(passed_by: Collection[str] = ()) -> Iterator[set[str]]:
    """Collects the files of `jaxmtl` and `experiments` whose functions run inside.

    Args:
      passed_by: names of functions that are left out, with all that they call.
    """
    found: set[str] = set()
    inside = threading.local()
    roots = tuple(f"{ROOT / part}/" for part in PARTS[:2])

    def look(frame, event, argument):
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(roots):
            return
        if code.co_name in passed_by:
            inside.depth = getattr(inside, "depth", 0) + (1 if event == "call" else -1)
            return
        walked = event == "call" and not getattr(inside, "depth", 0)
        if walked and code.co_name != "<module>":
            found.add(str(Path(code.co_filename).relative_to(ROOT)))

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def walks() -> dict[str, list[str]]:
    """Walk -> the files it leads through."""
    from experiments import export, run
    from experiments.running import joint
    from experiments.running.monitor import Monitor
    from experiments.settings import sources
    from qa.recorder import tiny

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        work, cache = Path(folder), Path(folder) / "cache"
        config = _with_cache(tiny("lt4rec.s_weight"), cache)
        sources.load(config.data, say=_quiet)  # prepares
        (work / "batch").mkdir()
        ablation = _row("lt4rec.hard_sharing_trunk", cache)
        with files_run({"checksums"}) as files:
            data = sources.load(config.data, say=_quiet)
            with contextlib.closing(Monitor(work / "batch")) as monitor:
                ready = joint.prepare(ablation.config, 0, data, work, monitor)
                joint.train(ablation.config, ready, 0, data, lambda *_: None)
        found["batch"] = sorted(files)

        argv = [*TINY.split(), "--data.cache", str(cache), "--workdir"]
        passed = {"fit", "predict_all", "load", "report", "score"}
        with files_run(passed) as files, _silence():
            run.main(["lt4rec.s_weight", *argv, str(work / "mask")])
            out = ("--out", str(work / "served"), "--cache", str(cache))
            export.main([str(work / "mask"), *out])
        found["mask"] = sorted(files)

        passed = {"load", "find", "write", "claim", "score", "predict_all", "save"}
        with files_run(passed) as files, _silence():
            run.main(["lt4rec.s_weight_sum", *argv, str(work / "setting")])
        found["setting"] = sorted(files)
    return found


def table2() -> dict[str, int]:
    """What Table 2 searches and compiles on tiny settings."""
    import jax

    from experiments import run

    counts: collections.Counter[str] = collections.Counter()

    def count(name: str, seconds: float, **_) -> None:
        if name == "/jax/core/compile/backend_compile_duration":
            counts["compilations"] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    with tempfile.TemporaryDirectory() as folder, _silence():
        argv = ["--data.cache", f"{folder}/cache", "--workdir", f"{folder}/run"]
        code = run.main(["lt4rec.table2", *TINY.split(), *argv])
        searches = len(list(Path(folder).glob("run/tickets/*/seed*")))
    return {"exit code": code, "searches": searches} | dict(counts)


def _row(name: str, cache: Path):
    from experiments.settings.ablation import Ablation, load
    from qa.recorder import tiny

    return Ablation(name, load(name).ROW, _with_cache(tiny(name), cache))


def _with_cache(config, cache: Path):
    from dataclasses import replace

    return replace(config, data=replace(config.data, cache=cache))


def _quiet(text: str) -> None:
    del text


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


MEASURES: dict[str, Callable[[], dict]] = {
    "lines": lines,
    "table2": table2,  # before the walks, which compile some of its programs
    "walks": walks,
}


def main(argv: list[str]) -> int:
    """Prints the measures named, or all."""
    unknown = set(argv) - set(MEASURES)
    if unknown:
        print(f"{sorted(unknown)}: give some of {list(MEASURES)}", file=sys.stderr)
        return 2
    found = {name: MEASURES[name]() for name in argv or MEASURES}
    if "walks" in found:
        found["files on the walks"] = {k: len(v) for k, v in found["walks"].items()}
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
