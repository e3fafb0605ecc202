"""MuJoCo's C library as pure functions of arrays.

Whole batches are stepped on MuJoCo's own threads, inside one host callback. The state of a
simulation is a row of float64 numbers, everything that a faithful restart needs:

    time, qpos, qvel, act      MuJoCo's full physics state
    qacc_warmstart             where the constraint solver begins; without it the next step differs
                               by 1e-13 or more
    point [2]                  where the tracked point was seen, for the tasks whose reward asks how
                               far it moved

JAX, which runs in float32, carries it as pairs of uint32 words, [..., 2], and never looks inside.
The host keeps nothing between two calls: the same state and action give the same bits, whatever was
simulated before.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.suites.mujoco.model import TORSO, MujocoModel, Readings, load
from jaxrl.errors import JaxrlError
from jaxrl.types import Array


@dataclass(frozen=True)
class HostPhysics:
    """The physics of one model on the host; equal ones share their simulations and compile once."""

    model: MujocoModel

    def identity(self) -> str:
        """What is simulated by which back end, the same wherever the model's file is."""
        return f"HostPhysics({self.model.identity()})"

    def begin(self, qpos: Array, qvel: Array) -> tuple[Array, Readings]:
        """Place the simulation, float32 [nq] and [nv]: (state words uint32 [S, 2], Readings)."""
        return self._call(simulation(self.model).begin, jnp.concatenate([qpos, qvel]))

    def step(self, state: Array, action: Array) -> tuple[Array, Readings]:
        """`frame_skip` physics steps under one control, float32 [nu], which MuJoCo clamps."""
        self._check(state.shape, state.dtype)
        return self._call(simulation(self.model).step, state, action)

    def pack(self, data: Any) -> np.ndarray:
        """The state, uint32 [S, 2], of a mujoco.MjData, yours or a Gymnasium environment's."""
        import mujoco

        mine = simulation(self.model)
        row = np.empty((1, mine.state))
        mujoco.mj_getState(mine.model, data, row[0, : mine.physics], mine.kept)
        if self.model.track != "position":
            row[:, mine.physics :] = mine.point(
                {name: getattr(data, name) for name in self.model.reads}
            )
        return row.view(np.uint32).reshape(mine.state, 2)

    def unpack(self, state: Any) -> Any:
        """The mujoco.MjData of a state, to draw it or to ask MuJoCo anything."""
        import mujoco

        mine = simulation(self.model)
        words = np.ascontiguousarray(state)
        self._check(words.shape, words.dtype)
        data = mujoco.MjData(mine.model)
        mujoco.mj_setState(mine.model, data, _doubles(words[None])[0, : mine.physics], mine.kept)
        mujoco.mj_forward(mine.model, data)
        return data

    def _check(self, shape: tuple[int, ...], dtype: Any) -> None:
        """Refuse a state of something else."""
        size = simulation(self.model).state
        if shape != (size, 2) or dtype != np.uint32:
            raise JaxrlError(
                f"a state of {self.model.name} is uint32 [{size}, 2], but got {dtype} "
                f"{list(shape)}."
            )

    def _call(self, function: Callable, *arguments: Array) -> tuple[Array, Readings]:
        """`function(state words, seen, *arguments)` on NumPy arrays with rows, in a callback."""
        from jax.experimental.buffer_callback import buffer_callback

        sizes = simulation(self.model)
        shapes = (
            jax.ShapeDtypeStruct((sizes.state, 2), np.uint32),
            jax.ShapeDtypeStruct((sizes.seen,), np.float32),
        )
        ranks = [array.ndim for array in arguments]

        def rows(array: Any, rank: int) -> np.ndarray:
            array = np.asarray(array)
            return array.reshape(-1, *array.shape[array.ndim - rank :])

        def in_place(_: Any, out: Any, *given: Any) -> None:
            try:
                function(rows(out[0], 2), rows(out[1], 1), *map(rows, given, ranks))
            except Exception as error:
                raise RuntimeError(f"{self.model.name}: the physics failed: {error}") from error

        def by_value(*given: Any) -> tuple[np.ndarray, ...]:
            axes = np.shape(given[0])[: np.ndim(given[0]) - ranks[0]]
            out = tuple(np.empty(axes + shape.shape, shape.dtype) for shape in shapes)
            in_place(None, out, *given)
            return out

        # On CPUs the callback works in XLA's own buffers: no copies, and nothing that waits for a
        # device which waits for the callback.
        words, seen = jax.lax.platform_dependent(
            *arguments,
            cpu=buffer_callback(in_place, shapes, vmap_method="broadcast_all"),
            default=lambda *given: jax.pure_callback(
                by_value, shapes, *given, vmap_method="broadcast_all"
            ),
        )
        return words, sizes.named(seen)


class Simulation:
    """One model, its sizes, and the batches and threads that step it."""

    def __init__(self, model: MujocoModel) -> None:
        import mujoco

        self.spec = model
        self.model = load(model.path)
        # What blows up shall be seen, and not start over from the first position.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        kinds = mujoco.mjtState
        data = mujoco.MjData(self.model)
        self.kept = int(kinds.mjSTATE_FULLPHYSICS | kinds.mjSTATE_WARMSTART)
        # The control comes last: a row of the state, then an action.
        self._given = self.kept | int(kinds.mjSTATE_CTRL)
        self.physics = mujoco.mj_stateSize(self.model, self.kept)
        self.moving = self.model.nq + self.model.nv
        self.shapes = {name: np.shape(getattr(data, name)) for name in model.reads}
        self.state = self.physics + (0 if model.track == "position" else 2)
        self.seen = self.moving + 2 + sum(int(np.prod(shape)) for shape in self.shapes.values())
        self._shelves: dict[int, deque] = {}

    def begin(self, words: np.ndarray, seen: np.ndarray, place: np.ndarray) -> None:
        """Write the states, and what is seen of them, of rows `place` of (qpos, qvel)."""
        with self._borrowed(len(words), self._batch) as batch:
            batch.reset(stage=0)  # the whole of it: also what no task reads
            # As if seen: a first one would go to a log file, and a blow-up is no surprise.
            batch.warning[:] = 1
            batch.state[:, 1 : 1 + self.moving] = place
            batch.forward()
            # Gymnasium's observations of a reset have no contact forces: nothing has asked MuJoCo
            # for them yet.
            read = {
                name: 0.0 * batch.bind(name) if name == "cfrc_ext" else batch.bind(name)
                for name in self.shapes
            }
            self._finish(batch.state[:, : self.physics], words, seen, read, None)

    def step(
        self, words: np.ndarray, seen: np.ndarray, before: np.ndarray, action: np.ndarray
    ) -> None:
        """Write the next states, and what is seen of them."""
        if "cfrc_ext" in self.shapes:
            self._split(self._step_each, words, seen, before, action)
        else:
            self._step_batch(words, seen, before, action)

    def named(self, seen: Array) -> Readings:
        """A row of what is seen, float32 [seen], by name."""
        read_sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        sizes = [self.model.nq, self.model.nv, 2, *read_sizes]
        qpos, qvel, moved, *read = jnp.split(seen, np.cumsum(sizes)[:-1].tolist())
        data = {
            name: flat.reshape(shape)
            for (name, shape), flat in zip(self.shapes.items(), read, strict=True)
        }
        return Readings(qpos, qvel, moved, data)

    def _step_batch(
        self, words: np.ndarray, seen: np.ndarray, before: np.ndarray, action: np.ndarray
    ) -> None:
        earlier = _doubles(before)
        with self._borrowed(len(words), self._batch) as batch:
            batch.state[:, : self.physics] = earlier[:, : self.physics]
            batch.state[:, self.physics : self.physics + self.model.nu] = action
            batch.step(nstep=self.spec.frame_skip)
            read = {name: batch.bind(name) for name in self.shapes}
            self._finish(batch.state[:, : self.physics], words, seen, read, earlier)

    def _step_each(
        self, words: np.ndarray, seen: np.ndarray, before: np.ndarray, action: np.ndarray
    ) -> None:
        """One after the other: contact forces are computed on demand, which a batch cannot do."""
        import mujoco

        model = self.model
        earlier = _doubles(before)
        states = np.empty((len(words), self.physics))
        given = np.concatenate([earlier[:, : self.physics], action], axis=1, dtype=np.float64)
        with self._borrowed(0, self._single) as (data, read):
            raw = np.empty((len(words), sum(map(len, read))))
            for row in range(len(given)):
                mujoco.mj_setState(model, data, given[row], self._given)
                mujoco.mj_step(model, data, self.spec.frame_skip)
                mujoco.mj_rnePostConstraint(model, data)
                mujoco.mj_getState(model, data, states[row], self.kept)
                np.concatenate(read, out=raw[row])
        parts = np.split(raw, np.cumsum([len(each) for each in read])[:-1], axis=1)
        self._finish(states, words, seen, dict(zip(self.shapes, parts, strict=True)), earlier)

    @contextmanager
    def _borrowed(self, key: int, make: Callable[[int], Any]) -> Iterator[Any]:
        """Something to simulate with that no other thread uses, from the shelf of `key` or made.

        Not thread-local: to Python a thread of XLA is a new one in each callback, and takes along
        what it owns.
        """
        shelf = self._shelves.setdefault(key, deque())
        try:
            lent = shelf.pop()
        except IndexError:
            lent = make(key)
        yield lent
        shelf.append(lent)  # not after an error: a new one is made then

    def _batch(self, rows: int) -> Any:
        """A batch of `rows` simulations."""
        from mujoco.batch import Batch

        batch = Batch(self.model, rows, min(rows, _cores()))
        batch.warning[:] = 1
        for name in self.shapes:
            batch.bind(name)  # before the first call, which fills it
        return batch

    def _single(self, _: int) -> tuple[Any, list[np.ndarray]]:
        """One simulation, and flat views of what is read of it."""
        import mujoco

        data = mujoco.MjData(self.model)
        data.warning.number[:] = 1
        return data, [getattr(data, name).reshape(-1) for name in self.shapes]

    def _split(self, work: Callable, *arrays: np.ndarray) -> None:
        """Call `work` on slices of the rows, one per thread; this thread takes the first."""
        rows = len(arrays[0])
        workers = min(_cores(), rows)
        cuts = [rows * worker // workers for worker in range(workers + 1)]
        slices = []
        for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
            slices.append([array[start:stop] for array in arrays])
        others = [_threads().submit(work, *part) for part in slices[1:]]
        work(*slices[0])
        for other in others:
            other.result()

    def _finish(
        self,
        states: np.ndarray,
        words: np.ndarray,
        seen: np.ndarray,
        read: dict[str, np.ndarray],
        earlier: np.ndarray | None,
    ) -> None:
        """Write the states and what is seen of them; movements are differences in float64."""
        out = _doubles(words)
        moving = self.moving
        out[:, : self.physics] = states
        seen[:, :moving] = states[:, 1 : 1 + moving]
        if self.spec.track == "position":
            where = slice(1, 3)
        else:
            where = slice(self.physics, None)
            out[:, where] = self.point(read)
        seen[:, moving : moving + 2] = 0.0 if earlier is None else out[:, where] - earlier[:, where]
        begin = moving + 2
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            seen[:, begin : begin + size] = read[name].reshape(-1, size)
            begin += size

    def point(self, read: dict[str, np.ndarray]) -> np.ndarray:
        """Where the tracked point is, [rows, 2]."""
        if self.spec.track == "torso":
            return read["xpos"].reshape(-1, *self.shapes["xpos"])[:, TORSO, :2]
        places = read["xipos"].reshape(-1, *self.shapes["xipos"])
        mass = self.model.body_mass
        return np.einsum("b,nbj->nj", mass, places[..., :2]) / mass.sum()


def _doubles(words: np.ndarray) -> np.ndarray:
    """uint32 [rows, S, 2] as float64 [rows, S], without a copy."""
    return words.reshape(len(words), -1).view(np.float64)


@functools.cache
def simulation(model: MujocoModel) -> Simulation:
    """The simulation of a model; there is one per model."""
    return Simulation(model)


@functools.cache
def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Threads beside the one that calls; MuJoCo lets go of the interpreter while it computes."""
    return ThreadPoolExecutor(max(1, _cores() - 1), thread_name_prefix="mujoco")
