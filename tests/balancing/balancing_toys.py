"""Steps of a small net, with gradients that are drawn instead of pulled back."""

import dataclasses
import importlib
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxmtl.balancing.methods
from jaxmtl.sparsity import masks

TASKS = {"click": "log", "watch": "squared", "like": "focal"}
"""Not in the order of the names."""
LOSSES = (0.7, 0.2, 1.3)
SHARED = {"layer": {"kernel": (4, 3), "bias": (3,)}, "next": {"kernel": (3, 2)}}
FOLDER = Path(jaxmtl.balancing.methods.__file__).parent
METHODS = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def options_of(method):
    """The options of a method's file, found by its name, at their defaults."""
    module = importlib.import_module(f"jaxmtl.balancing.methods.{method}")
    wanted = method.replace("_", "")
    kinds = [v for k, v in vars(module).items() if k.lower() == wanted and k != wanted]
    return kinds[0]()


def make(options):
    module = importlib.import_module(type(options).__module__)
    return getattr(module, module.__name__.rpartition(".")[2])(options)


def tasks_of(number):
    return dict(itertools.islice(TASKS.items(), number))


@dataclasses.dataclass
class Step:
    """What a balancer sees of a step; gradients are linear in the cotangents."""

    losses: dict[str, Any]
    gradients: dict[str, Any]
    rest: Any
    masks: dict[str, Any]
    counts: dict[str, Any]

    def pull(self, cotangents, rest=1.0):
        result = jax.tree.map(lambda leaf: jnp.asarray(rest * leaf), self.rest)
        for name, factor in sorted(cotangents.items()):
            add = lambda a, b, factor=factor: a + factor * b
            result = jax.tree.map(add, result, self.gradients[name])
        return result

    def only(self, names):
        names = tuple(names)
        keep = lambda values: {name: values[name] for name in names}
        return Step(
            keep(self.losses),
            keep(self.gradients),
            self.rest,
            keep(self.masks),
            keep(self.counts),
        )


jax.tree_util.register_dataclass(Step)


def draw(tasks, seed, *, masked=False, absent=()):
    """A step of some tasks; those that are absent have loss and gradient 0."""
    rng = np.random.default_rng(seed)
    is_shape = lambda x: isinstance(x, tuple)
    normal = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)

    def gradient():
        own = {name: {"head": {"kernel": normal((2, 1))}} for name in tasks}
        net = {"shared": jax.tree.map(normal, SHARED, is_leaf=is_shape), "tasks": own}
        return net, {"shared": normal((5, 2)), "click": normal((5, 1))}

    step = Step({}, {}, gradient(), {}, {})
    for number, name in enumerate(tasks):
        here = name not in absent
        net, rows = jax.tree.map(lambda leaf, at=here: leaf * at, gradient())
        mask = masks.full(net, name)
        bits = lambda leaf: jnp.asarray(rng.random(leaf.shape) < 0.6)
        step.masks[name] = jax.tree.map(bits, mask) if masked else None
        step.gradients[name] = masks.apply(net, step.masks[name]), rows
        loss = LOSSES[number] * (0.5 + rng.random()) * here
        step.losses[name] = jnp.asarray(loss, jnp.float32)
        step.counts[name] = jnp.asarray(4 * here, jnp.int32)
    return step


def start(options, tasks, weights=None):
    return make(options).init(tasks, jax.random.key(3), weights or {})


def combine(options, state, step, at=0, rate=0.1):
    """One call; a float32 rate, as a training has it."""
    return make(options).combine(
        step.losses,
        step.pull,
        state,
        masks=step.masks,
        counts=step.counts,
        step=jnp.asarray(at, jnp.int32),
        learning_rate=jnp.asarray(rate, jnp.float32),
    )


jitted = jax.jit(combine, static_argnums=0)


def flat(tree):
    """All numbers of a tree in one float64 vector."""
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves)


def shared(gradients):
    return flat(gradients[0]["shared"])


def others(gradients):
    """Own parts and rows."""
    return flat((gradients[0]["tasks"], gradients[1]))


def seen(mask):
    """Which numbers of `shared` a mask keeps, float64."""
    size = [np.prod(shape) for layer in SHARED.values() for shape in layer.values()]
    if mask is None:
        return np.ones(sum(size))
    leaves = jax.tree.leaves(mask["shared"], is_leaf=lambda leaf: leaf is None)
    shapes = [
        shape
        for _, layer in sorted(SHARED.items())
        for _, shape in sorted(layer.items())
    ]
    pairs = zip(leaves, shapes, strict=True)
    return flat([np.ones(shape) if leaf is None else leaf for leaf, shape in pairs])


class Adam:
    """Kingma and Ba's Algorithm 1 on one number, in float64."""

    def __init__(self):
        self.mean = self.square = self.count = 0

    def direction(self, gradient):
        self.count += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        scale = np.sqrt(self.square / (1 - 0.999**self.count)) + 1e-8
        return self.mean / (1 - 0.9**self.count) / scale
