"""The JAX engine: MuJoCo's physics as one XLA program, for GPUs and TPUs, and for CPUs without threads to spare.

A step of MJX depends on positions, velocities, controls, actuator states and the solver's warm start alone; all other
fields of its Data are worked out again in every step. So no more than that is carried from step to step, a control
step begins from a constant template, and a reset is a select over a few dozen numbers.
"""

import contextlib
import io
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import metadata
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float

from eqcrl.errors import ConfigError
from eqcrl.physics.base import AbstractEngine, PhysicsState, Readouts
from eqcrl.physics.model import LIMIT, Model
from eqcrl.physics.rewrite import without_libraries

with contextlib.redirect_stdout(io.StringIO()):  # it prints that optional packages are not there
    import mujoco.mjx as mjx
    from mujoco.mjx._src import sensor, smooth

# Work of the collision functions is pairs times contacts, so caps bound it whatever the number of walls. MJX 3.17
# looks a custom numeric's value up by its index where it means its address: right only behind one-valued numerics.
CAPS = ("max_contact_points", "max_geom_pairs")


class MjxEngine(AbstractEngine):
    """MJX (Todorov et al. 2012 in JAX, float32), with the contact work bounded by the model's caps.

    Deterministic for one batch size; another batch size or backend rounds differently.
    `hidden` is the warm start of the solver, and the states of actuators that have any.
    """

    model: Model = eqx.field(static=True)
    # The broad phase ranks pairs by bounding spheres: long boxes would crowd out the wall that is touched.
    merges_walls: bool = eqx.field(default=False, static=True, init=False)

    def start(
        self, qpos: Float[Array, "nq"], qvel: Float[Array, "nv"], readouts: Readouts, task: Any = ()
    ) -> PhysicsState:
        """All zeros in `hidden` is what MuJoCo itself starts from."""
        return fresh(self.model, qpos, qvel, readouts, task)

    def step(self, state: PhysicsState, ctrl: Float[Array, "nu"]) -> PhysicsState:
        """One loop over the substeps, then only those kinematics that the readouts need."""
        model, nv = self.model, state.qvel.shape[-1]
        controls = jnp.asarray(ctrl, jnp.float32)
        # Of the fields that a step computes, these belong to the step itself and not to the state that it reaches.
        kept = {name: jnp.asarray(getattr(_prepared(model).template, name)) for name in of_the_step(model)}
        substep = _on_cpu(model) if jax.default_backend() == "cpu" else partial(_substep, model)
        carried = (state.qpos, state.qvel, state.hidden[:nv], state.hidden[nv:], kept)
        qpos, qvel, warmstart, act, kept = jax.lax.fori_loop(
            0, model.substeps, lambda _, carried: substep(carried[:4], controls), carried
        )
        read = readouts_at(model, qpos, qvel, act, kept)
        return or_nan(PhysicsState(qpos, qvel, read, jnp.concatenate([warmstart, act]), state.task), ctrl)

    def compiler_options(self) -> dict[str, Any]:
        """What the backend in use needs to compile kinematic chains well."""
        return cpu_options()


def cpu_options() -> dict[str, Any]:
    """What XLA has to be told on a CPU, by the version of jaxlib; of the later ones, naming an option is an error.

    Before 0.11: not to recompute a kinematic chain in each of its links, which makes an arm of nine 1,000 times slower
    (jax-ml/jax#33761). In 0.10 also: to leave single matrix products to YNNPACK, and nothing else. It takes over small
    sums as well, of which a step of MJX has hundreds, and a step then takes 1.4 times as long.
    """
    version = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2])
    if jax.default_backend() != "cpu" or version >= (0, 11):
        return {}
    chains = {"xla_cpu_use_fusion_emitters": False}
    sums = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    return chains | sums if version == (0, 10) else chains


def contact_slots(model: Model) -> int:
    """Contacts that MJX's program for this model holds in every simulation, touching or not."""
    return jax.eval_shape(lambda: mjx.collision(*_on_device(model)))._impl.contact.dist.shape[0]


def fresh(
    model: Model, qpos: Float[Array, "nq"], qvel: Float[Array, "nv"], readouts: Readouts, task: Any
) -> PhysicsState:
    """A start for engines whose `hidden` is the warm start and the actuator states."""
    compiled = model.compiled()
    read = {name: jnp.asarray(readouts[name], jnp.float32) for name in model.readouts}
    hidden = jnp.zeros(compiled.nv + compiled.na, jnp.float32)
    return PhysicsState(jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32), read, hidden, task)


def or_nan(state: PhysicsState, ctrl: Float[Array, "nu"]) -> PhysicsState:
    """The state, or all NaN where it or its control is no number any more (or beyond MuJoCo's own limit)."""
    bounded = (jnp.abs(state.qpos) < LIMIT).all() & (jnp.abs(state.qvel) < LIMIT).all() & jnp.isfinite(ctrl).all()
    qpos, qvel, read, hidden = jax.tree.map(
        lambda x: jnp.where(bounded, x, jnp.nan), (state.qpos, state.qvel, state.readouts, state.hidden)
    )
    return PhysicsState(qpos, qvel, read, hidden, state.task)


def readouts_at(
    model: Model, qpos: Float[Array, "nq"], qvel: Float[Array, "nv"], act: Float[Array, "na"], kept: Readouts
) -> dict[str, Array]:
    """The readouts in this state, by those kinematics alone that they need; `kept` are those `of_the_step`."""
    if not model.readouts:
        return {}
    physics, template = _on_device(model)
    data = _current(physics, template.replace(qpos=qpos, qvel=qvel, act=act, **kept), model)
    return {name: data._impl.cinert if name == "cinert" else getattr(data, name) for name in model.readouts}


@lru_cache(maxsize=64)
def of_the_step(model: Model) -> tuple[str, ...]:
    """Readouts that hold forces or accelerations: those belong to the last substep, as in C MuJoCo."""
    measures_forces = (model.compiled().sensor_needstage == int(mujoco.mjtStage.mjSTAGE_ACC)).any()
    return tuple(n for n in model.readouts if n == "qfrc_actuator" or (n == "sensordata" and measures_forces))


def _substep(model: Model, carried: tuple[Array, ...], ctrl: Float[Array, "nu"]) -> tuple[Any, ...]:
    """One step of the physics: (qpos, qvel, warm start, act) -> the same, and the readouts `of_the_step`."""
    physics, template = _on_device(model)
    qpos, qvel, warmstart, act = carried
    before = template.replace(qpos=qpos, qvel=qvel, qacc_warmstart=warmstart, act=act, ctrl=ctrl)
    # A GPU's own default rounds what it multiplies, which the contact solver does not bear.
    with jax.default_matmul_precision("float32"):
        after = mjx.step(physics, before)
    kept = {name: getattr(after, name) for name in of_the_step(model)}
    return after.qpos, after.qvel, after.qacc_warmstart, after.act, kept


@lru_cache(maxsize=64)
def _on_cpu(model: Model) -> Callable[..., Any]:
    """`_substep`, traced once for all programs, and without the libraries that wait or are slow there."""
    compiled = model.compiled()
    sizes = (compiled.nq, compiled.nv, compiled.nv, compiled.na, compiled.nu)
    *carried, ctrl = (jax.ShapeDtypeStruct((size,), jnp.float32) for size in sizes)
    traced, shapes = jax.make_jaxpr(partial(_substep, model), return_shape=True)(tuple(carried), ctrl)
    treedef, run = jax.tree.structure(shapes), without_libraries(traced)
    return lambda carried, ctrl: jax.tree.unflatten(treedef, run(*carried, ctrl))


class _Prepared(NamedTuple):
    """What a program for a model is made from; NumPy arrays, so that no trace and no device holds on to it."""

    physics: Any
    template: Any


@lru_cache(maxsize=64)
def _prepared(model: Model) -> _Prepared:
    compiled = model.compiled()
    carries_more = int(mujoco.mjtState.mjSTATE_HISTORY) | int(mujoco.mjtState.mjSTATE_PLUGIN)
    if mujoco.mj_stateSize(compiled, carries_more):
        raise ConfigError(
            "The model has delays or plugins, whose state the engine mjx does not carry.",
            mend="physics = mujoco.",
        )
    capped = _with_caps(model)
    with jax.ensure_compile_time_eval():
        try:
            made = mjx.put_model(capped, impl="jax"), mjx.make_data(capped, impl="jax")
        except NotImplementedError as error:
            raise ConfigError(f"MJX cannot simulate this model: {error}", mend="physics = mujoco.") from error
    return _Prepared(*jax.tree.map(np.asarray, made))


def _on_device(model: Model) -> Any:
    return jax.tree.map(jnp.asarray, tuple(_prepared(model)))


def _with_caps(model: Model) -> mujoco.MjModel:
    """The model with the caps as its only custom numerics, and the iterations that MJX is given."""
    spec = mujoco.MjSpec.from_string(model.xml)
    for numeric in list(spec.numerics):
        spec.delete(numeric)
    for name in CAPS:
        value = getattr(model, name)
        if value is not None:
            spec.add_numeric(name=name, size=1, data=[value])
    if model.mjx_solver is not None:
        spec.option.iterations, spec.option.ls_iterations = model.mjx_solver
    compiled = spec.compile()
    compiled.opt.disableflags = model.compiled().opt.disableflags
    return compiled


def _current(physics: Any, data: Any, model: Model) -> Any:
    """The fields that follow from positions and velocities, up to date; XLA drops what is not read."""
    data = smooth.kinematics(physics, data)
    if set(model.readouts) & {"subtree_com", "cinert", "cvel", "sensordata"}:
        data = smooth.com_pos(physics, data)
    if set(model.readouts) & {"cvel", "sensordata"}:
        data = smooth.com_vel(physics, data)
    if "sensordata" not in model.readouts:
        return data
    data = smooth.transmission(physics, smooth.tendon(physics, smooth.camlight(physics, data)))
    if (physics.sensor_type == int(mujoco.mjtSensor.mjSENS_CONTACT)).any():
        data = mjx.collision(physics, data)
    impl = data._impl
    data = data.tree_replace(
        {"_impl.actuator_velocity": impl.actuator_moment @ data.qvel, "_impl.ten_velocity": impl.ten_J @ data.qvel}
    )
    return sensor.sensor_vel(physics, sensor.sensor_pos(physics, data))
