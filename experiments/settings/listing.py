"""What `experiments.run` can run, read from the files' text: importing them starts JAX.

A folder below `experiments/` with a `base.py` is a paper's. Each of its files with a
`ROW` is a row of a table, each with a function `run` a study.
"""

from __future__ import annotations

import ast
import difflib

from jaxmtl import discovery


def _trees() -> dict[str, ast.Module]:
    """`lt4rec.s_weight` -> the syntax tree of the module."""
    found = {}
    for folder, path in discovery.files("experiments").items():
        if not path.with_name("base.py").exists() or path.name != "__init__.py":
            continue
        for module, file in discovery.files(f"experiments.{folder}").items():
            tree = discovery.tree(file)
            if _defined(tree) & {"ROW", "run"}:
                found[f"{folder}.{module}"] = tree
    return found


def names() -> dict[str, str]:
    """`lt4rec.s_weight` -> the first line of the module's docstring."""
    return {
        name: (ast.get_docstring(tree) or "").partition("\n")[0]
        for name, tree in _trees().items()
    }


def is_row(name: str) -> bool:
    """Whether an experiment is a row of a table."""
    return "ROW" in _defined(_trees()[name])


def check(name: str) -> None:
    """Raises ValueError where no experiment has a name; suggests the nearest."""
    known = _trees()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "settings follow a name."
        raise ValueError(f"no experiment is called {name!r}; {hint} See --list")


def _defined(tree: ast.Module) -> set[str]:
    """The names that a file defines, or takes from another."""
    defined: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            defined |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            defined |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return defined
