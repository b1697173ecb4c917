"""Imports run one way, and every public thing says what it is."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("jaxmtl", "experiments", "qa")
FILES = sorted(path for part in PACKAGES for path in (ROOT / part).rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
ONLY_IN = {
    "flax": {"jaxmtl.layers", "jaxmtl.models"},
    "jinja2": {"experiments"},
    "optuna": {"experiments.tuning.trials"},
    "orbax": {"jaxmtl.training.checkpoint"},
    "tensorflow_datasets": {"jaxmtl.data"},
    "matplotlib": {"experiments"},
    "tensorboardX": {"experiments"},
    "tqdm": {"experiments"},
    "tyro": {"experiments", "qa"},
}
"""What may import a library that the rest should be able to do without."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path) for path in FILES}


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, wherever in the file that stands."""
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            # `from jaxmtl import masks` imports a module, `… import Mask` a name.
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= members & NAMES or {node.module}
    return found


IMPORTS = {module_name(path): imports_of(path) & NAMES for path in FILES}
LIBRARIES = {
    module_name(path): {name.partition(".")[0] for name in imports_of(path)}
    for path in FILES
}
PATHS = {module_name(path): path.relative_to(ROOT) for path in FILES}


def imported_parts(start: str) -> set[str]:
    """What modules under a dotted name import of `jaxmtl`, its first two names."""
    inside = lambda name: f"{name}.".startswith(f"{start}.")
    used = set().union(*(IMPORTS[name] for name in NAMES if inside(name)))
    return {".".join(name.split(".")[:2]) for name in used if not inside(name)}


def test_no_two_modules_import_each_other_in_a_circle():
    inside = {name: used - {name} for name, used in IMPORTS.items()}
    tuple(graphlib.TopologicalSorter(inside).static_order())  # raises on a circle


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_no_two_folders_import_each_other_in_a_circle(depth):
    """Neither `jaxmtl/data` and `jaxmtl/tables`, nor what lies deeper in them; a file
    beside folders is one of them."""
    graph = {}
    for name, used in IMPORTS.items():
        short = lambda module: "/".join(PATHS[module].parts[:depth])
        graph.setdefault(short(name), set()).update(map(short, used))
    graph = {folder: used - {folder} for folder, used in graph.items()}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises on a circle


@pytest.mark.parametrize(
    ("package", "others"),
    [("jaxmtl", {"experiments", "qa"}), ("experiments", {"qa"})],
)
def test_a_package_knows_nothing_of_those_that_use_it(package, others):
    for name, used in LIBRARIES.items():
        if name.partition(".")[0] == package:
            assert not used & others, name


@pytest.mark.parametrize(
    ("start", "allowed"),
    [
        ("jaxmtl.types", ""),
        ("jaxmtl.devices", "types"),
        ("jaxmtl.sparsity", "types keys"),
        ("jaxmtl.optim", "types"),
        ("jaxmtl.tables", "types devices"),
        ("jaxmtl.discovery", ""),
        ("jaxmtl.metrics", "types discovery"),
        ("jaxmtl.layers", "types keys"),
        ("jaxmtl.models", "types keys discovery layers"),
        ("jaxmtl.data", "types spaces"),
        ("jaxmtl.serving.foreign", ""),
        ("jaxmtl.serving.scoring", "types data serving"),
        ("jaxmtl.score", "serving devices console places"),
    ],
)
def test_what_is_told_everything_it_works_on_imports_next_to_nothing(start, allowed):
    assert imported_parts(start) <= {f"jaxmtl.{part}" for part in allowed.split()}


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_where_it_belongs_alone(library):
    users = {name for name, used in LIBRARIES.items() if library in used}
    assert users, f"nothing imports {library}: take it off this list"
    for user in users:
        allowed = any(f"{user}.".startswith(f"{home}.") for home in ONLY_IN[library])
        assert allowed, f"{user} imports {library}"


def public_definitions(path: Path) -> list[ast.AST]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in TREES[path].body if isinstance(node, kinds)]
    return [node for node in found if not node.name.startswith("_")]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_modules_and_what_the_core_makes_public_have_a_docstring(path):
    if path.stat().st_size:  # a package that holds nothing needs no words
        assert ast.get_docstring(TREES[path])
    if module_name(path).startswith("jaxmtl"):
        for node in public_definitions(path):
            assert ast.get_docstring(node), f"{node.name}, line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_checks_outside_the_tests_raise_errors_instead_of_asserting(path):
    lines = [n.lineno for n in ast.walk(TREES[path]) if isinstance(n, ast.Assert)]
    assert not lines, f"assert in lines {lines}: -O removes it; raise ValueError"
