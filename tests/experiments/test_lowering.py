"""The training program of every row is one that compilers of TPUs and GPUs take.

Up to their own part: what they make of it is told by `benchmarks.compiled`.
"""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from experiments.benchmarks.compiled_programs import epoch_shapes, row_setup, schema_of
from experiments.settings import ablation, listing
from jaxmtl.training.train import epoch_program

pytestmark = pytest.mark.end_to_end

ROWS = [name for name in listing.names() if listing.is_row(name)]
IDS, BATCH = 2000, 64


def without_sizes(value: Any) -> Any:
    """A spec without its numbers: another width makes no other program."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        parts = tuple(without_sizes(getattr(value, f.name)) for f in fields)
        return type(value), parts
    if isinstance(value, tuple):
        parts = tuple(map(without_sizes, value))
        return None if set(parts) == {None} else parts
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number else value


@pytest.fixture
def short_windows(monkeypatch):
    """Of two positions: what more of them would add is the same again."""
    set_up = ablation.set_up

    def shorter(name, preset):
        config = set_up(name, preset)
        dcrnn = replace(config.model.dcrnn, length=2, interval=1)
        return replace(config, model=replace(config.model, dcrnn=dcrnn))

    monkeypatch.setattr(ablation, "set_up", shorter)


@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("folder", sorted({name.split(".")[0] for name in ROWS}))
def test_the_programs_of_all_rows_lower_for_tpus_and_gpus(folder):
    programs = {}
    for name in (name for name in ROWS if name.startswith(f"{folder}.")):
        _, setup = row_setup(name, schema_of(name, IDS), "demo")
        programs.setdefault(without_sizes(setup.spec), setup)
    assert len(programs) > 10
    for setup in programs.values():
        shapes = epoch_shapes(setup, BATCH)
        traced = epoch_program(setup.spec).trace(setup.numbers, *shapes)
        lowered = traced.lower(lowering_platforms=("tpu", "cuda"))
        assert "stablehlo.while" in lowered.as_text()
