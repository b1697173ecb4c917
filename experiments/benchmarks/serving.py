"""Scoring one subnetwork in every form, and the dense net by PyTorch and ONNX Runtime.

    pip install -e ".[serving-peers]"
    python -m experiments.benchmarks.serving

The net is LT4REC's: 20 fields with embeddings of 32 and their inner products, 1,040
inputs, layers of 512, 256 and 128, one head. What is timed is the net alone, from its
input vector to its logit; weights are random, and so are the masks of weights; masks
of neurons keep the same share of every layer. Whoever is not installed is left out.

Run it on idle cores: threads that spin while they wait make everyone slower who has
more of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCSR

from experiments.analysis.table import describe_environment
from experiments.benchmarks import command
from experiments.benchmarks.latency import in_turns
from experiments.benchmarks.plots import Plot
from experiments.benchmarks.results import Column, Table
from jaxmtl.serving import compact, sparse
from jaxmtl.serving.compact import Chain, Layer
from jaxmtl.sparsity import pruning

DENSE, NEURONS = "dense", "neuron ticket, made small"
NEURONS_TARGET = 2.5
"""How many times as fast as dense neuron tickets shall be at the largest batch."""


@dataclasses.dataclass(frozen=True)
class Options(command.Output):
    """What to time.

    Attributes:
      inputs: width of the input vector.
      hidden: widths of the layers.
      density: of both kinds of masks, in weights.
      batches: rows at once.
      repeats: calls of each contender, in turns; compilation does not count.
    """

    inputs: int = 20 * 32 + 20 * 20
    hidden: tuple[int, ...] = (512, 256, 128)
    density: float = 0.2
    batches: tuple[int, ...] = (1, 32, 1024)
    repeats: int = 100


QUICK = Options(batches=(1, 1024), repeats=10)
COLUMNS = (
    Column("contender", "contender"),
    Column("median", "median, ms", ".3f", 1e3),
    Column("p99", "p99", ".3f", 1e3),
    Column("best", "fastest", ".3f", 1e3),
    Column("dense_to_median", "dense / median", ".2f"),
    Column("dense_to_best", "dense / fastest", ".2f"),
)


def make_layers(options: Options, seed: int = 0) -> list[Layer]:
    """A dense net of random weights and biases."""
    rng, widths = np.random.default_rng(seed), (options.inputs, *options.hidden, 1)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    return [
        Layer(draw(n, out) / np.float32(np.sqrt(n)), 0.1 * draw(out))
        for n, out in zip(widths, widths[1:], strict=False)
    ]


def weight_ticket(layers: list[Layer], density: float) -> list[Layer]:
    """The layers with random weights left out; the head stays whole."""
    rng = np.random.default_rng(1)
    kept = lambda kernel: np.where(rng.random(kernel.shape) < density, kernel, 0)
    trunk = [Layer(kept(kernel), bias) for kernel, bias in layers[:-1]]
    return [*trunk, layers[-1]]


def neuron_ticket(layers: list[Layer], density: float) -> list[Layer]:
    """The layers without the neurons that LT4REC's S-Neuron would take."""
    net = {f"layer{i:02d}": {"kernel": k} for i, (k, _) in enumerate(layers[:-1])}
    full = jax.tree.map(lambda kernel: jnp.ones(kernel.shape, bool), net)
    size = sum(kernel.size for kernel, _ in layers[:-1])
    mask = pruning.prune_neurons(net, full, round(density * size))
    marks = [np.asarray(part["kernel"]) for part in mask.values()]
    trunk = [
        Layer(np.where(mark, kernel, 0), bias)
        for mark, (kernel, bias) in zip(marks, layers[:-1], strict=True)
    ]
    return [*trunk, layers[-1]]


def whole(layers: list[Layer]) -> Chain:
    """The chain of a net with all its zeros."""
    return Chain(np.arange(len(layers[0].kernel), dtype=np.int32), tuple(layers))


apply_dense = jax.jit(compact.apply)


@jax.jit
def apply_bcsr(kernels: list[BCSR], biases: list[jax.Array], x: jax.Array) -> jax.Array:
    """Logits by sparse products of XLA: kernels [out, in], vector [inputs, batch]."""
    for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
        x = jax.nn.relu(kernel @ x + bias[:, None])
    return (kernels[-1] @ x + biases[-1][:, None])[0]


def bcsr(chain: Chain) -> Callable[[jax.Array], jax.Array]:
    """run(vector) of a chain with all kernels sparse, on the device."""
    kernels = [BCSR.fromdense(jnp.asarray(k.T)) for k, _ in chain.layers]
    biases = [jnp.asarray(bias) for _, bias in chain.layers]
    return lambda vector: apply_bcsr(kernels, biases, vector.T[chain.inputs])


def on_device(chain: Chain) -> Callable[[jax.Array], jax.Array]:
    """run(vector) of a dense chain as one compiled program."""
    held = jax.device_put(chain)
    return lambda vector: apply_dense(held, vector)


def by_torch(layers: list[Layer], vector: np.ndarray) -> Callable[[], object]:
    """The dense net in PyTorch."""
    import torch

    modules: list[torch.nn.Module] = []
    for kernel, bias in layers:
        linear = torch.nn.Linear(*kernel.shape)
        linear.weight.data = torch.from_numpy(np.ascontiguousarray(kernel.T))
        linear.bias.data = torch.from_numpy(np.array(bias))
        modules += [linear, torch.nn.ReLU()]
    net, given = torch.nn.Sequential(*modules[:-1]).eval(), torch.from_numpy(vector)

    def run():
        with torch.inference_mode():
            return net(given)[:, 0].numpy()

    return run


def by_onnxruntime(layers: list[Layer], vector: np.ndarray) -> Callable[[], object]:
    """The dense net in ONNX Runtime."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, before = [], [], "x"
    for i, (kernel, bias) in enumerate(layers):
        weights.append(numpy_helper.from_array(kernel, f"kernel{i}"))
        weights.append(numpy_helper.from_array(bias, f"bias{i}"))
        given = [before, f"kernel{i}", f"bias{i}"]
        nodes.append(helper.make_node("Gemm", given, [f"sum{i}"]))
        nodes.append(helper.make_node("Relu", [f"sum{i}"], [f"out{i}"]))
        before = f"out{i}"
    nodes.pop()
    made = lambda name, width: helper.make_tensor_value_info(
        name, TensorProto.FLOAT, ["rows", width]
    )
    inputs, outputs = made("x", vector.shape[1]), made(f"sum{len(layers) - 1}", 1)
    graph = helper.make_graph(nodes, "net", [inputs], [outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10  # the newest that ONNX Runtime of two years ago reads
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = describe_environment()["threads"]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": vector})[0][:, 0]


PEERS = {"torch": by_torch, "onnxruntime": by_onnxruntime}


def contenders(options: Options, batch: int) -> dict[str, Callable[[], object]]:
    """Name -> a call that scores a batch; all of one ticket agree on its logits."""
    layers = make_layers(options)
    weights = weight_ticket(layers, options.density)
    neurons = compact.compact(neuron_ticket(layers, options.density))
    vector = np.random.default_rng(2).normal(size=(batch, options.inputs))
    vector = vector.astype(np.float32)
    given, sparse_chain = jnp.asarray(vector), compact.compact(weights)
    forms = sparse.choose(sparse_chain, batch)
    chosen = sparse.make_host(sparse_chain, forms)
    every_csr = sparse.make_host(sparse_chain, ["csr"] * len(forms))
    dense, masked = on_device(whole(layers)), on_device(whole(weights))
    small, xla_sparse = on_device(neurons), bcsr(sparse_chain)
    runs = {
        DENSE: lambda: dense(given),
        "weight ticket, zeros kept": lambda: masked(given),
        f"weight ticket, chosen ({' '.join(forms)})": lambda: chosen(vector),
        "weight ticket, all CSR": lambda: every_csr(vector),
        "weight ticket, XLA's BCSR": lambda: xla_sparse(given),
        NEURONS: lambda: small(given),
    }
    for name, make in PEERS.items():
        with contextlib.suppress(ImportError):
            runs[f"dense in {name}"] = make(layers, vector)
    return runs


def measure(options: Options) -> Iterator[Table]:
    """Yields a table for each batch size."""
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(describe_environment()["threads"])
    for batch in options.batches:
        times = in_turns(contenders(options, batch), options.repeats)
        notes = [
            f"{name} is not installed: pip install -e '.[serving-peers]'"
            for name in PEERS
            if f"dense in {name}" not in times
        ]
        dense = times[DENSE]
        records = [
            {"batch": batch, "contender": name}
            | {n: ms / 1e3 for n, ms in latency._asdict().items()}
            | {"dense_to_median": dense.median / latency.median}
            | {"dense_to_best": dense.best / latency.best}
            for name, latency in times.items()
        ]
        if batch == options.batches[-1]:
            ratio = dense.median / times[NEURONS].median
            verdict = "met" if ratio >= NEURONS_TARGET else "missed"
            notes.append(
                f"neuron tickets: {ratio:.2f}x as fast as dense, target"
                f" {NEURONS_TARGET}x: {verdict}"
            )
        widths = "-".join(map(str, (options.inputs, *options.hidden, 1)))
        yield Table(
            f"Scoring {batch:,} rows at once",
            COLUMNS,
            records,
            lead=f"A net of {widths}, tickets of {options.density:.0%}; up to"
            f" {options.repeats} calls in turns.",
            notes=notes,
            plot=Plot("median", "seconds, median", "contender"),
        )


if __name__ == "__main__":
    command.main("serving", measure, Options)
