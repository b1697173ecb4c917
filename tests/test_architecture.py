"""Imports run one way, and every public thing says what it is."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for part in ("jaxmtl", "experiments") for path in (ROOT / part).rglob("*.py")
)
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
LAYERS = (
    {"types"},
    {"console", "places"},
    {"keys", "distributed", "lanes", "sharding"},
    {
        "masks",
        "mask_controls",
        "sharing",
        "losses",
        "metrics",
        "embedding",
        "pruning",
        "selection",
        "spaces",
        "optim",
        "row_optim",
        "compact",
        "bundle",
        "foreign",
        "guard",
        "sealed",
    },
    {"models", "data", "sparse", "table_shards"},
    {"serving"},
    {"score", "studies"},
    {"setup"},
    {"outputs", "train_state", "feed"},
    {"train", "inference"},
    {"fit", "alignment", "tickets", "checkpoint", "resume", "export"},
    {"to_onnx"},
)
"""Parts of `jaxmtl`: each imports its own layer and those above it in this list."""
DATA_LAYERS = (
    {"log", "schema_text", "batches", "leakage", "remarks"},
    {"reading", "store"},
    {"encoding"},
    {"sources"},
)
"""Parts of `jaxmtl.data`, likewise."""
ONLY_IN = {
    "flax": {"jaxmtl.models"},
    "jinja2": {"experiments"},
    "optuna": {"experiments.tuning.trials"},
    "orbax": {"jaxmtl.training.checkpoint"},
    "tensorflow_datasets": {"jaxmtl.data"},
    "matplotlib": {"experiments"},
    "tensorboardX": {"experiments"},
    "tqdm": {"experiments"},
    "tyro": {"experiments"},
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


def part_of(module: str, package: str = "jaxmtl") -> str | None:
    """`masks` for `jaxmtl.sparsity.masks`, `data` for `jaxmtl.data.store`."""
    rest = module.removeprefix(f"{package}.")
    return None if rest == module else rest.partition(".")[0]


IMPORTS = {module_name(path): imports_of(path) for path in FILES}
PARTS = {name: part_of(name) for name in NAMES if part_of(name)}


def imported_parts(part: str, package: str = "jaxmtl") -> set[str]:
    """The parts of a package that one of them imports, itself left out."""
    modules = [name for name in NAMES if part_of(name, package) == part]
    found = {part_of(name, package) for module in modules for name in IMPORTS[module]}
    return found - {None, part}


@pytest.mark.parametrize(
    ("package", "layers"), [("jaxmtl", LAYERS), ("jaxmtl.data", DATA_LAYERS)]
)
def test_every_part_has_a_place_in_one_layer(package, layers):
    parts = {part_of(name, package) for name in NAMES} - {None}
    assert parts == set().union(*layers)
    assert sum(map(len, layers)) == len(parts)


@pytest.mark.parametrize(
    ("package", "layers", "height"),
    [("jaxmtl", LAYERS, height) for height in range(len(LAYERS))]
    + [("jaxmtl.data", DATA_LAYERS, height) for height in range(len(DATA_LAYERS))],
)
def test_a_layer_imports_nothing_of_the_layers_after_it(package, layers, height):
    allowed = set().union(*layers[: height + 1])
    for part in layers[height]:
        later = imported_parts(part, package) - allowed
        assert not later, f"{part} imports {sorted(later)}"


def test_no_two_modules_import_each_other_in_a_circle():
    inside = {name: used & NAMES - {name} for name, used in IMPORTS.items()}
    tuple(graphlib.TopologicalSorter(inside).static_order())  # raises on a circle


def test_the_core_knows_no_experiment():
    for name in PARTS:
        used = {module.partition(".")[0] for module in IMPORTS[name]}
        assert "experiments" not in used, name


@pytest.mark.parametrize(
    ("part", "allowed"),
    [
        ("foreign", set()),
        ("serving", {"types", "masks", "bundle", "compact", "data", "foreign"}),
        ("types", set()),
        ("selection", {"types"}),
        ("masks", {"types"}),
        ("pruning", {"types", "masks", "selection"}),
        ("models", {"types", "keys"}),
        ("data", {"types", "spaces"}),
    ],
)
def test_what_is_told_everything_it_works_on_imports_next_to_nothing(part, allowed):
    assert imported_parts(part) <= allowed


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_where_it_belongs_alone(library):
    users = {
        name
        for name, used in IMPORTS.items()
        if library in {module.partition(".")[0] for module in used}
    }
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
    if module_name(path) in PARTS:
        for node in public_definitions(path):
            assert ast.get_docstring(node), f"{node.name}, line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_checks_outside_the_tests_raise_errors_instead_of_asserting(path):
    lines = [n.lineno for n in ast.walk(TREES[path]) if isinstance(n, ast.Assert)]
    assert not lines, f"assert in lines {lines}: -O removes it; raise ValueError"
