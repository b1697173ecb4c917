"""A run that starts from another holds what that one was, not only where it lay."""

import dataclasses

import pytest

from experiments.analysis import experiment
from experiments.running import joint
from experiments.running.workdir import claim, read_json, write_json
from experiments.settings.ablation import Ablation, Row
from experiments.settings.config import Config
from jaxmtl.data.store import Dataset

DATA = Dataset(None, {}, {}, (), "abc")


@pytest.fixture
def earlier(tmp_path):
    """The work directory of a finished run of one row; its settings can be changed."""
    folder = tmp_path / "earlier"

    def make(seed=0, fingerprint="abc", **settings):
        (folder / "rows" / "a" / f"seed{seed}" / "checkpoint").mkdir(
            parents=True, exist_ok=True
        )
        rows = {"a": {"model": {"hidden": [8]}} | settings}
        held = {"name": "a", "data": {"fingerprint": fingerprint}, "rows": rows}
        write_json(folder / "config.json", held)
        return folder

    return make


def described(folder):
    config = Config()
    training = dataclasses.replace(config.training, init_from=folder)
    config = dataclasses.replace(config, training=training)
    return experiment._describe("b", config, [Ablation("b", Row("b"), config)], DATA)


def test_a_run_goes_on_only_from_the_run_it_began_with(tmp_path, earlier):
    with claim(tmp_path / "run", described(earlier())):
        pass
    with claim(tmp_path / "run", described(earlier())):
        pass
    wrong = {"model": {"model": {"hidden": [16]}}, "log": {"fingerprint": "xyz"}}
    for changes in wrong.values():
        with pytest.raises(ValueError, match=r"another configuration: started_from\.b"):
            claim(tmp_path / "run", described(earlier(**changes)))


def test_another_seed_of_the_earlier_run_changes_nothing(earlier):
    before = described(earlier())
    assert described(earlier(seed=1)) == before


def test_a_run_from_scratch_began_with_none():
    assert described(None).keys() == {"name", "data", "rows", "software", "places"}


def test_where_the_earlier_run_lies_is_no_part_of_what_it_was(tmp_path, earlier):
    with claim(tmp_path / "run", described(earlier())):
        pass
    moved = earlier().rename(tmp_path / "moved")
    with claim(tmp_path / "run", described(moved)):
        pass
    held = read_json(tmp_path / "run" / "config.json")
    assert held["places"]["training.init_from"] == str(moved)


def test_a_seed_that_is_not_finished_is_no_start(earlier):
    folder = earlier()
    (folder / "rows" / ".DS_Store").write_text("?")
    with pytest.raises(ValueError, match=r"--init-from .* seed 0 of a is not finished"):
        joint.find_checkpoint(folder, 0)
    write_json(folder / "rows" / "a" / "seed0" / "seed.json", {})
    assert joint.find_checkpoint(folder, 0).name == "checkpoint"
    with pytest.raises(ValueError, match=r"a has no seed 1; it has \['seed0'\]"):
        joint.find_checkpoint(folder, 1)


def test_a_row_without_its_run_is_no_start(earlier):
    folder = earlier()
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"--init-from .*config\.json"):
        joint.started_from(folder)
