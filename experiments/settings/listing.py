"""What `experiments.run` can run, read from the files' text: importing them starts JAX.

A folder below `experiments/` with a `base.py` is a paper's. Each of its files with a
`ROW` is a row of a table, each with a function `run` a study.
"""

from __future__ import annotations

import ast

from jaxmtl import discovery


def names() -> dict[str, str]:
    """`lt4rec.s_weight` -> the first line of the module's docstring."""
    found = {}
    for folder, path in discovery.files("experiments").items():
        if not path.with_name("base.py").exists() or path.name != "__init__.py":
            continue
        for module, file in discovery.files(f"experiments.{folder}").items():
            tree = discovery.tree(file)
            if _is_experiment(tree):
                first = (ast.get_docstring(tree) or "").partition("\n")[0]
                found[f"{folder}.{module}"] = first
    return found


def _is_experiment(tree: ast.Module) -> bool:
    """Whether a file has a `ROW` or a function `run`, its own or another file's."""
    defined: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            defined |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            defined |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return bool({"ROW", "run"} & defined)
