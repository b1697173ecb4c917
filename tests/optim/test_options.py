"""Options of optimisers and schedules: frozen, and refused by name and range."""

import dataclasses
import importlib
import math
import pkgutil

import pytest

from jaxmtl.optim import optimisers, schedules
from jaxmtl.optim.optimisers.adam import Adam
from jaxmtl.optim.optimisers.sgd import Sgd
from jaxmtl.optim.schedules.cosine import Cosine
from jaxmtl.optim.schedules.exponential import Exponential
from jaxmtl.optim.schedules.warmup import Warmup


def classes() -> list[type]:
    found = []
    for folder in (optimisers, schedules):
        for module in pkgutil.iter_modules(folder.__path__):
            content = vars(importlib.import_module(f"{folder.__name__}.{module.name}"))
            wanted = module.name.replace("_", "")
            found += [v for k, v in content.items() if k.lower() == wanted != k]
    return found


CLASSES = classes()
NUMBERS = [
    (options, field.name)
    for options in CLASSES
    for field in dataclasses.fields(options)
    if not isinstance(field.default, bool)
]


@pytest.mark.parametrize("options", CLASSES)
def test_options_are_frozen_hashable_and_have_defaults(options):
    one, two = options(), options()
    assert one == two and hash(one) == hash(two)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.anything = 1


@pytest.mark.parametrize(("options", "name"), NUMBERS)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "0.5", True, None])
def test_what_is_no_number_in_range_is_refused_by_name(options, name, value):
    expected = rf"{options.__name__}\.{name} is {value!r}; give a (whole )?number "
    with pytest.raises(ValueError, match=expected):
        options(**{name: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(b1=1.0), r"Adam.b1 is 1.0; give a number in \[0, 1\)"),
        (lambda: Adam(b2=1 - 1e-9), r"Adam.b2 is .*in \[0, 1\), as float32 too"),
        (lambda: Adam(eps=0.0), "Adam.eps is 0.0; give a number of at least 1.2e-38"),
        (lambda: Adam(eps=1e-50), "Adam.eps is 1e-50"),
        (lambda: Sgd(nesterov=True), "Sgd.nesterov is True without momentum"),
        (lambda: Warmup(steps=2.5), "Warmup.steps is 2.5; give a whole number of at l"),
        (lambda: Warmup(start=1.1), r"Warmup.start is 1.1; give a number in \[0, 1\]"),
        (
            lambda: Cosine(steps=0),
            "Cosine.steps is 0; give a whole number of at least 1",
        ),
        (
            lambda: Cosine(3, warmup=3),
            "Cosine.warmup is 3 of Cosine.steps = 3; the war",
        ),
        (lambda: Exponential(rate=0.0), "Exponential.rate is 0.0"),
        (lambda: Exponential(rate=1.5), "Exponential.rate is 1.5"),
        (lambda: Exponential(every=0), "Exponential.every is 0"),
    ],
)
def test_ends_of_ranges(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_ends_that_belong_to_ranges():
    Adam(b1=0, b2=0.0, eps=1.2e-38)
    Warmup(0, start=1)
    Cosine(1, end=1)
    Exponential(rate=1, every=1, end=0)
