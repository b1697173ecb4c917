"""Masks and pruning compute the same eagerly, compiled, and on arrays of the host."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxmtl.sparsity import masks, pruning


def make_net(seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    trunk = {"layer00": {"kernel": draw(5, 4), "bias": draw(4)}}
    heads = {task: {"head": {"kernel": draw(4, 1)}} for task in ("click", "order")}
    return {"shared": trunk, "tasks": heads}


class Variants(chex.TestCase):
    """One definition, each way that JAX may run it."""

    @chex.variants(
        with_jit=True, without_jit=True, with_device=True, without_device=True
    )
    @parameterized.parameters(0, 1)
    def test_a_mask_hides_exactly_what_it_leaves_out(self, seed):
        net = make_net(seed)
        mask = pruning.prune(net, masks.full(net, "click"), 7)
        seen = self.variant(masks.apply)(net, mask)
        chex.assert_trees_all_equal_shapes_and_dtypes(seen, net)
        kernel = np.asarray(seen["shared"]["layer00"]["kernel"])
        kept = np.asarray(mask["shared"]["layer00"]["kernel"])
        assert kept.sum() == 7
        np.testing.assert_array_equal(kernel != 0, kept)
        chex.assert_trees_all_equal(seen["tasks"], net["tasks"])

    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    def test_pruning_keeps_the_same_weights_whoever_runs_it(self):
        net = make_net()
        full = masks.full(net, "click")
        expected = pruning.prune(net, full, 9)
        found = self.variant(pruning.prune)(net, full, jnp.int32(9))
        chex.assert_trees_all_equal(found, expected)

    @chex.variants(with_jit=True, without_jit=True)
    def test_gates_open_what_a_step_may_move(self):
        net = make_net()
        mask = pruning.prune(net, masks.full(net, "click"), 7)
        gates = self.variant(masks.gates)(net, {"click": mask})
        chex.assert_trees_all_equal(
            gates["shared"]["layer00"]["kernel"], mask["shared"]["layer00"]["kernel"]
        )
        opened = jax.tree.map(np.all, gates["tasks"])
        assert opened["click"]["head"]["kernel"]
        assert not opened["order"]["head"]["kernel"]
