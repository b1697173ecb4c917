"""Methods found by their files: a folder of methods holds one a file and nothing else.

A file `lion.py` of such a folder holds `Lion`, a frozen dataclass of options, each with
a default, and the function `lion`, which makes the method of such options. The class is
called like the file, without underscores and in whichever case (`SharedTrunk` in
`shared_trunk.py`, `GradNorm` in `gradnorm.py`). That is all there is to a registration:
a new file is a new name on the command line, and its options are a section there.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any


def names(package: str) -> dict[str, str]:
    """Name of each method of a folder -> the first line of its file's docstring.

    Nothing of the folder is imported, so a list of names costs no start of JAX.

    Args:
      package: dotted name of the folder.
    """
    return {
        name: (ast.get_docstring(tree(path)) or "").partition("\n")[0]
        for name, path in files(package).items()
    }


def files(package: str) -> dict[str, Path]:
    """Name of each module of a folder -> its file; of a package, its `__init__.py`."""
    found = {}
    for folder in _folders(package):
        for module in pkgutil.iter_modules([folder]):
            path = Path(folder, module.name)
            path = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
            found.setdefault(module.name, path)
    return dict(sorted(found.items()))


def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def load(package: str, name: str) -> ModuleType:
    """The module of a method.

    Args:
      package: dotted name of the folder.
      name: of the method.

    Raises:
      ValueError: there is none of that name; suggests the nearest.
    """
    known = files(package)
    if name not in known:
        kind = package.rpartition(".")[2].replace("_", " ")
        raise ValueError(f"{kind} has no {name!r}; {nearest(name, known)}")
    return importlib.import_module(f"{package}.{name}")


def options(package: str, name: str) -> type:
    """The class of a method's options.

    Raises:
      ValueError: there is no such method, or its file holds no such class.
    """
    module = load(package, name)
    wanted = name.replace("_", "")
    for key, value in vars(module).items():
        if key.lower() == wanted and isinstance(value, type):
            return value
    raise ValueError(
        f"{module.__file__} holds no class {wanted.capitalize()}, its options; a file"
        " of this folder is one method, and other code belongs elsewhere"
    )


def all_options(package: str, *, some: bool = False) -> dict[str, type]:
    """Name of each method of a folder -> the class of its options.

    Args:
      package: dotted name of the folder.
      some: whether a file may do without options; such files are left out, unread.
    """
    names = [n for n, path in files(package).items() if not some or _has_class(path)]
    return {name: options(package, name) for name in names}


def _has_class(path: Path) -> bool:
    """Whether a file defines a class of its own name."""
    stem = path.parent.name if path.name == "__init__.py" else path.stem
    wanted = stem.replace("_", "")
    nodes = tree(path).body
    return any(isinstance(n, ast.ClassDef) and n.name.lower() == wanted for n in nodes)


def name_of(chosen: Any) -> str:
    """The name of the method that options are of: the name of their file."""
    return type(chosen).__module__.rpartition(".")[2]


def make(chosen: Any, *args: Any, **settings: Any) -> Any:
    """Calls the function that makes a method: `lion(options, …)` for `Lion`.

    Args:
      chosen: the options; they go before what follows.

    Raises:
      ValueError: their file has no function of its name.
    """
    return maker(chosen)(chosen, *args, **settings)


def maker(chosen: Any) -> Callable[..., Any]:
    """The function that makes a method of some options.

    Raises:
      ValueError: their file has no function of its name.
    """
    module = sys.modules[type(chosen).__module__]
    found = getattr(module, name_of(chosen), None)
    if found is None:
        raise ValueError(
            f"{chosen!r} is no method's options, such as Mmoe(): {module.__name__} has"
            f" no function {name_of(chosen)!r}"
        )
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """Words for an error: what was perhaps meant, and what there is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}there are {', '.join(known)}"


def lazy(package: str) -> Any:
    """A `__getattr__` for a folder's `__init__.py`: its classes, imported when used."""

    @functools.cache
    def by_class() -> dict[str, str]:
        return {name.replace("_", ""): name for name in files(package)}

    def attribute(key: str) -> Any:
        name = by_class().get(key.lower())
        if name is None or key == key.lower():
            raise AttributeError(f"module {package!r} has no attribute {key!r}")
        return options(package, name)

    return attribute


def _folders(package: str) -> list[str]:
    module = sys.modules.get(package)  # which may have been given further folders
    found = getattr(module, "__path__", None)
    if module is None:
        spec = importlib.util.find_spec(package)
        found = spec.submodule_search_locations if spec else None
    if found is None:
        raise ValueError(f"{package} is no folder of methods")
    return list(found)
