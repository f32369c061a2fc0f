"""Training on several devices: what lies where, and how it gets there and back.

| on each device | of |
|---|---|
| its share, by environments | environments, replay, unrolls |
| its share, by rows | batches and activations |
| all of it | networks, optimizers, random keys, counters |

The numbers are those of one device but for the rounding of sums: random numbers do not depend on where they are drawn,
and losses see the whole batch.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.extend.core import jaxprs_in_params
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from eqcrl.assemble import System
from eqcrl.config import Config
from eqcrl.envs.base import AbstractEnv
from eqcrl.envs.mujoco import AbstractMujocoEnv
from eqcrl.envs.wrap import BatchState
from eqcrl.errors import ConfigError, RunError
from eqcrl.replay import Replay
from eqcrl.spread import AXIS
from eqcrl.types import Transition

Tree = TypeVar("Tree")

# Operations by which a program leaves XLA: it cannot divide their rows, and so would gather them all on one device.
OUTSIDE = ("io_callback", "pure_callback", "debug_callback", "ffi_call", "jax_callable")


WHOLE = jax.ShapeDtypeStruct((), np.float32)
"""For `Placement.lower`: results that every device has, whatever they are."""


class Placement:
    """The devices of a run. With one device nothing is different from a program that knows no devices."""

    def __init__(self, mesh: Mesh | None = None):
        self.mesh = mesh
        """None for one device."""

    @property
    def devices(self) -> int:
        """How many there are, over all processes."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def processes(self) -> int:
        """Processes that train together."""
        return 1 if self.mesh is None else jax.process_count()

    @property
    def writes(self) -> bool:
        """Whether this process writes files and the screen: one of them does."""
        return self.processes == 1 or jax.process_index() == 0

    def shardings(self, tree: Any) -> Any:
        """Of every array in a tree of them, or of shapes, where its parts lie."""

        def of(node: Any) -> Any:
            # Those of them that have no axes count something over all environments.
            if isinstance(node, Replay | Transition):
                return jax.tree.map(lambda leaf: self._sharding(1 if leaf.ndim else None), node)
            if isinstance(node, BatchState):
                return jax.tree.map(lambda leaf: self._sharding(0 if leaf.ndim else None), node)
            return self._sharding(None)

        return jax.tree.map(of, tree, is_leaf=lambda node: isinstance(node, Replay | Transition | BatchState))

    def lower(self, function: Callable[..., Any], *shapes: Any, out: Any, donate: bool = False) -> Any:
        """`jax.jit(function).lower(*shapes)` for these devices; with `donate` the first argument is consumed.

        `out` is what the function returns, in shapes; WHOLE stands for anything that all devices shall have.
        """
        how: dict[str, Any] = {"donate_argnums": (0,) if donate else ()}
        if self.mesh is None:
            return jax.jit(function, **how).lower(*shapes)
        with jax.set_mesh(self.mesh):
            where = {"in_shardings": self.shardings(shapes), "out_shardings": self.shardings(out)}
            return jax.jit(function, **where, **how).lower(*shapes)

    def put(self, tree: Tree) -> Tree:
        """A state from the host, whole in every process, onto the devices."""
        if self.mesh is None:
            return tree
        return jax.tree.map(_put, tree, self.shardings(tree))

    def fetch(self, tree: Any) -> Any:
        """Whole arrays of NumPy; random keys must have been made numbers. All processes must ask together."""
        if self.processes == 1:
            return jax.device_get(tree)
        return jax.tree.map(_fetched, tree)

    def agreed(self, value: int) -> int:
        """The greatest of the values that the processes have. All must ask together."""
        if self.processes == 1:
            return value
        return int(np.max(multihost_utils.process_allgather(np.asarray(value, np.int32))))

    def _sharding(self, axis: int | None) -> NamedSharding:
        assert self.mesh is not None
        return NamedSharding(self.mesh, PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS))


ONE = Placement()
"""One device: JAX's default."""


Devices = int | Literal["all"]


def place(devices: Devices = 1) -> Placement:
    """The first so many devices, or all. Several processes always train with all that they have.

    Raises: ConfigError if there are not so many.
    """
    there = jax.devices()
    count = len(there) if devices == "all" or jax.process_count() > 1 else devices
    if count > len(there):
        kinds = ", ".join(sorted({device.device_kind for device in there}))
        simulated = " On a CPU, XLA_FLAGS=--xla_force_host_platform_device_count=N makes it look like N devices."
        raise ConfigError(
            f"{count} devices were asked for, but there {'is' if len(there) == 1 else 'are'} {len(there)} ({kinds}).",
            mend="--devices all takes what there is." + (simulated if there[0].platform == "cpu" else ""),
        )
    return ONE if count == 1 else Placement(Mesh(np.asarray(there[:count]), (AXIS,), axis_types=(AxisType.Auto,)))


def check(config: Config, system: System, placement: Placement) -> None:
    """Before anything is compiled. Raises: ConfigError if the run cannot be divided over the devices."""
    if placement.devices == 1:
        return
    check_divides(config, placement.devices)
    check_environment(system.algorithm.env.env)
    if system.eval_env is not system.algorithm.env.env:
        check_environment(system.eval_env, "eval_env")
    if placement.processes > 1 and config.on_divergence == "rollback":
        raise ConfigError(
            "on_divergence = 'rollback' is not possible with several processes: only one of them has the checkpoints.",
            mend="--on-divergence stop or skip; or train with one process.",
        )


def refuse_unlike(number: int | None, placement: Placement) -> None:
    """Raises: RunError unless all processes have found the same checkpoint. All must ask together."""
    mine = -1 if number is None else number
    if placement.agreed(mine) != mine or -placement.agreed(-mine) != mine:
        raise RunError(
            f"The processes do not see the same checkpoints: process {jax.process_index()} has "
            f"{'none' if number is None else f'that of {number} unrolls'}.",
            mend="The run directory must lie on a file system that all hosts share.",
        )


def check_divides(config: Config, devices: int) -> None:
    """Raises: ConfigError unless each device can have as many environments, and as many rows of a batch."""
    sizes: Mapping[str, int] = {
        "train.num_envs": config.train.num_envs,
        "train.batch_size": config.train.batch_size,
    }
    for key, size in sizes.items():
        if size % devices:
            near = sorted({size // devices * devices, -(-size // devices) * devices} - {0})
            raise ConfigError(
                f"{key} = {size} cannot be divided over {devices} devices.",
                mend=f"--{key.replace('_', '-')} {' or '.join(map(str, near))}, or another number of --devices.",
            )


def check_environment(env: AbstractEnv, key: str = "env") -> None:
    """Raises: ConfigError if the steps of the environment cannot be divided over devices, because they leave XLA."""
    found = sorted(leaves_xla(env))
    if not found:
        return
    if isinstance(env, AbstractMujocoEnv):
        flag = "--physics" if key == "env" else f"--{key.replace('_', '-')}.physics"
        raise ConfigError(
            f"The physics engine {env.physics!r} cannot be divided over several devices: it simulates on the host, or "
            "in kernels of its own, which XLA cannot divide.",
            mend=f"{flag} mjx simulates on the devices; or train on one, without --devices.",
        )
    raise ConfigError(
        f"The environment {type(env).__name__} cannot be divided over several devices: its steps leave XLA by "
        f"{', '.join(found)}.",
        mend="Write its steps in JAX alone, or train on one device, without --devices.",
    )


def leaves_xla(env: AbstractEnv) -> set[str]:
    """The operations in a step or a reset of the environment that run outside of XLA."""

    def walk(key: Any) -> Any:
        physics, _ = env.reset(key)
        action = jax.numpy.zeros(env.action_size)
        return env.observation(env.step(physics, action, key))

    # Under `vmap`, since engines have rules of their own for it.
    traced = jax.make_jaxpr(jax.vmap(walk))(jax.random.split(jax.random.key(0), 2))
    return {name for name in _operations(traced.jaxpr) if name.startswith(OUTSIDE)}


def _operations(jaxpr: Any) -> set[str]:
    names: set[str] = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for inner in jaxprs_in_params(equation.params):
            names |= _operations(inner)
    return names


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _put(leaf: Any, sharding: NamedSharding) -> Any:
    if _is_key(leaf):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _fetched(leaf: Any) -> np.ndarray:
    """All of an array whose parts may lie in other processes."""
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)
