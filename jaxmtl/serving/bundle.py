"""One set of values and a mask for each task: all subnetworks in one folder.

LT4REC's tasks (Chen et al., 2022) read one net through masks. So its values are
stored once, those that no task keeps are not stored at all, and what a task keeps
costs a bit for each weight. A mask that keeps everything is not stored either.

    values.npz    the net: a leaf's values, or those that some task's mask keeps
    masks.npz     bits, eight a byte
    tables.npz    the embedding tables
    net.json      paths and shapes of the leaves, names of the tasks
    manifest.json the SHA-256 of every file of the folder

The folder is sealed with a manifest when all of it is written, other files included,
and verified before any of it is used. No file is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmtl import sealed
from jaxmtl.sparsity import masks
from jaxmtl.types import Mask, Params

FORMAT = 1
MALFORMED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What comes of taking JSON for something that it is not."""
MANIFEST = "manifest.json"
VALUES, MASKS, TABLES, NET = "values.npz", "masks.npz", "tables.npz", "net.json"


class Bundle(NamedTuple):
    """What serving needs of a trained state.

    Attributes:
      net: all tasks' values; zero where no task keeps a weight.
      masks: task -> its mask, or None where it sees the whole net.
      tables: stack -> rows, float32 [vocabulary, dim].
    """

    net: Params
    masks: dict[str, Mask | None]
    tables: dict[str, Any]

    def seen(self, task: str) -> Params:
        """The net as a task sees it."""
        return masks.apply(self.net, self.masks[task])


class DamagedBundle(ValueError):
    """A file of a bundle is missing, or not what was written."""


def write(folder: Path, bundle: Bundle) -> None:
    """Writes a bundle into a folder that is there; `seal` it afterwards.

    Raises:
      ValueError: some tasks have a mask and others none.
    """
    known = [mask for mask in bundle.masks.values() if mask is not None]
    if known and len(known) < len(bundle.masks):
        raise ValueError(
            f"of the tasks {list(bundle.masks)} some have no mask; give each the mask"
            " that keeps everything, masks.full, or none of them any"
        )
    leaves = _leaves(bundle.net)
    union = masks.union(known) if known else None
    kept = dict(_flat(union)) if known else {}
    values, bits = {}, {}
    for number, (path, leaf) in enumerate(leaves):
        if leaf is not None:
            mark = kept.get(path)
            leaf = np.asarray(leaf)
            values[str(number)] = leaf if mark is None else leaf[np.asarray(mark)]
    for place, mask in enumerate(known):
        marks = dict(_flat(mask))
        for number, (path, _) in enumerate(leaves):
            mark = marks.get(path)
            if mark is not None and not np.all(mark):
                bits[f"{place}.{number}"] = np.packbits(np.asarray(mark))
    about = {
        "tasks": list(bundle.masks),
        "masked": bool(known),
        "leaves": [
            {
                "path": list(path),
                "shape": None if leaf is None else list(leaf.shape),
                "pruned": [dict(_flat(m)).get(path) is not None for m in known],
            }
            for path, leaf in leaves
        ],
    }
    _save(folder / VALUES, values)
    _save(folder / MASKS, bits)
    _save(folder / TABLES, {s: np.asarray(rows) for s, rows in bundle.tables.items()})
    (folder / NET).write_text(json.dumps(about, indent=1), encoding="utf-8")


def read(folder: Path) -> Bundle:
    """Reads what `write` wrote, from a folder that was verified.

    Raises:
      DamagedBundle: the files do not fit each other; names the file.
    """
    values, bits = _load(folder / VALUES), _load(folder / MASKS)
    try:
        about = json.loads((folder / NET).read_text(encoding="utf-8"))
        tasks = _texts(about["tasks"])
        marks, net = [[] for _ in tasks if about["masked"]], []
        for number, leaf in enumerate(about["leaves"]):
            path = _texts(leaf["path"])
            _check_shape(leaf["shape"], values.get(str(number)), number, bits)
            its = [
                _mark(bits.get(f"{place}.{number}"), leaf["shape"]) if pruned else None
                for place, pruned in enumerate(leaf["pruned"])
            ]
            for column, mark in zip(marks, its, strict=True):
                column.append((path, mark))
            net.append((path, _value(values.get(str(number)), leaf, its)))
        found = [_nested(column) for column in marks] or [None] * len(tasks)
        nested = _nested(net)
    except MALFORMED as error:
        raise DamagedBundle(f"{folder / NET}: {error}; export it again") from error
    return Bundle(nested, dict(zip(tasks, found, strict=True)), _load(folder / TABLES))


def seal(folder: Path) -> None:
    """Writes the manifest of all files of a folder; again, where some were added.

    Hidden ones are others': a desktop or a file system puts them there, and takes them
    away again.
    """
    paths = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST and path.name[0] != "."
    ]
    files = {path.name: _sha256(path) for path in paths}
    text = json.dumps({"format": FORMAT, "files": files}, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def verify(folder: Path) -> None:
    """Reads every file of a sealed folder once, and compares checksums.

    Raises:
      DamagedBundle: the manifest or a file is missing, damaged, or of another format;
        names the file.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files, version = dict(manifest["files"]), manifest["format"]
        inside = [name for name in files if Path(name).name == name]
    except MALFORMED as error:
        raise DamagedBundle(
            f"{path}: {error}; give the folder that an export wrote"
        ) from error
    if version != FORMAT:
        raise DamagedBundle(f"{path}: format {version}, this version reads {FORMAT}")
    if len(inside) < len(files):
        raise DamagedBundle(f"{path}: names files outside {folder}; export it again")
    for name in {VALUES, MASKS, TABLES, NET} | set(files):
        file = Path(folder) / name
        if name not in files or not file.is_file() or _sha256(file) != files[name]:
            raise DamagedBundle(
                f"{file} is missing or not what was exported (its SHA-256 differs from"
                " the manifest's); copy the folder again, or export it again"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _leaves(tree: Any) -> list[tuple[tuple[str, ...], Any]]:
    """Paths and leaves, in tree order; None for a part of the net without any."""
    is_empty = lambda part: part == {} if isinstance(part, dict) else False
    pairs = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_empty)
    return [
        (tuple(key.key for key in path), None if isinstance(leaf, dict) else leaf)
        for path, leaf in pairs
    ]


def _flat(mask: Mask) -> list[tuple[tuple[str, ...], Any]]:
    pairs = jax.tree_util.tree_leaves_with_path(mask)
    return [(tuple(key.key for key in path), leaf) for path, leaf in pairs]


def _nested(leaves: list[tuple[list[str], Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves:
        part = tree
        for name in path[:-1]:
            part = part.setdefault(name, {})
        if path[-1] in part:
            raise ValueError(f"{'/'.join(path)} stands twice")
        part[path[-1]] = leaf
    return tree


def _texts(names: Any) -> list[str]:
    """The names, if they are a list of texts; else raises ValueError."""
    if not isinstance(names, list) or not names:
        raise ValueError(f"{names!r} is no list of names")
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{names!r} holds something else than texts")
    return names


def _check_shape(
    shape: Any, stored: np.ndarray | None, number: int, bits: Mapping[str, np.ndarray]
) -> None:
    """Refuses a shape that what is stored cannot fill, before room is made for it."""
    if shape is None:
        return
    if not all(type(width) is int and width >= 0 for width in shape):
        raise ValueError(f"{shape!r} is no shape")
    most = [8 * b.size for name, b in bits.items() if name.endswith(f".{number}")]
    most.append(0 if stored is None else stored.size)
    if math.prod(shape) > max(most):
        raise ValueError(f"a leaf of shape {shape} has {max(most)} values at most")


def _mark(bits: np.ndarray | None, shape: list[int]) -> np.ndarray:
    if bits is None:
        return np.ones(shape, bool)
    return np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)


def _value(stored: np.ndarray | None, leaf: Mapping[str, Any], marks: list) -> Any:
    if leaf["shape"] is None:
        return {}
    if stored is None:
        raise ValueError(f"no values of {'/'.join(leaf['path'])}")
    known = [mark for mark in marks if mark is not None]
    if not known:
        return stored.reshape(leaf["shape"])
    whole = np.zeros(leaf["shape"], stored.dtype)
    whole[np.logical_or.reduce(known)] = stored
    return whole


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    # Not compressed: trained floats hardly shrink, and would have to be unpacked.
    sealed.write_arrays(path, arrays)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        return sealed.read_arrays(path)
    except ValueError as error:
        raise DamagedBundle(f"{path}: {error}; export it again") from error
