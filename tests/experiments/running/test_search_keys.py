"""The key of a ticket search changes if and only if what is searched does.

Every field of the configuration is changed, one at a time, to another value that a run
could use. What must change the key and what must not is written down here by hand, and
a new field or method stands in neither list until somebody has thought about it.
"""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from conftest import make_rows, make_schema

from experiments.running import ticket_cache
from experiments.settings.config import Config
from experiments.settings.sections import unused
from jaxmtl import discovery
from jaxmtl.data.store import Dataset

DATA = Dataset(make_schema(), {"train": make_rows(200, 0)}, {}, (), "planted")
TASKS = ("click", "watch")
"""The CTR, which is binary, and the CVR, a ratio."""


def changed(config: Any, **changes: Any) -> Any:
    """A configuration with other values at dotted names (`training__epochs`)."""
    for name, value in changes.items():
        first, _, rest = name.partition("__")
        if rest:
            value = changed(getattr(config, first), **{rest: value})
        config = dataclasses.replace(config, **{first: value})
    return config


PLAIN = changed(
    Config(),
    pruning__masks="ticket",
    training__continuous_loss="squared",  # what None stands for
    optimiser__sgd__momentum=0.5,  # without, there is no Nesterov's
)
BASES = {
    "plain": changed(PLAIN, training__schedule="sum"),
    "warm": changed(PLAIN, training__schedule="sum", pruning__rewind="step"),
    "other methods": changed(
        PLAIN,
        model__architecture="mmoe",
        model__crossing__kind="cin",
        optimiser__name="lion",
        optimiser__schedule__name="cosine",
        pruning__finder__name="saliency",
    ),
}
SECTIONS = {
    "plain": {"optimiser.adam": "adam"},
    "warm": {"optimiser.adam": "adam"},
    "other methods": {
        "model.mmoe": "mmoe",
        "optimiser.lion": "lion",
        "optimiser.schedule.cosine": "cosine",
        "pruning.finder.saliency": "saliency",
    },
}
"""Of each base, the sections of methods in use: whatever they hold changes a key."""
CHANGES = {
    "model.architecture",
    "model.embedding_dim",
    "model.crossing.kind",
    "model.crossing.depth",
    "model.crossing.maps",
    "model.crossing.hidden",
    "model.init_scale",
    "optimiser.name",
    "optimiser.learning_rate",
    "optimiser.schedule.name",
    "optimiser.clip",
    "optimiser.tables",
    "optimiser.table_learning_rate",
    "optimiser.weight_decay",
    "training.batch_size",
    "training.spaces",
    "training.precision",
    "pruning.finder.name",
    "pruning.unit",
    "pruning.scope",
    "pruning.final_density",
    "pruning.rounds",
    "pruning.epochs",
    "pruning.patience",
    "pruning.rewind",
    "on_nonfinite",
}
HIDDEN = {"model.hidden"}
"""The widths of plain MLPs; other architectures have their own."""
BY_TASK = {
    "click": {"training.binary_loss", "training.positive_weight"},
    "watch": {"model.own_dims", "training.continuous_loss"},
}
JOINT = {
    "pruning.rewind_step",
    "model.own_dims",
    "optimiser.moving",
    "balance.name",
    "training.schedule",
    "training.weights",
    "training.cvr_passes",
    "training.binary_loss",
    "training.continuous_loss",
    "training.conflict_factor",
    "training.positive_weight",
}
"""What trains the tasks together before the point to which a search rewinds."""
SAME = {
    "training.epochs",  # of joint training, which comes after
    "training.patience",
    "training.conflict_threshold",  # without a factor
    "training.init_from",
    "pruning.max_density",  # chooses among the rounds of a search
    "pruning.masks",  # which tickets are made of
    "checkpoint.every",
    "checkpoint.steps",
    "mesh.devices",
    "mesh.cluster",
    "mesh.coordinator",
    "mesh.processes",
    "mesh.process",
    "resume",
    "training.tasks",  # of both a pair and one task, the net is the pair's
} | (JOINT - BY_TASK["click"] - BY_TASK["watch"])
SAME_BELOW = ("data.", "metrics.")
"""What a log holds has a fingerprint."""


def expected(base: str, task: str, name: str) -> bool:
    """Whether a field must change the key; fails for one that nobody has listed."""
    if any(name.startswith(f"{section}.") for section in SECTIONS[base]):
        return True
    if name in CHANGES | BY_TASK[task] or (base == "warm" and name in JOINT):
        return True
    if name in HIDDEN:
        return base != "other methods"
    listed = SAME | BY_TASK["click"] | BY_TASK["watch"]
    assert name in listed or name.startswith(SAME_BELOW) or is_of_no_use(base, name), (
        f"{name} is new: say here whether it changes what a search does"
    )
    return False


def is_of_no_use(base: str, name: str) -> bool:
    """Whether a field lies in the section of a method that is not in use."""
    config, at = BASES[base], name.split(".")
    for part in at[:-1]:
        if part in unused(config):
            return True
        config = getattr(config, part)
    return False


def fields(config: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, type and value of every field that holds no others."""
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{at}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from fields(value, f"{name}.")
        else:
            choice = getattr(config, "CHOICE", None) == field.name
            hint = discovery.files(config.FOLDER) if choice else hints[field.name]
            yield name, hint, value


def others(hint: Any, value: Any) -> Iterator[Any]:
    """Other values of a type, the likely ones first."""
    if isinstance(hint, dict):  # names of methods
        yield from (name for name in hint if name != value)
    elif get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        like = [kind for kind in kinds if is_of(kind, value)]
        yield from itertools.chain.from_iterable(
            others(kind, value if kind in like else None)
            for kind in [*like, *(kind for kind in kinds if kind not in like)]
        )
    elif get_origin(hint) is Literal:
        yield from (member for member in get_args(hint) if member != value)
    elif hint is bool:
        yield not value
    elif hint is int:
        yield from (2,) if value is None else (value + 1, value - 1, 2 * value)
    elif hint is float:
        number = 0.0 if value is None else value
        yield from (number / 2, number * 2) if number else (0.25,)
    elif hint is str:
        yield f"{value or ''}x"
    elif hint is Path:
        yield Path("another")
    elif get_origin(hint) is tuple:
        yield from tuples(get_args(hint), value or ())
    else:
        raise TypeError(f"no other value of {hint} is known")


def tuples(parts: tuple, value: tuple) -> Iterator[tuple]:
    kind = parts[0]
    if get_origin(kind) is tuple:  # of a task and its number
        yield ((TASKS[1], 3), *value)
    elif value:
        yield from ((other, *value[1:]) for other in others(kind, value[0]))
    else:
        yield from ((other,) for other in others(kind, None))


def is_of(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    return isinstance(value, get_origin(kind) or kind)


def key(config: Config, task: str, data: Dataset = DATA) -> str:
    return ticket_cache.folder(Path(), config, data, task, 0).parent.name


def search(config: Config, task: str) -> dict:
    return ticket_cache.plain(ticket_cache.resolve(config, DATA, task))


def perturbed(base: Config) -> Iterator[tuple[str, Config | None]]:
    """Name of each field -> the configuration with another value of it that a run
    could use, or None."""
    for name, hint, value in fields(base):
        for other in others(hint, value):
            try:
                config = changed(base, **{name.replace(".", "__"): other})
                config.check()
                search(config, "click")
            except ValueError:
                continue
            yield name, config
            break
        else:
            yield name, None


REFUSED = {
    "plain": set(),
    "warm": set(),
    "other methods": {"balance.name"},  # by turns, there is nothing to balance
}
"""Fields of which no other value fits the base."""


@pytest.mark.parametrize("base", BASES)
def test_the_key_changes_if_and_only_if_the_search_does(base):
    before = {t: (key(BASES[base], t), search(BASES[base], t)) for t in TASKS}
    refused, wrong = set(), []
    for name, config in perturbed(BASES[base]):
        if config is None:
            refused.add(name)
            continue
        assert config != BASES[base], name
        for task in TASKS:
            old_key, old = before[task]
            is_other = key(config, task) != old_key
            assert is_other == (search(config, task) != old), (name, task)
            if is_other != expected(base, task, name):
                wrong.append((name, task, is_other))
    assert not wrong
    assert refused == REFUSED[base]


def test_a_field_that_nobody_has_listed_is_asked_for():
    with pytest.raises(AssertionError, match="training.augment is new: say here"):
        expected("plain", "click", "training.augment")


@pytest.mark.parametrize("task", TASKS)
def test_what_a_log_holds_and_what_a_search_does_are_of_its_key(task, monkeypatch):
    config, other = BASES["plain"], dataclasses.replace(DATA, fingerprint="other")
    before = key(config, task)
    assert key(config, task, other) != before
    if task == "click":  # the share of positives alone is of a key, as a weight
        rate = changed(config, training__positive_weight="rate")
        labels = DATA.splits["train"].labels
        rows = DATA.splits["train"]._replace(labels=labels | {"click": labels["like"]})
        rarer = dataclasses.replace(DATA, splits={"train": rows})
        assert key(rate, task, rarer) != key(rate, task) != before
    monkeypatch.setattr(ticket_cache.Search.__new__, "__defaults__", (99,))
    assert key(config, task) != before


def test_a_setting_given_as_what_it_is_by_default_changes_nothing():
    defaults = {
        "training__continuous_loss": None,
        "optimiser__table_learning_rate": PLAIN.optimiser.learning_rate,
        "training__positive_weight": 1.0,
        "training__weights": (("cvr", 1.0),),
    }
    for (name, value), task in itertools.product(defaults.items(), TASKS):
        config = changed(PLAIN, **{name: value})
        assert config == PLAIN or key(config, task) == key(PLAIN, task), name


@pytest.mark.parametrize(
    ("tasks", "nets"),
    [
        ("pair", ("click", "watch")),
        ("cvr", ("click", "watch")),
        (("click",), ("click", "watch")),
        (("watch", "click"), ("watch", "click")),
        (("like", "click"), ("like", "click")),
        (("like",), ("like",)),
        ("all", ("click", "watch", "like")),
    ],
)
def test_a_ticket_is_searched_for_in_the_net_of_all_that_are_trained(tasks, nets):
    """In that of the pair where one of them is trained alone."""
    config = changed(BASES["warm"], training__tasks=tasks)
    for task in set(nets) - {"click", "watch"} or nets:
        found = ticket_cache.resolve(config, DATA, task)
        net = found.setup.spec.net
        assert (net.net_tasks or net.tasks) == nets
        assert found.warm["setup"].tasks == nets


def test_the_seed_is_beside_the_key():
    first, second = (ticket_cache.folder(Path(), PLAIN, DATA, "click", s) for s in "01")
    assert first.parent == second.parent and first != second


def all_keys() -> dict[str, str]:
    return {f"{base} {t}": key(BASES[base], t) for base in BASES for t in TASKS}


@pytest.mark.end_to_end
@pytest.mark.parametrize("hash_seed", ["1", "77"])
def test_equal_configurations_have_equal_keys_in_any_process(hash_seed):
    """Whatever the order in which that process goes through a set."""
    code = "import json, test_search_keys as t; print(json.dumps(t.all_keys()))"
    here = Path(__file__).parent
    paths = (here, here.parents[1], here.parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == all_keys()
    assert len(set(found.values())) == len(found)
