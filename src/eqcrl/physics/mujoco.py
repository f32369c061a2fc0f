"""The C engine: MuJoCo's own thread pool over many simulations, called from inside compiled programs.

State passes through JAX like that of every other engine: `hidden` is what a step changes of the simulation's row of
MuJoCo's integration state, float64, as pairs of uint32. So checkpoints, resets, branches and several programs at once
need nothing special, and copying it in and out is a few percent of the physics.
"""

import contextlib
import ctypes
import itertools
import math
import threading
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.experimental import io_callback
from jaxtyping import Array, Float
from mujoco.batch import Batch, SimulationError

from eqcrl.jobs.machine import cores
from eqcrl.physics.base import AbstractEngine, PhysicsState, Readouts
from eqcrl.physics.batching import over_leading_axes
from eqcrl.physics.model import LIMIT, Model

KEPT_POOLS = 8

# A thread pool has one driver, and two pools at once would only share the same cores.
_ONE_AT_A_TIME = threading.Lock()


def stop_the_clock() -> None:
    """MuJoCo reads the clock before and after every stage of a step, for the timers of a viewer that is not there.

    That is a fourteenth of an ant's step. No function of the bindings turns it off: `set_mjcb_time(None)` puts their
    own clock back. A clock that somebody has set is left alone.
    """
    if mujoco.get_mjcb_time() is not None:
        return
    for library in resources.files(mujoco).iterdir():
        if library.name.startswith(("libmujoco.", "mujoco.dll")):
            ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "mjcb_time").value = None


# Before any simulation, since one that runs at this moment would call what is no longer there.
stop_the_clock()


class MujocoEngine(AbstractEngine):
    """C MuJoCo through `mujoco.batch`: no compilation of the physics, all cores, identical bits for any batch size."""

    model: Model = eqx.field(static=True)
    merges_walls: bool = eqx.field(default=True, static=True, init=False)

    def start(
        self, qpos: Float[Array, "nq"], qvel: Float[Array, "nv"], readouts: Readouts, task: Any = ()
    ) -> PhysicsState:
        """All zeros in `hidden`: its time is 0, which says that the row is still to be made from the positions."""
        hidden = jnp.zeros(2 * _changing(self.model), jnp.uint32)
        read = {name: jnp.asarray(readouts[name], jnp.float32) for name in self.model.readouts}
        return PhysicsState(jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32), read, hidden, task)

    def step(self, state: PhysicsState, ctrl: Float[Array, "nu"]) -> PhysicsState:
        """By an ordered callback for the whole batch, whatever number of `vmap`s stands around it."""
        qpos, qvel, hidden, read = _stepper(self.model)(state.qpos, state.qvel, state.hidden, ctrl)
        return PhysicsState(qpos, qvel, read, hidden, state.task)

    def compiler_options(self) -> dict[str, Any]:
        """Nothing special."""
        return {}


class _Rows(NamedTuple):
    """What stands where in the row of 32-bit numbers that the engine gets for a simulation, and in the one it returns.

    One array each way: what JAX does around a callback costs for each array as much as copying 100 kilobytes.
    """

    hidden: slice
    """In both, and first: pairs of them are the numbers of the integration state that a step changes."""
    sent: dict[str, slice]
    back: dict[str, slice]
    shapes: dict[str, tuple[int, ...]]
    """Of the readouts."""
    widths: tuple[int, int]
    """Of both rows; even, so that the float64 in every row are aligned."""


@lru_cache(maxsize=64)
def _rows(model: Model) -> _Rows:
    compiled = model.compiled()
    data = mujoco.MjData(compiled)
    shapes = {name: np.shape(getattr(data, name)) for name in model.readouts}
    hidden = 2 * _changing(model)
    state = {"qpos": compiled.nq, "qvel": compiled.nv}
    sent, back = state | {"ctrl": compiled.nu}, state | {name: math.prod(shape) for name, shape in shapes.items()}

    def placed(sizes: dict[str, int]) -> tuple[dict[str, slice], int]:
        ends = [hidden, *(hidden + end for end in itertools.accumulate(sizes.values()))]
        places = {name: slice(*at) for name, at in zip(sizes, itertools.pairwise(ends), strict=True)}
        return places, ends[-1] + ends[-1] % 2

    (sent_places, sent_width), (back_places, back_width) = placed(sent), placed(back)
    return _Rows(slice(hidden), sent_places, back_places, shapes, (sent_width, back_width))


@lru_cache(maxsize=64)
def _stepper(model: Model) -> Any:
    """The step as a function of arrays with any number of leading axes."""
    rows = _rows(model)

    def on_host(sent: Any) -> Any:
        sent = np.asarray(sent)
        back = _pool(model, math.prod(sent.shape[:-1])).step(sent.reshape(-1, sent.shape[-1]))
        return back.reshape(*sent.shape[:-1], -1)

    def step(qpos: Array, qvel: Array, hidden: Array, ctrl: Array) -> Any:
        floats = jnp.concatenate([qpos, qvel, ctrl], axis=-1).astype(jnp.float32)
        sent = jnp.concatenate([hidden, jax.lax.bitcast_convert_type(floats, jnp.uint32)], axis=-1)
        lead, filling = sent.shape[:-1], rows.widths[0] - sent.shape[-1]
        sent = jnp.pad(sent, [(0, 0)] * len(lead) + [(0, filling)])
        # Ordered: XLA may drop, repeat or move an unordered one.
        back = io_callback(on_host, jax.ShapeDtypeStruct((*lead, rows.widths[1]), jnp.uint32), sent, ordered=True)
        floats = jax.lax.bitcast_convert_type(back, jnp.float32)
        read = {name: floats[..., rows.back[name]].reshape(*lead, *shape) for name, shape in rows.shapes.items()}
        return floats[..., rows.back["qpos"]], floats[..., rows.back["qvel"]], back[..., rows.hidden], read

    return over_leading_axes(step)


@lru_cache(maxsize=64)
def _changing(model: Model) -> int:
    """How many numbers of the integration state a step changes: time, positions, velocities, activations, warm start.

    They are its beginning. Behind them are controls, which each step is given, and what no task sets (forces and
    torques on each body, mocap bodies, switches of constraints): most of the row of an ant. A plugin's state is last.
    """
    whole, last = int(mujoco.mjtState.mjSTATE_INTEGRATION), int(mujoco.mjtState.mjSTATE_WARMSTART)
    compiled = model.compiled()
    return mujoco.mj_stateSize(compiled, whole if compiled.nplugin else 2 * last - 1)


class _Pool:
    """Many simulations of a model on all cores; keeps nothing between calls that changes a result."""

    def __init__(self, model: Model, nsim: int) -> None:
        compiled = model.compiled()
        self.model, self.rows = model, _rows(model)
        # One MjData per simulation continues from the derived fields of its last step, which a task that reads
        # them has paid for; without readouts a few shared ones fit the caches better.
        self.batch = Batch(compiled, nsim, min(len(cores()), nsim), bool(model.readouts))
        self.stage = int(mujoco.mjtStage.mjSTAGE_VEL if model.readouts else mujoco.mjtStage.mjSTAGE_NONE)
        self.default = np.array(self.batch.state[0])
        # Views: time, positions and velocities are the first numbers of a row.
        self.changing = self.batch.state[:, : _changing(model)]
        self.moving = self.batch.state[:, 1 : 1 + compiled.nq + compiled.nv]
        self.fields = {name: self.batch.bind(name) for name in ("qpos", "qvel", *model.readouts)}
        self.ctrl = self.batch.bind("ctrl")

    def step(self, sent: np.ndarray) -> np.ndarray:
        """One control step of every row; rows with time 0 start from `qpos` and `qvel`."""
        with _ONE_AT_A_TIME, _silence():
            return self._step(sent)

    def _step(self, sent: np.ndarray) -> np.ndarray:
        state, rows, floats = self.batch.state, self.rows, sent.view(np.float32)
        np.copyto(self.changing, sent[:, rows.hidden].view(np.float64))
        fresh = self.changing[:, 0] == 0.0
        if fresh.any():
            state[fresh] = self.default
            for name in ("qpos", "qvel"):
                self.fields[name][fresh] = floats[fresh, rows.sent[name]]
        np.copyto(self.ctrl, floats[:, rows.sent["ctrl"]])
        # A diverged row is left out and stays what it is, and so never slows the others down.
        failed = ~(_bounded(self.moving) & np.isfinite(self.ctrl).all(axis=1))
        try:
            self.batch.step(np.flatnonzero(~failed) if failed.any() else None, self.model.substeps, self.stage)
        except SimulationError as error:
            failed[error.ids] = True
        failed |= ~_bounded(self.moving)
        self.changing[failed] = np.nan
        back = np.zeros((len(sent), rows.widths[1]), np.uint32)
        back[:, rows.hidden] = self.changing.view(np.uint32)
        floats = back.view(np.float32)
        for name, field in self.fields.items():
            floats[:, rows.back[name]] = field.reshape(len(field), -1)
        floats[failed, rows.hidden.stop :] = np.nan
        return back


def _bounded(rows: np.ndarray) -> np.ndarray:
    """Whether each row is finite and within MuJoCo's limit; False for NaN."""
    return np.all(np.abs(rows) < LIMIT, axis=1)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No MUJOCO_LOG.TXT in the folder at hand, and no lines on the console, because some simulation diverged:
    its row is NaN, and eqcrl counts such rows. MuJoCo's setting is one for the whole process, so it is put back."""
    before, within = mujoco.MjLogConfig.get(), mujoco.MjLogConfig.get()
    within.logto_console = within.logto_file = False
    mujoco.MjLogConfig.set(within)
    try:
        yield
    finally:
        mujoco.MjLogConfig.set(before)


@lru_cache(maxsize=KEPT_POOLS)
def _pool(model: Model, nsim: int) -> _Pool:
    return _Pool(model, nsim)
