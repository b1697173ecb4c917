"""A mask finder is one new file: a search scores by it, and knows it in its key."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from tiny import ONCE, TINY

from experiments.running import search_finder, ticket_cache
from experiments.settings import ablation, sources
from experiments.settings.config import Config, FinderConfig, PruningConfig
from jaxmtl.sparsity.finders.saliency import Saliency

TOY = '''
"""The largest weights fall, by so much of their gradient too."""
import dataclasses

import jax
import jax.numpy as jnp

from jaxmtl.sparsity.finder import Finder, over

@dataclasses.dataclass(frozen=True)
class Smallest:
    """
    Attributes:
      share: of the gradient.
    """
    share: float = 0.0

def smallest(options: Smallest) -> Finder:
    """Minus |w|."""
    def score(net, mask, *, gradients, key):
        def leaf(w, g):
            jax.debug.callback(lambda some: print("scored", some), jnp.any(g != 0))
            return -jnp.abs(w) - options.share * jnp.abs(g)
        return over(mask, leaf, net, gradients)
    return Finder(score, batches=2)
'''
RUN = """
import sys
import jaxmtl.sparsity.finders as finders
finders.__path__.append(sys.argv[1])
from experiments import run
sys.exit(run.main(sys.argv[2:]))
"""


@pytest.mark.end_to_end
def test_a_new_files_finder_is_searched_with_by_its_name(tmp_path, cache):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "smallest.py").write_text(TOY.lstrip())
    where = ("--data.cache", str(cache), "--workdir", str(tmp_path / "run"))
    once = (*ONCE.split(), "--seeds", "1", "--processes", "1")
    finder = "--pruning.finder.name smallest --pruning.finder.smallest.share 0.5"
    settings = ("lt4rec.ticket_cvr", *TINY, *where, *once, *finder.split())
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "more"), *settings],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "True" in {
        line.split()[-1]
        for line in done.stdout.splitlines()
        if line.startswith("scored")
    }
    (record,) = (tmp_path / "run").rglob("ticket.json")
    found = json.loads(record.read_text())
    assert found["identity"]["pruning"]["finder"] == {
        "kind": "jaxmtl.sparsity.finders.smallest.Smallest",
        "share": 0.5,
    }
    assert [r["density"] for r in found["rounds"]] == [1, pytest.approx(0.2, abs=0.01)]


def test_a_finder_that_is_none_is_refused_with_the_nearest():
    pruning = PruningConfig(finder=FinderConfig(name="magnitud"))
    with pytest.raises(
        ValueError, match=r"--pruning.finder.name is 'magnitud'.*magnitude"
    ):
        Config(pruning=pruning).check()


@pytest.fixture(scope="module")
def row(cache):
    """A row's tiny configuration and its log."""
    row = ablation.load("lt4rec.ticket_cvr")
    config = row.configure(ablation.set_up("lt4rec.ticket_cvr", "demo"))
    feed = dataclasses.replace(
        config.data.feed, users=60, videos=60, impressions=3000, days=4
    )
    data = dataclasses.replace(config.data, cache=cache, feed=feed)
    config = dataclasses.replace(config, data=data)
    return config, sources.load(config.data)


def with_finder(config, **finder):
    pruning = dataclasses.replace(config.pruning, finder=FinderConfig(**finder))
    return dataclasses.replace(config, pruning=pruning)


def test_the_finder_in_use_is_part_of_a_searchs_key_and_no_other(row):
    config, data = row
    key = lambda **finder: ticket_cache.identity(
        with_finder(config, **finder), data, "watch"
    )
    assert key() == key(saliency=Saliency(batches=3))  # not in use
    keys = [
        key(),
        key(name="random"),
        key(name="saliency"),
        key(name="saliency", saliency=Saliency(batches=3)),
    ]
    assert len({json.dumps(k, sort_keys=True) for k in keys}) == 4


def test_a_random_search_draws_anew_for_each_seed_and_round_and_again_the_same(row):
    import jax

    from jaxmtl.sparsity import masks
    from jaxmtl.training import train_state

    config, data = row
    config = with_finder(config, name="random")
    setup = ticket_cache.single_setup(config, data, "watch")
    state = train_state.make_init(setup)(jax.random.key(0))
    dense = ticket_cache.read_by(setup, "watch")

    def draw(seed, number):
        finder = search_finder.make(config, setup, dense, seed, None, None)
        best = train_state.snapshot_of(state)
        mask = finder.prune(best, dense, masks.count(dense) // 2, number)
        return np.concatenate([np.ravel(m) for m in jax.tree.leaves(mask)])

    first = draw(0, 0)
    np.testing.assert_array_equal(first, draw(0, 0))
    for other in (draw(0, 1), draw(1, 0)):
        assert 0.4 < np.mean(other == first) < 0.6
