"""How far the tickets of several logs agree, where their nets have layers in common.

python -m experiments.mask_overlap RUN RUN …

takes the work directories of `lt4rec.sharing`, of one size of net each. Seeds start
equal layers from equal weights, whatever the log: tickets that are decided by the
initial weights alone meet in these layers, others as random masks do. The first layer
is as wide as the log's inputs and is left out where these differ.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.analysis.report.rendering import grid
from experiments.running.workdir import read_arrays, read_json, write_arrays
from jaxmtl import console
from jaxmtl.sparsity import masks, sharing
from jaxmtl.types import Mask

FILE = "masks.npz"
Kept = dict[tuple[str, str], dict[str, np.ndarray]]
"""(seed, role) -> path of a layer -> bool array."""


def write(
    workdir: Path, seeds: Sequence[int], found: Sequence[Mapping[str, Mask]]
) -> None:
    """Keeps the chosen masks of each seed, role by role."""
    arrays = {
        f"{seed}:{role}:{path}": leaf
        for seed, by_role in zip(seeds, found, strict=True)
        for role, mask in by_role.items()
        for path, leaf in masks.by_path(mask).items()
    }
    write_arrays(workdir / FILE, arrays)


def read(workdir: Path) -> Kept:
    """What `write` kept.

    Raises:
      ValueError: the folder holds no masks.
    """
    path = workdir / FILE
    if not path.exists():
        raise ValueError(
            f"{workdir} holds no {FILE}; run lt4rec.sharing there, with --workdir"
        )
    kept: Kept = {}
    for name, leaf in read_arrays(path).items():
        seed, role, layer = name.split(":")
        kept.setdefault((seed, role), {})[layer] = leaf
    return kept


def compare(runs: Mapping[str, Kept]) -> list[dict]:
    """The overlap of every two logs' tickets, of one role and the seeds in common.

    Returns:
      `logs`, `role`, `layer`, `seeds`, and over these the mean `iou` and `chance`.
    """
    found: dict[tuple, list[sharing.Overlap]] = {}
    for (log, ours), (other, theirs) in itertools.combinations(runs.items(), 2):
        for seed, role in ours.keys() & theirs.keys():
            pair = sharing.layer_overlaps(ours[seed, role], theirs[seed, role])
            for layer, overlap in pair.items():
                found.setdefault((log, other, role, layer), []).append(overlap)
    return [
        {
            "logs": [log, other],
            "role": role,
            "layer": layer,
            "seeds": len(overlaps),
            "iou": float(np.mean([overlap.iou for overlap in overlaps])),
            "chance": float(np.mean([overlap.chance for overlap in overlaps])),
        }
        for (log, other, role, layer), overlaps in sorted(found.items())
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the overlaps; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.mask_overlap",
        description="Compares the tickets of several runs of lt4rec.sharing.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    paths = parser.parse_args(argv).runs
    try:
        paths = list({path.resolve(): path for path in paths}.values())
        is_plain = len({path.name for path in paths}) == len(paths)
        names = [path.name if is_plain else str(path) for path in paths]
        runs = {
            f"{name} ({_log(path)})": read(path)
            for name, path in zip(names, paths, strict=True)
        }
        found = compare(runs)
        if not found:
            raise ValueError(
                f"{[str(p) for p in paths]} have no seed, role and layer of one shape"
                " in common; give runs of two logs with the same --model.hidden"
            )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    columns = [
        ["logs", *(" and ".join(one["logs"]) for one in found)],
        ["ticket", *(one["role"] for one in found)],
        ["layer", *(one["layer"] for one in found)],
        ["seeds", *(str(one["seeds"]) for one in found)],
        ["IoU", *(f"{one['iou']:.3f}" for one in found)],
        ["chance", *(f"{one['chance']:.3f}" for one in found)],
    ]
    print(grid(columns, markdown=False))
    return 0


def _log(workdir: Path) -> str:
    return read_json(workdir / "config.json")["data"]["name"]


if __name__ == "__main__":
    sys.exit(console.run(main))
