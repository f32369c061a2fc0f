"""The Warp engine: MuJoCo Warp's kernels, called from XLA programs; at home on NVIDIA GPUs, and it runs on CPUs.

It has a real broad phase, so walls cost it next to nothing. Its buffers for contacts are shared by all simulations of
a call: their size must be known where the batch is, so the step takes any number of leading axes itself.
"""

import copy
import importlib.util
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from eqcrl.errors import ConfigError
from eqcrl.physics.base import AbstractEngine, PhysicsState, Readouts
from eqcrl.physics.batching import over_leading_axes
from eqcrl.physics.mjx import cpu_options, fresh, mjx, of_the_step, or_nan, readouts_at
from eqcrl.physics.model import Model

CONTACTS_PER_GEOM = 8
"""Places kept for a geom that moves: a capsule in a corner touches the floor and three walls in at most 7 points."""

ROWS = {1: 1, 3: 4, 4: 6, 6: 10}
"""Constraint rows of a contact by its condim, with pyramidal friction cones."""


class WarpEngine(AbstractEngine):
    """MuJoCo Warp through MJX, float32; needs the extra `warp`.

    Sums of contact forces are in no fixed order on a GPU, so bits may differ from run to run. Where a simulation has
    more contacts than there are places, its state is NaN: none is dropped in silence.

    Raises: ConfigError where the package is missing.
    """

    model: Model = eqx.field(static=True)
    merges_walls: bool = eqx.field(default=True, static=True, init=False)

    def __check_init__(self) -> None:
        if importlib.util.find_spec("warp") is None:
            raise ConfigError(
                "The physics engine warp needs the package warp-lang, which is not installed.",
                mend="pip install 'eqcrl[warp]', or choose physics = mjx or mujoco.",
            )

    def start(
        self, qpos: Float[Array, "nq"], qvel: Float[Array, "nv"], readouts: Readouts, task: Any = ()
    ) -> PhysicsState:
        """All zeros in `hidden` is what MuJoCo itself starts from."""
        return fresh(self.model, qpos, qvel, readouts, task)

    def step(self, state: PhysicsState, ctrl: Float[Array, "nu"]) -> PhysicsState:
        """One call of Warp a substep for the whole batch; the readouts are worked out in JAX."""
        qpos, qvel, hidden, kept = _stepper(self.model)(state.qpos, state.qvel, state.hidden, ctrl)
        read = readouts_at(self.model, qpos, qvel, hidden[qvel.shape[-1] :], kept)
        return or_nan(PhysicsState(qpos, qvel, read, hidden, state.task), ctrl)

    def compiler_options(self) -> dict[str, Any]:
        """As for MJX, which works out the readouts."""
        return cpu_options()


@lru_cache(maxsize=64)
def _stepper(model: Model) -> Any:
    compiled, kept = model.compiled(), of_the_step(model)

    def one(template: Any, physics: Any, qpos: Array, qvel: Array, hidden: Array, ctrl: Array) -> Any:
        warmstart, act = hidden[: compiled.nv], hidden[compiled.nv :]
        data = template.replace(qpos=qpos, qvel=qvel, qacc_warmstart=warmstart, act=act, ctrl=ctrl)

        def substep(_: Any, carried: Any) -> Any:
            data, overflow = carried
            data = mjx.step(physics, data)
            return data, overflow | data._impl.overflow

        data, overflow = jax.lax.fori_loop(0, model.substeps, substep, (data, data._impl.overflow))
        lost = (overflow & ~_limits_of_the_solver() != 0).any()
        return (
            jnp.where(lost, jnp.nan, data.qpos),
            data.qvel,
            jnp.concatenate([data.qacc_warmstart, data.act]),
            {name: getattr(data, name) for name in kept},
        )

    def batch(*arrays: Array) -> Any:
        lead = arrays[0].shape[:-1]
        rows = [jnp.asarray(x, jnp.float32).reshape(-1, x.shape[-1]) for x in arrays]
        template, physics = (jax.tree.map(jnp.asarray, part) for part in _prepared(model, rows[0].shape[0]))
        out = jax.vmap(lambda *row: one(template, physics, *row))(*rows)
        return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), out)

    return over_leading_axes(batch)


def _limits_of_the_solver() -> int:
    """Bits of `overflow` that say no more than that the solver took all the iterations that the model allows."""
    from mujoco.mjx.third_party.mujoco_warp import OverflowType  # imports warp, which says so on the console

    return int(OverflowType.ITERATIONS | OverflowType.LS_ITERATIONS)


@lru_cache(maxsize=64)
def _prepared(model: Model, nsim: int) -> tuple[Any, Any]:
    """Template and model for that many simulations; NumPy arrays, so that no trace and no device holds on to them."""
    compiled = copy.copy(model.compiled())
    # Warp knows no reset of diverged simulations, nor the flag that forbids it.
    compiled.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    contacts, rows = capacity(compiled)
    with jax.ensure_compile_time_eval():
        try:
            template = mjx.make_data(compiled, impl="warp", naconmax=nsim * contacts, njmax=rows)
            physics = mjx.put_model(compiled, impl="warp")
        except NotImplementedError as error:
            raise ConfigError(f"Warp cannot simulate this model: {error}", mend="physics = mujoco.") from error
    # Else its kernels print a line for each simulation that overflows.
    physics = physics.tree_replace({"opt._impl.warn_overflow": 0})
    return jax.tree.map(np.asarray, template), jax.tree.map(np.asarray, physics)


def capacity(compiled: mujoco.MjModel) -> tuple[int, int]:
    """Places for contacts and for constraint rows that a simulation gets on average and at most.

    `CONTACTS_PER_GEOM` for each geom on a moving body that can collide; each contact has rows by the largest condim,
    each limited joint or tendon and each dry friction has one, an equality constraint at most six.
    """
    listed = np.union1d(compiled.pair_geom1, compiled.pair_geom2)
    collides = (compiled.geom_contype != 0) | (compiled.geom_conaffinity != 0)
    collides[listed.astype(int)] = True
    moving = compiled.body_weldid[compiled.geom_bodyid] != 0
    contacts = CONTACTS_PER_GEOM * max(1, int((collides & moving).sum()))
    condim = max([1, *compiled.geom_condim[collides], *compiled.pair_dim])
    others = (
        int(compiled.jnt_limited.sum())
        + int(compiled.tendon_limited.sum())
        + int((compiled.dof_frictionloss > 0).sum())
        + int((compiled.tendon_frictionloss > 0).sum())
        + 6 * compiled.neq
    )
    return contacts, contacts * ROWS[int(condim)] + others
