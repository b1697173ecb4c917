"""ESMM's net: conditional logits, from an MLP for each task."""

import numpy as np
from conftest import assert_close, assert_same_bits
from oracles import FUNNEL, draw_features, draw_like, flattened, float64, sigmoid, tower

from jaxmtl import models
from jaxmtl.layers.crossing import Crossing
from jaxmtl.spaces import product_logit


def make():
    options = models.Esmm(hidden=(5, 3))
    model, features = models.make(options, FUNNEL, Crossing("none")), draw_features()
    return model, features, draw_like(model.init, features)


def test_logit_of_a_task_is_conditional_and_reads_its_own_mlp_alone():
    model, features, net = make()
    logits = model.apply(net, features).logits
    own, x = float64(net["tasks"]), flattened(features)
    expected = {name: tower(x, own[name]) for name in own}
    assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    net["tasks"]["click"]["head"]["bias"] += 1
    moved = model.apply(net, features).logits
    assert_same_bits(moved["watch"], logits["watch"])
    assert (moved["click"] != logits["click"]).any()


def test_product_of_its_logits_is_the_chance_of_the_whole_funnel():
    model, features, net = make()
    own, x = float64(net["tasks"]), flattened(features)
    chances = [sigmoid(tower(x, own[task.name])) for task in FUNNEL]
    logits = model.apply(net, features).logits
    joint = product_logit([logits[task.name] for task in FUNNEL])
    np.testing.assert_allclose(
        sigmoid(np.asarray(joint, np.float64)), np.prod(chances, axis=0), rtol=1e-4
    )
    assert models.Esmm.spaces == "product"
