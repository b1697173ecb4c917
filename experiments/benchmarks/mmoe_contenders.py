"""One MMoE, trained by four libraries on the same rows, for `peers`.

Each maker returns a call that trains one block of steps through the library's own code,
and the number of weights besides the tables. What differs:

- torch-rechub has a batch normalisation behind every layer of its MLPs and gates;
- DeepCTR-Torch gets slices in place of its DataLoader, which collates row by row, and
  an L2 penalty of 0: its default is a pass over all tables a step;
- torch, the control, is written by hand as one would for speed: one sparse table for
  all fields under SparseAdam, one product for each layer of all experts, fused Adam.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxmtl.layers.crossing import Crossing
from jaxmtl.models import Mmoe
from jaxmtl.training import spec
from jaxmtl.training.spec import Setup
from jaxmtl.training.train import make_epoch
from jaxmtl.training.train_state import dense_masks, make_gates, make_init
from jaxmtl.types import Field, Rows, Schema, Task, Vocabulary

FIELDS = tuple(f"field{i:02d}" for i in range(20))
TASKS = ("click", "buy")
DIM = 32
MMOE = Mmoe(experts=8, expert_hidden=(128, 64), tower=(32,))
RATE = 1e-3
"""The rate that DeepCTR-Torch's `compile("adam")` fixes."""

Run = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Log:
    """The rows that all contenders train on.

    Attributes:
      size: ids of each field.
      batch: rows a step.
      ids: int32 [steps * batch, fields], 1 … size - 1 in every field.
      labels: float32 [steps * batch, tasks], 0 or 1.
    """

    size: int
    batch: int
    ids: np.ndarray
    labels: np.ndarray


def make_log(ids: int, draw: str, batch: int, steps: int) -> Log:
    """Draws rows; labels are chance, which costs what signal costs.

    Raises:
      ValueError: too few ids for every field to have one besides the unknown.
    """
    size = ids // len(FIELDS)
    if size < 2:
        raise ValueError(f"{ids} ids; give {2 * len(FIELDS)} or more")
    rng, shape = np.random.default_rng(0), (batch * steps, len(FIELDS))
    if draw == "uniform":
        drawn = rng.integers(1, size, shape)
    else:
        drawn = 1 + rng.zipf(1.2, shape) % (size - 1)
    labels = rng.random((batch * steps, len(TASKS))) < 0.3
    return Log(size, batch, drawn.astype(np.int32), labels.astype(np.float32))


def make_setup(size: int) -> Setup:
    """Our MMoE over fields of `size` ids each."""
    schema = Schema(
        name="peers",
        fields=tuple(Field(name, name) for name in FIELDS),
        vocabularies=tuple(Vocabulary(name, size) for name in FIELDS),
        tasks=tuple(Task(name) for name in TASKS),
        ctr=TASKS[0],
        cvr=TASKS[1],
        user=FIELDS[0],
        item=FIELDS[1],
    )
    return spec.make_setup(
        schema=schema,
        tasks=TASKS,
        architecture=MMOE,
        crossing=Crossing("none"),
        dim=DIM,
        learning_rate=RATE,
        task_losses=dict.fromkeys(TASKS, "log"),
        summed=True,
        masked=False,
    )


def on_device(log: Log) -> tuple[Rows, jax.Array]:
    """The rows as our programs take them, and int32 [steps, batch] their order."""
    n = len(log.ids)
    labels = dict(zip(TASKS, log.labels.T, strict=True))
    groups = {name: np.zeros(n, np.int32) for name in ("user", "item")}
    rows = Rows(log.ids, np.zeros((n, 0), np.float32), labels, {}, groups)
    order = jnp.arange(n, dtype=jnp.int32).reshape(-1, log.batch)
    return jax.tree.map(jnp.asarray, rows), order


def ours(log: Log) -> tuple[Run, int]:
    """A call that trains a block of steps, and how many weights the net has."""
    setup = make_setup(log.size)
    state = make_init(setup)(jax.random.key(0))
    weights = sum(leaf.size for leaf in jax.tree.leaves(state.net))
    dense, epoch = dense_masks(setup, state.net), make_epoch(setup)
    gates = make_gates(setup, state.net, dense)
    rows, order = on_device(log)
    (kind,) = setup.kinds

    def run():
        nonlocal state
        state, losses = epoch(state, dense, gates, rows, {kind: order})
        jax.block_until_ready((state, losses))

    return run, weights


def slices(dataset, batch_size: int, shuffle: bool = False) -> list:
    """A torch data set's batches in order, as views."""
    del shuffle
    starts = range(0, len(dataset), batch_size)
    return [dataset[start : start + batch_size] for start in starts]


def batches(log: Log) -> list:
    """Pairs of ids [batch, fields] and labels [batch, tasks], as torch tensors on its
    default device."""
    import torch

    device = torch.get_default_device()
    tensors = [torch.from_numpy(x).to(device) for x in (log.ids, log.labels)]
    return slices(torch.utils.data.TensorDataset(*tensors), log.batch)


def rechub(log: Log) -> tuple[Run, int]:
    """torch-rechub's model and trainer."""
    from torch_rechub.basic.features import SparseFeature
    from torch_rechub.models.multi_task import MMOE as Model
    from torch_rechub.trainers import MTLTrainer

    kinds = ["classification"] * len(TASKS)
    model = Model(
        [SparseFeature(name, log.size, DIM) for name in FIELDS],
        kinds,
        MMOE.experts,
        {"dims": list(MMOE.expert_hidden)},
        [{"dims": list(MMOE.tower)} for _ in TASKS],
    )
    adam = {"lr": RATE}
    trainer = MTLTrainer(model, kinds, optimizer_params=adam)
    data = [
        (dict(zip(FIELDS, ids.T.contiguous(), strict=True)), labels)
        for ids, labels in batches(log)
    ]
    return lambda: trainer.train_one_epoch(data), _weights(model)


def deepctr(log: Log) -> tuple[Run, int]:
    """DeepCTR-Torch's model and its `fit`."""
    from deepctr_torch.inputs import SparseFeat
    from deepctr_torch.models import basemodel
    from deepctr_torch.models.multitask import MMOE as Model

    model = Model(
        [SparseFeat(name, log.size, DIM) for name in FIELDS],
        num_experts=MMOE.experts,
        expert_dnn_hidden_units=MMOE.expert_hidden,
        gate_dnn_hidden_units=(),
        tower_dnn_hidden_units=MMOE.tower,
        l2_reg_embedding=0,
        task_types=["binary"] * len(TASKS),
        task_names=TASKS,
    )
    model.compile("adam", loss=["binary_crossentropy"] * len(TASKS))

    def run():
        with mock.patch.object(basemodel, "DataLoader", slices):
            model.fit([log.ids], log.labels, log.batch, verbose=0)

    return run, _weights(model)


def plain_torch(log: Log) -> tuple[Run, int]:
    """The same net in PyTorch alone, written for speed."""
    import torch

    nn, functional = torch.nn, torch.nn.functional
    experts, (first, last), (tower,) = MMOE.experts, MMOE.expert_hidden, MMOE.tower
    width, tasks = len(FIELDS) * DIM, len(TASKS)
    table = nn.Embedding(len(FIELDS) * log.size, DIM, sparse=True)
    entry = nn.Linear(width, experts * first)
    gates = nn.Linear(width, tasks * experts, bias=False)

    def stacked(count: int, inward: int, outward: int) -> list:
        kernel = torch.randn(count, inward, outward) / inward**0.5
        return [nn.Parameter(kernel), nn.Parameter(torch.zeros(count, 1, outward))]

    kernel, bias = stacked(experts, first, last)
    layers = [stacked(tasks, last, tower), stacked(tasks, tower, 1)]
    dense = [*entry.parameters(), *gates.parameters(), kernel, bias, *sum(layers, [])]
    sparse_adam = torch.optim.SparseAdam(table.parameters(), lr=RATE)
    adam = torch.optim.Adam(dense, lr=RATE, fused=True)

    def logits(ids):
        vector = table(ids).flatten(1)
        hidden = entry(vector).relu().view(-1, experts, first).transpose(0, 1)
        outputs = torch.baddbmm(bias, hidden, kernel).relu().transpose(0, 1)
        mixture = gates(vector).view(-1, tasks, experts).softmax(-1)
        mixed = torch.bmm(mixture, outputs).transpose(0, 1)
        (w1, b1), (w2, b2) = layers
        top = torch.baddbmm(b1, mixed, w1).relu()
        return torch.baddbmm(b2, top, w2).squeeze(-1).T

    offsets = log.size * torch.arange(len(FIELDS), dtype=torch.int32)
    data = [(ids + offsets, labels) for ids, labels in batches(log)]

    def run():
        for ids, labels in data:
            loss = functional.binary_cross_entropy_with_logits(logits(ids), labels)
            sparse_adam.zero_grad()
            adam.zero_grad()
            loss.backward()
            sparse_adam.step()
            adam.step()

    return run, sum(weight.numel() for weight in dense)


def _weights(model) -> int:
    tables = ("embedding.", "embedding_dict.")
    named = model.named_parameters()
    return sum(w.numel() for name, w in named if not name.startswith(tables))


MAKERS: dict[str, Callable[[Log], tuple[Run, int]]] = {
    "ours": ours,
    "torch-rechub": rechub,
    "deepctr-torch": deepctr,
    "torch": plain_torch,
}
"""By the name of the distribution each needs, but for ours; ImportError without it."""
