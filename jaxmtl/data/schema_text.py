"""A schema out of a JSON file that anyone may have written.

`Schema.from_json` trusts the types of what it is given; here they are checked first,
so that a wrong one is refused where it stands and not where it is used.
"""

from __future__ import annotations

import json
import math
from typing import Any, get_args, get_type_hints

from jaxmtl.types import Schema, Task

MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError)
MALFORMED += (RecursionError,)
"""What comes of taking JSON for something that it is not."""
LARGEST = 2**31 - 1


def read_schema(raw: Any) -> Schema:
    """The schema that `json.loads(schema.to_json())` stands for.

    Raises:
      ValueError: it is none: a key is unknown or missing, or a value of another
        type or out of range; names it.
    """
    schema = Schema.from_json(json.dumps(raw))
    for name in ("name", "ctr", "cvr", "user", "item"):
        _check_text(f"schema: {name}", getattr(schema, name))
    for name in ("numeric", "extras", "segments"):
        for value in getattr(schema, name):
            _check_text(f"schema: {name}", value)
    for field in schema.fields:
        _check_text("field", field.name)
        _check_count(f"field {field.name!r}: slots", field.slots)
    for vocabulary in schema.vocabularies:
        _check_text("vocabulary", vocabulary.name)
        _check_count(f"vocabulary {vocabulary.name!r}: size", vocabulary.size)
    for task in schema.tasks:
        _check_task(task)
    for part in (schema.numeric, schema.extras):
        if len(set(part)) < len(part):
            raise ValueError(f"schema: a name stands twice in {part}")
    return schema


def _check_task(task: Task) -> None:
    _check_text("task", task.name)
    for name in ("kind", "metric"):
        choices = get_args(get_type_hints(Task)[name])
        if getattr(task, name) not in choices:
            raise ValueError(
                f"task {task.name!r}: {name} is {getattr(task, name)!r}; expected one"
                f" of {', '.join(choices)}"
            )
    high = task.high
    if type(high) not in (int, float) or not high > 0 or math.isinf(high):
        raise ValueError(f"task {task.name!r}: high is {high!r}; expected above 0")


def _check_text(where: str, value: Any) -> None:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{where} is {value!r}; expected a name")


def _check_count(where: str, value: Any) -> None:
    if type(value) is not int or not 1 <= value <= LARGEST:
        raise ValueError(f"{where} is {value!r}; expected 1 to {LARGEST}")
