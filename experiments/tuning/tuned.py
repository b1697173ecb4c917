"""Settings that `experiments.tune` chose: read, put into a row, told in its table."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import (
    Any,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from experiments.settings import listing
from experiments.settings.ablation import Ablation
from experiments.settings.config import Config

Value = float | int | str | bool | None
"""Of a tuned setting: what JSON holds without lists and objects."""
Settings = Mapping[str, Value]
"""Dotted name, such as `optimiser.learning_rate`, -> value."""


class Tuned(NamedTuple):
    """What a file of `experiments.tune` says.

    Attributes:
      path: of the file.
      rows: a row's module -> its settings.
      budget: what each row was given, for the table.
      lent: a row's module -> that of the row whose settings it has.
      last_day: a row's module -> the last day of the log that its choice has seen, or
        None where the log, or the file, does not tell.
    """

    path: Path | None
    rows: Mapping[str, Settings]
    budget: Mapping[str, Any]
    lent: Mapping[str, str] = types.MappingProxyType({})
    last_day: Mapping[str, int | None] = types.MappingProxyType({})

    def settings(self, module: str) -> Settings:
        """A row's settings; none where it was not tuned."""
        return self.rows.get(module, {})


NOTHING = Tuned(None, {}, {})


def read(path: Path) -> Tuned:
    """Reads what `experiments.tune` wrote.

    Raises:
      ValueError: the file is missing, damaged or no such file, or holds a row or a
        setting that does not exist; names the file and the nearest.
    """
    if not path.is_file():
        raise ValueError(f"--tuned {path}: no such file; experiments.tune writes one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = {name: dict(row["settings"]) for name, row in content["rows"].items()}
        days = {name: row.get("last_day") for name, row in content["rows"].items()}
        budget = dict(content["budget"])
        seeds, anchors = (list(budget[key]) for key in ("seeds", "anchors"))
        texts, numbers = [*anchors, *content["space"]], [*seeds, budget["trials"]]
        is_whole = seeds and anchors and content["space"] and budget["trials"] > 0
        is_whole = is_whole and all(isinstance(text, str) for text in texts)
        numbers += [day for day in days.values() if day is not None]
        is_whole = is_whole and all(type(number) is int for number in numbers)
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ValueError(
            f"--tuned {path}: not a file of experiments.tune, whose keys are budget,"
            " space and rows; give the --out of that command"
        )
    known = listing.names()
    for name, settings in rows.items():
        if name not in known:
            raise ValueError(
                f"--tuned {path}: no experiment is called {name!r}"
                f"{_nearest(name, known)}"
            )
        try:
            tuned_config(Config(), settings)
        except ValueError as error:
            raise ValueError(f"--tuned {path}: {name}: {error}") from error
    budget |= {"space": content["space"]}
    return Tuned(path, rows, budget, last_day=days)


def lend(chosen: Tuned, lent: Mapping[str, str]) -> Tuned:
    """The settings with those of some rows given to others.

    So a control differs from its row in one thing alone.

    Args:
      chosen: what was tuned.
      lent: module -> whose settings it is to have, where those were tuned.
    """
    lent = {row: owner for row, owner in lent.items() if owner in chosen.rows}
    rows = dict(chosen.rows) | {row: chosen.rows[own] for row, own in lent.items()}
    days = dict(chosen.last_day) | {
        row: chosen.last_day.get(own) for row, own in lent.items()
    }
    return chosen._replace(rows=rows, lent=lent, last_day=days)


def tuned_config(config: Config, settings: Settings) -> Config:
    """The configuration with some of its settings replaced.

    Args:
      config: what to change.
      settings: dotted names of its fields, as in `config.json`, and their values.

    Raises:
      ValueError: there is no such field (names the nearest), it is a section, or the
        value is not of its type.
    """
    for name, value in settings.items():
        if dataclasses.is_dataclass(value_of(config, name)):
            raise ValueError(f"{name!r} is a section of settings; name one of them")
        config = _replaced(config, name.split("."), value, name)
    return config


def value_of(config: Config, name: str) -> Any:
    """A setting, or a section of them, by its dotted name.

    Raises:
      ValueError: there is none of that name; suggests the nearest.
    """
    value: Any = config
    for part in name.split("."):
        known = (
            [f.name for f in dataclasses.fields(value)]
            if dataclasses.is_dataclass(value)
            else []
        )
        if part not in known:
            raise ValueError(f"no setting is called {name!r}{_nearest(part, known)}")
        value = getattr(value, part)
    return value


def check_seeds(chosen: Tuned, seeds: Sequence[int]) -> None:
    """Raises ValueError where settings were chosen on seeds that are to be reported."""
    both = sorted(set(seeds) & set(chosen.budget.get("seeds", ())))
    if both:
        raise ValueError(
            f"--tuned {chosen.path} was chosen on seeds {both}, which are among those"
            " to report; give fewer --seeds"
        )


def check_rows(chosen: Tuned, rows: Sequence[Ablation]) -> None:
    """Raises ValueError where the file tunes rows of another paper alone."""
    if chosen.path is None or not rows:
        return
    papers = {name.split(".")[0] for name in chosen.rows}
    if not any(row.module.split(".")[0] in papers for row in rows):
        raise ValueError(
            f"--tuned {chosen.path} has settings of no row like"
            f" {', '.join(row.module for row in rows)}; it has those of"
            f" {', '.join(chosen.rows) or 'no row'}: give the file that"
            " experiments.tune wrote for these rows, or leave --tuned out"
        )


def describe(chosen: Tuned, rows: Iterable[Ablation]) -> list[str]:
    """A line for each row: its tuned settings, or that it has none."""
    if chosen.path is None:
        return []
    return [
        f"{row.module}: tuned{_owner(chosen, row.module)},"
        f" {_listed(chosen.settings(row.module))}"
        if row.module in chosen.rows
        else f"{row.module}: no tuned settings in {chosen.path}; trained as it stands"
        for row in rows
    ]


def record(chosen: Tuned, rows: Iterable[Ablation]) -> dict[str, Any] | None:
    """What a table keeps: budget, each row's settings, and the last day that their
    choice has seen; None without tuning."""
    if chosen.path is None:
        return None
    settings = {row.module: chosen.rows.get(row.module) for row in rows}
    lent = {row: owner for row, owner in chosen.lent.items() if row in settings}
    days = {
        row: chosen.last_day.get(row)
        for row, given in settings.items()
        if given is not None
    }
    return {
        "budget": dict(chosen.budget),
        "rows": settings,
        "lent": lent,
        "last_day": days,
    }


def note(record: Mapping[str, Any] | None) -> str:
    """Of a table: whether its rows were tuned, and with what budget."""
    if record is None:
        return "Tuning: none; the rows have the preset's and the command's settings."
    budget, rows, lent = record["budget"], record["rows"], record.get("lent", {})
    left = [module for module, settings in rows.items() if settings is None]
    names, seeds = ", ".join(budget["space"]), ", ".join(map(str, budget["seeds"]))
    anchors = "; ".join(anchor or "as given" for anchor in budget["anchors"])
    days = list(record.get("last_day", {}).values())
    is_told = days and None not in days
    return (
        f"Tuning: {len(rows) - len(left) - len(lent)} of {len(rows)} rows, each with"
        f" {budget['trials']} trials over {names}, where the row has it and does not"
        " set it itself; chosen by the mean regret on validation at the settings"
        f" ({anchors}) with seeds {seeds}, which are not reported."
        + (f" It saw no day of the log after day {max(days)}." if is_told else "")
        + "".join(
            f" With the settings of {owner}, from which they differ in one thing:"
            f" {', '.join(row for row, of in lent.items() if of == owner)}."
            for owner in dict.fromkeys(lent.values())
        )
        + (f" Not tuned: {', '.join(left)}." if left else "")
    )


def _owner(chosen: Tuned, module: str) -> str:
    return f" as {chosen.lent[module]}" if module in chosen.lent else ""


def _listed(settings: Settings) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "none"


def _replaced(section: Any, path: Sequence[str], value: Value, name: str) -> Any:
    first, *rest = path
    if rest:
        value = _replaced(getattr(section, first), rest, value, name)
    elif not _fits(value, hint := get_type_hints(type(section))[first]):
        raise ValueError(f"{name} is {value!r}; it must be of type {_type_name(hint)}")
    return dataclasses.replace(section, **{first: value})


def _fits(value: Value, hint: Any) -> bool:
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in arguments
    if kind in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if isinstance(value, bool):  # an int to Python, not to a reader
        return hint is bool
    if hint is float:
        return isinstance(value, float | int)
    return isinstance(hint, type) and isinstance(value, hint)


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""
