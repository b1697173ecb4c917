"""Several trainings in one program: the same steps for each, mapped over lanes.

Small nets leave an accelerator idle. Here each training is a thread that runs the
usual code, `jaxmtl.training.fit` and whatever surrounds it. Once every thread has come
to a compiled program, those that are at the same one meet: their arguments are stacked,
one program mapped over the stack computes them all, and each gets its part back. So
early stopping, ticket searches and saved progress need to know nothing of it, and
trainings may be at different epochs or rounds.

A program has a lane for each training from the first call to the last, also when some
have ended: it is compiled once, and what a lane computes does not depend on how many
others still run. With several devices, the lanes are dealt out over them.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")
OWN, SHARED = 0, None
AXIS = "lanes"


class Abandoned(RuntimeError):
    """Another lane failed: this one cannot go on alone."""


def run(
    jobs: Sequence[Callable[[], T]], alone: tuple[type[Exception], ...] = ()
) -> list[T]:
    """Runs jobs at once, each in a thread; their `Program`s meet.

    Args:
      jobs: what the lanes do.
      alone: errors that end a lane and not the others, as after a request to stop:
        each saves what it has.

    Returns:
      Their results, in order.

    Raises:
      Exception: the first one that a job raised, once all have ended.
    """
    meeting = _Meeting(len(jobs))

    def in_lane(job: Callable[[], T]) -> T:
        _meeting.set(meeting)
        try:
            return job()
        except alone:
            raise
        except BaseException:
            meeting.abandon()
            raise
        finally:
            meeting.leave()

    with ThreadPoolExecutor(len(jobs), thread_name_prefix=AXIS) as pool:
        futures = [pool.submit(in_lane, job) for job in jobs]
        wait(futures, return_when=FIRST_EXCEPTION)
    errors = [error for f in futures if (error := f.exception()) is not None]
    for error in sorted(errors, key=lambda e: isinstance(e, Abandoned)):
        raise error
    return [future.result() for future in futures]


class Program(NamedTuple):
    """A compiled function that lanes may call as one.

    Attributes:
      function: jitted; one object for all lanes.
      axes: OWN for each argument that a lane has of its own, SHARED for those that
        are the same arrays in all.
      donated: numbers of arguments that it overwrites.
    """

    function: Callable
    axes: tuple[int | None, ...]
    donated: tuple[int, ...] = ()

    def __call__(self, *args: Any) -> Any:
        """The function's result; inside of `run`, computed together with others'."""
        meeting = _meeting.get()
        return self.function(*args) if meeting is None else meeting.call(self, args)


@dataclasses.dataclass(eq=False)
class _Call:
    """A program that a lane waits for; its result or error, once there is one."""

    program: Program
    args: tuple
    is_done: bool = False
    result: Any = None
    error: BaseException | None = None

    @functools.cached_property
    def key(self) -> tuple:
        """Equal for calls that can be computed as one."""
        marked = list(zip(self.args, self.program.axes, strict=True))
        own = [x for x, axis in marked if axis is not SHARED]
        shared = [x for x, axis in marked if axis is SHARED]
        leaves, structure = jax.tree.flatten(own)
        shapes = [(np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
        same = map(id, jax.tree.leaves(shared))
        return self.program, structure, tuple(shapes), tuple(same)


class _Meeting:
    """Where the lanes' calls wait until all lanes that are left have come."""

    def __init__(self, lanes: int):
        self._left = self._lanes = lanes
        self._waiting: list[_Call] = []
        self._turn = threading.Condition()
        self._is_abandoned = False
        self._copies: dict[tuple[int, ...], tuple] = {}

    def call(self, program: Program, args: tuple) -> Any:
        mine = _Call(program, args)
        with self._turn:
            self._waiting.append(mine)
            self._compute_if_all_wait()
            self._turn.wait_for(lambda: mine.is_done or self._is_abandoned)
        if not mine.is_done:
            raise Abandoned("another training of the same program failed")
        if mine.error is not None:
            raise mine.error
        return mine.result

    def leave(self) -> None:
        with self._turn:
            self._left -= 1
            self._compute_if_all_wait()

    def abandon(self) -> None:
        with self._turn:
            self._is_abandoned = True
            self._turn.notify_all()

    def _compute_if_all_wait(self) -> None:
        if not self._waiting or len(self._waiting) < self._left or self._is_abandoned:
            return
        groups: dict[tuple, list[_Call]] = {}
        for waiting in self._waiting:
            groups.setdefault(waiting.key, []).append(waiting)
        # The others wait on: those who are ahead are caught up with, and meet again.
        group = max(groups.values(), key=len)
        try:
            for one, result in zip(group, self._compute(group), strict=True):
                one.result = result
        except Exception as error:  # each lane raises it where it called
            for one in group:
                one.error = error
        for one in group:
            one.is_done = True
        self._waiting = [w for w in self._waiting if not w.is_done]
        self._turn.notify_all()

    def _compute(self, group: list[_Call]) -> Iterator[Any]:
        first, devices = group[0], jax.local_devices()
        padded = -(-self._lanes // len(devices)) * len(devices)
        each = [one.args for one in group] + [first.args] * (padded - len(group))
        args = [
            self._to_all(parts[0], devices)
            if axis is SHARED
            else _deal(_stack(parts), devices)
            for axis, *parts in zip(first.program.axes, *each, strict=True)
        ]
        result = _mapped(first.program)(*args)
        if len(devices) > 1:
            result = jax.device_put(result, devices[0])
        for lane in range(len(group)):
            yield jax.tree.map(lambda leaf, lane=lane: leaf[lane], result)

    def _to_all(self, shared: Any, devices: Sequence[jax.Device]) -> Any:
        """On all devices; copied once, since it is as large as the data."""
        if len(devices) == 1:
            return shared
        key = tuple(map(id, jax.tree.leaves(shared)))
        if key not in self._copies:  # with the originals, so that no id is used again
            everywhere = jax.sharding.NamedSharding(_mesh(devices), jax.P())
            self._copies[key] = shared, jax.device_put(shared, everywhere)
        return self._copies[key][1]


def _stack(parts: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


def _deal(stacked: Any, devices: Sequence[jax.Device]) -> Any:
    if len(devices) == 1:
        return stacked
    rows = jax.sharding.NamedSharding(_mesh(devices), jax.P(AXIS))
    return jax.device_put(stacked, rows)


def _mesh(devices: Sequence[jax.Device]) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(devices), (AXIS,))


@functools.lru_cache(maxsize=64)
def _mapped(program: Program) -> Callable:
    mapped = jax.vmap(program.function, in_axes=program.axes)
    return jax.jit(mapped, donate_argnums=program.donated)


_meeting: contextvars.ContextVar[_Meeting | None] = contextvars.ContextVar(
    "meeting", default=None
)
