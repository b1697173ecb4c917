"""Would the tests notice? Small faults are put into the code, one at a time.

python -m qa.mutate --workdir runs/mutation

Cosmic Ray (the extra `mutation`) lists every place of a module that it can damage: an
operator, a comparison, a number, a branch, a loop. Of each module a number of places
are drawn, and of each place one fault. A fault is killed when the module's own tests
fail or hang, and survives when they pass. What is done is kept: the same command goes
on, a larger `--places` adds to it, and `--retry` gives the survivors to the tests as
they are now.
"""

from __future__ import annotations

import argparse
import ast
import collections
import math
import os
import random
import shlex
import shutil
import sys
import time
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.testing import run_tests
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkItem

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "masks": "jaxmtl/sparsity/masks.py",
    "pruning": "jaxmtl/sparsity/pruning.py",
    "tickets": "jaxmtl/sparsity/tickets.py",
    "losses": "jaxmtl/losses.py",
    "metrics": "jaxmtl/metrics",
    "embedding": "jaxmtl/tables/embedding.py",
    "optim": "jaxmtl/optim",
    "balancing": "jaxmtl/balancing",
}
"""Name -> a module, or a package with all of its files; its own tests stand where
`tests/` mirrors it."""
MORE_TESTS = {
    "embedding": ("tests/tables/test_row_optim.py",),
    **dict.fromkeys(("metrics", "optim", "balancing"), ("tests/test_discovery.py",)),
}
"""Name -> further files that test it."""
PATIENCE = 10
"""Tests hang that take so many times as long as without the fault."""


def untouched(path: Path) -> set[tuple[int, int]]:
    """Line and column of what can change no result.

    All within type annotations, which nothing evaluates; and whether a `zip` checks
    lengths or a sort is stable (XLA's are anyway on a CPU).
    """
    found: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg in ("strict", "stable"):
            found.add((node.value.lineno, node.value.col_offset))
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if part is not None:
                first, last = part.lineno, part.end_lineno
                for line in range(first, last + 1):
                    start = part.col_offset if line == first else 0
                    stop = part.end_col_offset if line == last else 99
                    found |= {(line, column) for column in range(start, stop)}
    return found


def files(module: str) -> list[Path]:
    """The files of a module, or of a package."""
    path = Path(MODULES[module])
    return sorted(path.rglob("*.py")) or [path]


def module_of(fault: MutationSpec) -> str:
    """The module, or package, that a fault lies in."""
    return next(m for m in MODULES if fault.module_path in files(m))


def draw(module: str, places: int, seed: int) -> list[MutationSpec]:
    """One fault at each of so many places of a module, or at all it has.

    A larger number begins with the same places.
    """
    paths = files(module)
    left = {path: untouched(path) for path in paths}
    choices = collections.defaultdict(list)
    every = WorkDB(":memory:", WorkDB.Mode.create)
    init(paths, every, {})
    for item in every.work_items:
        (fault,) = item.mutations
        kind = fault.operator_name.split("/")[-1].split("_")[0]
        # Short texts and small numbers are one object each: `is` compares as `==` does.
        is_same = fault.operator_name.endswith(("_Is", "_IsNot"))
        if not is_same and fault.start_pos not in left[fault.module_path]:
            place = (str(fault.module_path), fault.start_pos, kind)
            choices[place].append(fault)
    rng = random.Random(f"{seed} {module}")
    drawn = [rng.choice(choices[place]) for place in sorted(choices)]
    rng.shuffle(drawn)
    return drawn[:places]


def name_of(fault: MutationSpec) -> str:
    line, column = fault.start_pos
    operator = fault.operator_name.split("/")[-1]
    return f"{fault.module_path.stem}:{line}:{column} {operator} {fault.occurrence}"


def command(module: str) -> str:
    mirrored = Path("tests", *Path(MODULES[module]).parts[1:])
    if mirrored.suffix:
        mirrored = mirrored.with_name(f"test_{mirrored.name}")
    files = [str(mirrored), *MORE_TESTS.get(module, ())]
    options = "-x -q --tb=line -p no:cacheprovider --hypothesis-profile=mutants"
    return f"{shlex.quote(sys.executable)} -m pytest {options} {' '.join(files)}"


def wilson(killed: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    z = 1.96
    middle = (killed + z * z / 2) / (total + z * z)
    share = killed / total
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    half /= 1 + z * z / total
    return middle - half, middle + half


def report(session: WorkDB) -> None:
    """What became of the faults, by module, and those that survived."""
    outcomes = collections.defaultdict(collections.Counter)
    survivors = []
    for item, result in session.completed_work_items:
        module = module_of(item.mutations[0])
        killed = result.test_outcome == TestOutcome.KILLED
        kind = "hung" if result.output == "timeout" else "killed"
        outcomes[module][kind if killed else "survived"] += 1
        if not killed:
            survivors.append((item.job_id, result.diff))
    for name, diff in sorted(survivors):
        print(f"\nsurvived: {name}\n{diff}")
    print(f"\n{'module':<12}{'faults':>8}{'killed':>8}{'hung':>8}{'survived':>10}")
    outcomes["all"] = sum(outcomes.values(), collections.Counter())
    for module, counts in outcomes.items():
        numbers = (counts.total(), counts["killed"], counts["hung"])
        shown = "".join(f"{number:8}" for number in numbers)
        print(f"{module:<12}{shown}{counts['survived']:10}")
    total = outcomes["all"].total()
    found = total - outcomes["all"]["survived"]
    low, high = wilson(found, total)
    print(f"found: {found / total:.1%}, 95 % interval {low:.1%} to {high:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--places", type=int, default=30, help="of each module")
    parser.add_argument("--modules", nargs="+", default=list(MODULES), choices=MODULES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--retry", action="store_true", help="the survivors")
    options = parser.parse_args()
    tree = options.workdir.resolve() / "tree"  # the faults go into a copy
    for name in ("jaxmtl", "experiments", "qa", "tests"):
        if name == "tests" or not (tree / name).exists():
            unwanted = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(
                ROOT / name, tree / name, ignore=unwanted, dirs_exist_ok=True
            )
    shutil.copy(ROOT / "pyproject.toml", tree)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(tree.parent / "programs")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    session = WorkDB(tree.parent / "session.sqlite", WorkDB.Mode.create)
    done = {
        item.job_id
        for item, result in session.completed_work_items
        if not (options.retry and result.test_outcome == TestOutcome.SURVIVED)
    }
    known = {item.job_id for item in session.work_items}
    todo = [f for m in options.modules for f in draw(m, options.places, options.seed)]
    random.Random(options.seed).shuffle(todo)  # any beginning is a fair sample
    patience = {}
    for number, fault in enumerate(todo, 1):
        name, module = name_of(fault), module_of(fault)
        if name in done:
            continue
        if module not in patience:
            start = time.monotonic()
            outcome, output = run_tests(command(module), 3600)
            if outcome != TestOutcome.SURVIVED:
                sys.exit(f"the tests of {module} fail without any fault:\n{output}")
            patience[module] = PATIENCE * (time.monotonic() - start)
        if name not in known:
            session.add_work_item(WorkItem.single(name, fault))
        result = mutate_and_test([fault], command(module), patience[module])
        session.set_result(name, result)
        print(f"{number}/{len(todo)} {name}: {result.test_outcome.value}", flush=True)
    report(session)


if __name__ == "__main__":
    main()
