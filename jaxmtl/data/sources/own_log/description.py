"""The small TOML or JSON file that says what the columns of your own log are.

A key that nothing reads is a mistake of spelling, so every key is known, and an
unknown one is refused with the nearest that exists. `own_log` shows a whole file.

| table | keys of an entry, with their defaults |
|---|---|
| top level | `name`, `user`, `item`, `ctr`, `cvr`; `min_count` 2; `missing` [] |
| `fields` | `vocabulary` (its own), `slots` 1, `separator` (of several values) |
| `numeric` | `log` false: take log(1 + value) first |
| `tasks` | `kind` "binary", `space` "impression", `high` 1, `metric` "auc" or "mse" |
| `split` | `by`, `column`; `validation` .15, `test` .15 unless by "column" |
| `extras` | `duration`: the column of an item's length in seconds |
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from jaxmtl.data.reading.files import nearest
from jaxmtl.spaces import JOINT
from jaxmtl.types import IMPRESSION, Field, Schema, Task, Vocabulary

By = Literal["column", "time", "hash"]
KEYS = {
    "name": str,
    "user": str,
    "item": str,
    "ctr": str,
    "cvr": str,
    "min_count": int,
    "missing": list,
    "fields": dict,
    "numeric": dict,
    "tasks": dict,
    "split": dict,
    "extras": dict,
}
REQUIRED = ("name", "user", "item", "ctr", "cvr", "fields", "tasks", "split")
FIELD_KEYS = {"vocabulary": str, "slots": int, "separator": str}
NUMERIC_KEYS = {"log": bool}
TASK_KEYS = {"kind": str, "space": str, "high": float, "metric": str}
SPLIT_KEYS = {"by": str, "column": str, "validation": float, "test": float}
EXTRA_KEYS = {"duration": str}
TAKEN = (IMPRESSION, "all", "pair", "shared")
"""Names that a task cannot have: the space of all rows, what `--training.tasks` calls
several, and what all tasks share in a net."""
KIND_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of texts",
    dict: "a table",
}


@dataclasses.dataclass(frozen=True)
class Split:
    """How rows are split.

    Attributes:
      by: `column`: it holds `train`, `validation` or `test`. `time`: the latest
        rows are the test, those before them validation. `hash`: of the column's
        text, so that all rows of one value (a user) fall into one split.
      column: what is read for it.
      validation: share of the rows (of the values, by hash).
      test: likewise.
    """

    by: By
    column: str
    validation: float = 0.15
    test: float = 0.15


@dataclasses.dataclass(frozen=True)
class Description:
    """What the columns of a log are. A column's name is that of its feature or task.

    Attributes:
      name: of the log.
      user, item: single-valued fields; rows without a value there are dropped.
      ctr, cvr: tasks that play the papers' two roles.
      fields: categorical columns.
      separators: field -> what stands between its values, where they are one text.
      numeric: numeric columns.
      logs: those of which log(1 + value) is taken.
      tasks: label columns.
      split: into train, validation and test.
      duration: column of an item's length in seconds, or None.
      missing: texts that mean "no value", beside the empty one, in every column.
      min_count: how often training must hold an id for it to be known. With 1 no
        training row would hold the unknown id, and nothing be learned about it.
    """

    name: str
    user: str
    item: str
    ctr: str
    cvr: str
    fields: tuple[Field, ...]
    separators: Mapping[str, str]
    numeric: tuple[str, ...]
    logs: frozenset[str]
    tasks: tuple[Task, ...]
    split: Split
    duration: str | None
    missing: tuple[str, ...]
    min_count: int

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns without whose value a row cannot be used."""
        named = (self.user, self.item, self.split.column, self.duration)
        return tuple(dict.fromkeys(column for column in named if column is not None))

    @property
    def columns(self) -> dict[str, str]:
        """Every column to be read -> the key that asks for it."""
        return {
            **({self.duration: "extras.duration"} if self.duration else {}),
            self.split.column: "split.column",
            **{task.name: f"tasks.{task.name}" for task in self.tasks},
            **{name: f"numeric.{name}" for name in self.numeric},
            **{field.name: f"fields.{field.name}" for field in self.fields},
        }

    def schema(self, vocabularies: tuple[Vocabulary, ...]) -> Schema:
        """The schema of the log, once its vocabularies are counted."""
        return Schema(
            name=self.name,
            fields=self.fields,
            vocabularies=vocabularies,
            tasks=self.tasks,
            ctr=self.ctr,
            cvr=self.cvr,
            user=self.user,
            item=self.item,
            numeric=self.numeric,
            extras=("duration",) if self.duration else (),
        )


def load(path: str | Path) -> Description:
    """Reads a description.

    Args:
      path: a file in TOML, or in JSON if its name ends with `.json`.

    Raises:
      ValueError: there is no such file, it is neither, or a key is unknown,
        missing or out of range; names the file and the key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: no such file; a log of your own needs a schema file that says"
            " what its columns are"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror}; give the schema file, in TOML or JSON"
        ) from error
    except UnicodeError as error:
        raise ValueError(f"{path}: {error}; write it in UTF-8") from error
    form, parse = "TOML", tomllib.loads
    if path.suffix == ".json":
        form, parse = "JSON", partial(json.loads, object_pairs_hook=_object)
    try:
        raw = parse(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as {form}: {error}") from error
    try:
        return _describe(raw)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _object(pairs: Collection[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; TOML refuses by itself a key that stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one table")
    return found


def _describe(raw: Any) -> Description:
    _check(raw, KEYS, "the file", REQUIRED)
    if not re.fullmatch(r"\w[\w.-]*", raw["name"]):
        raise ValueError(
            f"name is {raw['name']!r}; it names files, so use letters, digits, _, -"
        )
    min_count = raw.get("min_count", 2)
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; it must be 1 or more")
    missing = raw.get("missing", [])
    if not all(isinstance(text, str) for text in missing):
        raise ValueError(f"missing is {missing}; expected a list of texts")
    fields, numeric = raw["fields"], raw.get("numeric", {})
    for table in ("fields", "numeric", "tasks"):
        for column in raw.get(table, ()):
            _check_name(table, column)
    extras = raw.get("extras", {})
    _check(extras, EXTRA_KEYS, "extras")
    for name, entry in numeric.items():
        _check(entry, NUMERIC_KEYS, f"numeric.{name}")
    description = Description(
        **{role: raw[role] for role in ("name", "user", "item", "ctr", "cvr")},
        fields=tuple(_field(name, entry) for name, entry in fields.items()),
        separators={n: e["separator"] for n, e in fields.items() if "separator" in e},
        numeric=tuple(numeric),
        logs=frozenset(name for name, entry in numeric.items() if entry.get("log")),
        tasks=tuple(_task(name, entry) for name, entry in raw["tasks"].items()),
        split=_split(raw["split"]),
        duration=extras.get("duration"),
        missing=tuple(missing),
        min_count=min_count,
    )
    _check_roles(description)
    return description


def _check_name(table: str, column: str) -> None:
    if not column or not column.isprintable():
        raise ValueError(
            f"{table}: {column!r} is no name for a column: it must have a character,"
            " and none that cannot be seen; rename the column in the log and here"
        )
    if table == "tasks" and (column in TAKEN or column.startswith(JOINT)):
        raise ValueError(
            f"tasks: {column!r} is no name for a task: {', '.join(TAKEN)} and names"
            f" that begin with {JOINT} mean something else; rename the column in the"
            " log and here"
        )


def _field(name: str, entry: Any) -> Field:
    where = f"fields.{name}"
    _check(entry, FIELD_KEYS, where)
    slots = entry.get("slots", 1)
    if slots < 1:
        raise ValueError(f"{where}: slots is {slots}; it must be 1 or more")
    if entry.get("separator") == "":
        raise ValueError(f"{where}: separator is empty; give the text between values")
    if "separator" in entry and slots == 1:
        raise ValueError(
            f"{where} has a separator but one slot; say in slots how many values are"
            " kept, 2 or more"
        )
    return Field(name, entry.get("vocabulary", name), slots)


def _task(name: str, entry: Any) -> Task:
    where = f"tasks.{name}"
    _check(entry, TASK_KEYS, where)
    kind = entry.get("kind", "binary")
    _check_choice(f"{where}: kind", kind, ("binary", "continuous"))
    metric = entry.get("metric", "auc" if kind == "binary" else "mse")
    _check_choice(f"{where}: metric", metric, ("auc", "mse"))
    high = entry.get("high", 1)
    if not 0 < high < math.inf or (kind == "binary" and high != 1):
        expected = "1, or no such key" if kind == "binary" else "a number above 0"
        raise ValueError(f"{where}: high is {high}; for a {kind} task give {expected}")
    return Task(name, kind, entry.get("space", "impression"), float(high), metric)


def _split(entry: Any) -> Split:
    _check(entry, SPLIT_KEYS, "split", ("by", "column"))
    _check_choice("split: by", entry["by"], get_args(By))
    split = Split(**entry)
    if split.by == "column" and entry.keys() & {"validation", "test"}:
        raise ValueError(
            'split: shares mean nothing by = "column", whose values are the splits;'
            " leave validation and test out"
        )
    shares = (split.validation, split.test)
    if not (min(shares) > 0 and sum(shares) < 1):
        raise ValueError(
            f"split: validation and test are {shares}; give shares above 0 that leave"
            " some rows for training"
        )
    return split


def _check_roles(description: Description) -> None:
    tasks = [task.name for task in description.tasks]
    for role, name in (("ctr", description.ctr), ("cvr", description.cvr)):
        if name not in tasks:
            raise ValueError(
                f"{role}: {name!r} plays a role but is no task{nearest(name, tasks)}"
                f" (tasks are {', '.join(tasks)})"
            )
    single = [field.name for field in description.fields if field.slots == 1]
    for role, name in (("user", description.user), ("item", description.item)):
        if name not in single:
            raise ValueError(
                f"{role}: {name!r} groups rows but is no single-valued field"
                f"{nearest(name, single)} (those are {', '.join(single)})"
            )
    for task in description.tasks:
        others = [IMPRESSION, *(name for name in tasks if name != task.name)]
        if task.space not in others:
            raise ValueError(
                f"tasks.{task.name}: task {task.name!r} lives in space {task.space!r}"
                f"{nearest(task.space, others)} (known are {', '.join(others)})"
            )
    names = dict.fromkeys(field.vocabulary for field in description.fields)
    description.schema(tuple(Vocabulary(name, 1) for name in names))  # raises
    features = {*(f.name for f in description.fields), *description.numeric}
    for task in description.tasks:
        if task.name in features:
            raise ValueError(
                f"column {task.name!r} is a task and a feature: the label would"
                " predict itself; take it off fields and numeric"
            )
    multi = {field.name for field in description.fields if field.slots > 1}
    if description.split.column in multi:
        raise ValueError(
            f"split: column {description.split.column!r} holds several values a row;"
            " split by a column that holds one"
        )


def _check(
    table: Any, known: Mapping[str, type], where: str, required: Collection[str] = ()
) -> None:
    if not isinstance(table, dict):
        raise ValueError(f"{where} is {table!r}; expected a table, such as {{}}")
    for key, value in table.items():
        if key not in known:
            raise ValueError(
                f"{where}: unknown key {key!r}{nearest(key, known)} (known are"
                f" {', '.join(known)})"
            )
        kind = known[key]
        kinds = (int, float) if kind is float else kind
        # Python calls true a whole number.
        if not isinstance(value, kinds) or (
            isinstance(value, bool) and kind is not bool
        ):
            raise ValueError(
                f"{where}: {key} is {value!r}; expected {KIND_NAMES[kind]}"
            )
    for key in required:
        if key not in table:
            raise ValueError(f"{where} lacks the key {key!r}; add it")


def _check_choice(where: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise ValueError(
            f"{where} is {value!r}{nearest(value, choices)} (known are"
            f" {', '.join(choices)})"
        )
