"""The C engine: MuJoCo's own thread pool over many simulations, called from inside compiled programs.

State passes through JAX like that of every other engine: `hidden` is the simulation's row of MuJoCo's integration
state, float64, as pairs of uint32. So checkpoints, resets, branches and several programs at once need nothing special,
and copying it in and out is a few percent of the physics.
"""

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from typing import Any

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
        size = mujoco.mj_stateSize(self.model.compiled(), int(mujoco.mjtState.mjSTATE_INTEGRATION))
        hidden = jnp.zeros(2 * size, jnp.uint32)
        read = {name: jnp.asarray(readouts[name], jnp.float32) for name in self.model.readouts}
        return PhysicsState(jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32), read, hidden, task)

    def step(self, state: PhysicsState, ctrl: Float[Array, "nu"]) -> PhysicsState:
        """By an ordered callback for the whole batch, whatever number of `vmap`s stands around it."""
        qpos, qvel, hidden, read = _stepper(self.model)(state.qpos, state.qvel, state.hidden, ctrl)
        return PhysicsState(qpos, qvel, read, hidden, state.task)

    def compiler_options(self) -> dict[str, Any]:
        """Nothing special."""
        return {}


@lru_cache(maxsize=64)
def _stepper(model: Model) -> Any:
    """The step as a function of arrays with any number of leading axes."""

    def on_host(qpos: Any, qvel: Any, hidden: Any, ctrl: Any) -> Any:
        arrays = [np.asarray(x) for x in (qpos, qvel, hidden, ctrl)]
        lead = arrays[0].shape[:-1]
        rows = [x.reshape(-1, x.shape[-1]) for x in arrays]
        found = _pool(model, rows[0].shape[0]).step(*rows)
        return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), found)

    def step(qpos: Array, qvel: Array, hidden: Array, ctrl: Array) -> Any:
        lead = qpos.shape[:-1]
        data = _template(model)
        shapes = (
            jax.ShapeDtypeStruct(qpos.shape, jnp.float32),
            jax.ShapeDtypeStruct(qvel.shape, jnp.float32),
            jax.ShapeDtypeStruct(hidden.shape, jnp.uint32),
            {n: jax.ShapeDtypeStruct((*lead, *np.shape(getattr(data, n))), jnp.float32) for n in model.readouts},
        )
        # Ordered: XLA may drop, repeat or move an unordered one.
        return io_callback(on_host, shapes, qpos, qvel, hidden, ctrl, ordered=True)

    return over_leading_axes(step)


@lru_cache(maxsize=64)
def _template(model: Model) -> mujoco.MjData:
    return mujoco.MjData(model.compiled())


class _Pool:
    """Many simulations of a model on all cores; keeps nothing between calls that changes a result."""

    def __init__(self, model: Model, nsim: int) -> None:
        compiled = model.compiled()
        self.model = model
        # One MjData per simulation continues from the derived fields of its last step, which a task that reads
        # them has paid for; without readouts a few shared ones fit the caches better.
        self.batch = Batch(compiled, nsim, min(len(cores()), nsim), bool(model.readouts))
        self.stage = int(mujoco.mjtStage.mjSTAGE_VEL if model.readouts else mujoco.mjtStage.mjSTAGE_NONE)
        self.default = np.array(self.batch.state[0])
        self.read = {name: self.batch.bind(name) for name in model.readouts}

    def step(self, qpos: np.ndarray, qvel: np.ndarray, hidden: np.ndarray, ctrl: np.ndarray) -> tuple[Any, ...]:
        """One control step of every row; rows with time 0 start from `qpos` and `qvel`."""
        with _ONE_AT_A_TIME, _silence():
            return self._step(qpos, qvel, hidden, ctrl)

    def _step(self, qpos: np.ndarray, qvel: np.ndarray, hidden: np.ndarray, ctrl: np.ndarray) -> tuple[Any, ...]:
        batch, state = self.batch, self.batch.state
        rows = np.ascontiguousarray(hidden).view(np.float64)
        np.copyto(state, rows)
        position, velocity = batch.bind("qpos"), batch.bind("qvel")
        fresh = batch.bind("time") == 0.0
        if fresh.any():
            state[fresh] = self.default
            position[fresh], velocity[fresh] = qpos[fresh], qvel[fresh]
        batch.bind("ctrl")[:] = ctrl
        # A diverged row is left out and stays what it is, and so never slows the others down.
        failed = ~(_bounded(position) & _bounded(velocity) & np.isfinite(ctrl).all(axis=1))
        try:
            batch.step(np.flatnonzero(~failed) if failed.any() else None, self.model.substeps, self.stage)
        except SimulationError as error:
            failed[error.ids] = True
        failed |= ~(_bounded(position) & _bounded(velocity))
        read = {name: field.astype(np.float32) for name, field in self.read.items()}
        if failed.any():
            state[failed] = np.nan
            for field in read.values():
                field[failed] = np.nan
        return (
            position.astype(np.float32),
            velocity.astype(np.float32),
            np.array(state).view(np.uint32),
            read,
        )


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
