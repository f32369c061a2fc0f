"""What a run is about to do, from shapes alone: sizes, memory, ratio of learning to collecting."""

from dataclasses import dataclass

import jax
from rich.console import Group
from rich.table import Table
from rich.text import Text

from eqcrl import checkpoint
from eqcrl import epoch as ep
from eqcrl.agents.base import AbstractRemarks
from eqcrl.assemble import System, part_signature
from eqcrl.config import Config
from eqcrl.envs.base import spec_of
from eqcrl.types import EnvSpec


@dataclass(frozen=True)
class Plan:
    """The figures of a run before it starts; bytes are of arrays on the device, without the runtime's own."""

    spec: EnvSpec
    parameters: dict[str, int]
    agent_bytes: int
    replay_bytes: int
    working_bytes: int
    env_steps: int
    prefill_env_steps: int
    epochs: int
    grad_steps: int
    env_steps_per_epoch: int
    updates_per_epoch: int
    remarks: tuple[str, ...]
    """What of the agent's settings is not done on this device, and why."""
    mirror_bytes: int = 0
    """The copy of the replay on the host, from which checkpoints are written, where the host is the device."""
    seeds: int = 1
    """Runs side by side in one program: bytes are those of all of them, steps those of each."""
    devices: int = 1
    """Over which the run is spread: bytes are those on each."""

    def total_bytes(self) -> int:
        """Peak estimate on the device."""
        return self.agent_bytes + self.replay_bytes + self.mirror_bytes + self.working_bytes

    def grad_steps_per_env_step(self) -> float:
        """Gradient steps per environment step, while learning."""
        return self.updates_per_epoch / self.env_steps_per_epoch


def state_shapes(system: System) -> ep.TrainState:
    """Structure, shapes and types of the TrainState, without computing it."""
    return jax.eval_shape(lambda key: ep.init(system.algorithm, key=key), jax.random.key(0))


def make_plan(config: Config, system: System, seeds: int = 1, devices: int = 1) -> Plan:
    """Work the figures out, for so many seeds side by side, or spread over so many devices. Nothing is compiled."""
    shapes = state_shapes(system)
    spec = spec_of(system.algorithm.env.env)
    agent = system.algorithm.agent
    prefill = config.prefill_epochs() * config.env_steps_per_epoch()
    replay_bytes = seeds * checkpoint.nbytes(shapes.replay)
    return Plan(
        spec=spec,
        parameters=agent.parameter_counts(shapes.agent),
        agent_bytes=seeds * checkpoint.nbytes(shapes.agent),
        replay_bytes=replay_bytes // devices,
        mirror_bytes=replay_bytes if config.checkpoint.replay and jax.default_backend() == "cpu" else 0,
        working_bytes=seeds * 4 * agent.working_floats(spec, config.train.batch_size // devices),
        env_steps=prefill + config.num_epochs() * config.env_steps_per_epoch(),
        prefill_env_steps=prefill,
        epochs=config.num_epochs(),
        grad_steps=config.num_epochs() * config.train.updates_per_epoch,
        env_steps_per_epoch=config.env_steps_per_epoch(),
        updates_per_epoch=config.train.updates_per_epoch,
        remarks=agent.remarks(shapes.agent, config.train.batch_size) if isinstance(agent, AbstractRemarks) else (),
        seeds=seeds,
        devices=devices,
    )


def human_bytes(count: float) -> str:
    """1.5 GiB, 12 MiB, 3 KiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1023.5:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def human_count(count: float) -> str:
    """204 M, 12.3 k."""
    for unit in ("", " k", " M"):
        if abs(count) < 999.5:
            return f"{count:.3g}{unit}" if unit else f"{count:.0f}"
        count /= 1000
    return f"{count:.3g} G"


def _arch_text(name: str, params: dict[str, object]) -> str:
    return f"{name} ({', '.join(f'{k} {v}' for k, v in params.items())})" if params else name


def _agent_text(config: Config) -> str:
    """The agent's name, and the parts that it is made of beside networks and environment."""
    slots = part_signature("agent", config.agent.name).slots
    parts = {field: getattr(config, field) for field in ("energy", "loss", "actor_goals") if field in slots}
    made_of = ", ".join(f"{field.replace('_', ' ')} {part.name}" for field, part in parts.items())
    return f"{config.agent.name}: {made_of}" if made_of else config.agent.name


def render_plan(config: Config, plan: Plan, device: str) -> Group:
    """The plan as a small table for the terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    sizes = plan.spec
    table.add_row(
        "environment",
        f"{config.env.name}: observation {sizes.observation_size}, action {sizes.action_size}, "
        f"goal {sizes.goal_size}; {config.train.num_envs} side by side",
    )
    table.add_row("agent", _agent_text(config))
    table.add_row("architecture", _arch_text(config.arch.name, config.arch.params))
    for field in ("actor_arch", "critic_arch"):
        part = getattr(config, field)
        if part is not None:
            table.add_row(field.replace("_arch", " of its own"), _arch_text(part.name, part.params))
    counts = ", ".join(f"{name} {human_count(n)}" for name, n in plan.parameters.items())
    table.add_row("parameters", f"{human_count(sum(plan.parameters.values()))} ({counts})")
    if plan.seeds > 1:
        last = config.seed + plan.seeds - 1
        table.add_row("seeds", f"{plan.seeds} side by side in one program, {config.seed} to {last}; steps are of each")
    table.add_row(
        "memory, estimated" if plan.devices == 1 else "memory of each device",
        f"{human_bytes(plan.total_bytes())} (networks and Adam "
        f"{human_bytes(plan.agent_bytes)}, gradients and activations {human_bytes(plan.working_bytes)}, "
        f"replay {human_bytes(plan.replay_bytes)}"
        f"{' and as much to save it from' if plan.mirror_bytes else ''})",
    )
    table.add_row("environment steps", f"{plan.env_steps:,} ({plan.prefill_env_steps:,} before learning starts)")
    table.add_row(
        "gradient steps",
        f"{plan.grad_steps:,} of batch {config.train.batch_size}, in {plan.epochs} epochs of {plan.updates_per_epoch}",
    )
    table.add_row(
        "learning to collecting",
        f"{plan.grad_steps_per_env_step():.4g} gradient steps per environment step "
        f"(one per {1 / plan.grad_steps_per_env_step():.3g})",
    )
    table.add_row("device", device)
    for remark in plan.remarks:
        table.add_row("note", remark)
    return Group(Text("Plan", style="bold underline"), table)
