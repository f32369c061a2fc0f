"""`eqcrl show env NAME`: the facts of a task and a picture of it."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from eqcrl.cli.env_options import check_env_options
from eqcrl.cli.options import SettingsCommand, given
from eqcrl.config import Part


@click.group()
def show() -> None:
    """Show what a part is like."""


@show.command("env", cls=SettingsCommand, options_for=check_env_options)
@click.argument("name")
@click.option("--out", metavar="FILE", help="A .png file for the picture.  (default: NAME.png in this folder)")
@click.option("--no-picture", is_flag=True, help="Only the table.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the start and goal in the picture.",
)
@click.pass_context
def show_env_command(ctx: click.Context, name: str, out: str | None, no_picture: bool, seed: int) -> None:
    """Print the facts of the environment NAME, with parameters such as `--env.layout big`, and draw it.

    The picture shows one start and its goal; of a maze, the whole layout beside it.
    """
    params = {key.partition(".")[2]: value for key, value in given(ctx).items()}

    # Here, not above: `eqcrl show --help` shall not wait for JAX.
    from rich.table import Table

    from eqcrl.assemble import build_env
    from eqcrl.cli.console import make_console
    from eqcrl.plots.output import check_suffix

    path = Path(out) if out is not None else Path(f"{name.rpartition('/')[2]}.png")
    check_suffix(path, (".png",), "picture")
    env = build_env(Part(name, params))
    table = Table(title=f"the env {name}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for label, value in facts(env):
        table.add_row(label, value)
    console = make_console()
    console.print(table)
    if no_picture:
        return
    drawn = draw(env, path, seed=seed)
    if drawn:
        console.print(str(path), highlight=False, soft_wrap=True)
    else:
        console.print(f"{name} has neither a MuJoCo model nor a top view: no picture.", highlight=False)


def facts(env: Any) -> list[tuple[str, str]]:
    """What a user of a task wants to know, as rows of text; nothing is simulated."""
    from eqcrl.envs.base import spec_of
    from eqcrl.envs.mujoco import AbstractMujocoEnv

    spec, evaluation = spec_of(env), env.evaluation()
    in_space = isinstance(env, AbstractMujocoEnv)
    step = env.model().control_step() if in_space else None
    steps = f"{env.episode_length} steps" + (f" ({env.episode_length * step:g} s)" if step is not None else "")
    rows = [
        ("task", _first_line(type(env))),
        ("observation", f"{spec.observation_size} numbers: {_first_line(env.observation)}"),
        ("action", f"{spec.action_size} numbers in [-1, 1]" + (f": {_first_line(env.control)}" if in_space else "")),
        ("goal", f"{spec.goal_size} numbers: {_first_line(env.achieved_goal)}"),
        ("goal distance", _first_line(env.goal_distance)),
        ("success radius", f"{env.success_radius:g}"),
        ("start and goal", _first_line(env.reset)),
        ("termination", _first_line(env.terminated)),
        ("episode", steps),
    ]
    if in_space:
        rows += _facts_of_model(env)
    else:
        rows.append(("physics", "its own"))
    rows.append(("settings", _settings(env, None)))
    same = type(evaluation) is type(env) and _settings(evaluation, env) == ""
    changed = "" if same else f": {type(evaluation).__name__} with {_settings(evaluation, env)}"
    rows.append(("evaluation", "the same task" if same else "another start, goal or layout" + changed))
    return rows


def _facts_of_model(env: Any) -> list[tuple[str, str]]:
    model = env.model()
    compiled = model.compiled()
    step = float(compiled.opt.timestep)
    fixed = int((compiled.body_weldid[compiled.geom_bodyid] == 0).sum())
    masses = compiled.body_mass[1:]
    caps = {
        "at most {} contacts": model.max_contact_points,
        "at most {} geom pairs of a kind": model.max_geom_pairs,
    }
    bounded = ", ".join(text.format(cap) for text, cap in caps.items() if cap is not None)
    return [
        ("control step", f"{model.control_step():g} s ({model.substeps} x {step:g} s)"),
        ("physics engine", env.physics),
        ("contacts on MJX", bounded or "all of them"),
        ("sizes", f"{compiled.nq} positions, {compiled.nv} velocities, {compiled.nu} actuators"),
        (
            "bodies",
            f"{compiled.nbody - 1} with {compiled.ngeom - fixed} geoms that move; {fixed} fixed geoms",
        ),
        ("mass", f"{masses.sum():.4g} kg; the heaviest body {masses.max(initial=0.0):.4g} kg"),
        ("read from the physics", ", ".join(model.readouts) or "positions and velocities only"),
    ]


def _settings(env: Any, other: Any) -> str:
    """The settings of a task as text; beside another of the same class, those that differ."""
    shown = []
    for field in fields(env):
        value = getattr(env, field.name)
        differs = type(other) is not type(env) or getattr(other, field.name) != value
        if field.init and differs and isinstance(value, str | int | float | bool):
            shown.append(f"{field.name} = {value}")
    return ", ".join(shown)


def draw(env: Any, path: Path, *, seed: int) -> bool:
    """Draw a start of the task and its goal into `path`; False if there is nothing to draw.

    Raises: RunError if nothing can be drawn or the disk refuses.
    """
    import jax
    import jax.numpy as jnp

    from eqcrl.envs.mujoco import AbstractMujocoEnv
    from eqcrl.evaluate import Episodes
    from eqcrl.render import still
    from eqcrl.scene.portrait import portrait

    if isinstance(env, AbstractMujocoEnv):
        portrait(env, path, seed=seed)
        return True
    view = env.top_view()
    if view is None:
        return False
    state, goal = jax.jit(env.reset)(jax.random.key(seed))
    never, distance = jnp.zeros((0, 1), bool), jnp.zeros((0, 1))
    start = Episodes(env.achieved_goal(state)[None, None], goal[None], never, never, distance)
    still(start, view, path, success_radius=env.success_radius)
    return True


def _first_line(described: Any) -> str:
    """The first sentence that the docstring of a task says about a part of it."""
    import inspect

    return (inspect.getdoc(described) or "not described").split("\n\n")[0].replace("\n", " ")
