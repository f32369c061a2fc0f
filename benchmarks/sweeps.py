"""How wrong a deep network is after so many sweeps over all its blocks at once (`eqcrl.nn.sweeps`).

    python -m benchmarks.sweeps [--depths 64 256 1024] [--width 64]   # fresh networks, both recipes
    python -m benchmarks.sweeps --run RUN                            # actor and encoders that were trained

Errors are of the output (forward) and of the gradient to the input (backward, along the exact stream), relative to what
differs between rows. `change` is what the last sweep changed, by which training would decide.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import eqcrl
from eqcrl.diagnose import real_batch
from eqcrl.nn import sweeps
from eqcrl.nn.resnet import ResNet

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
ROWS = 64


def errors(blocks: Any, x: jax.Array, grad: jax.Array) -> list[tuple[float, float, float]]:
    """For each count of sweeps: error forward, change by the last, error backward."""
    exact = jax.jit(sweeps.one_by_one)(blocks, x)
    back = jax.jit(sweeps.back_one_by_one)(blocks, exact.inputs, grad)
    forward, backward = (jax.jit(f, static_argnames=("tolerance", "most")) for f in (sweeps.forward, sweeps.backward))
    rows = []
    for most in COUNTS:
        ahead = forward(blocks, x, tolerance=0.0, most=most)
        behind = backward(blocks, exact.inputs, grad, tolerance=0.0, most=most)
        wrong = (sweeps.relative(s.out - e.out, e.out) for s, e in ((ahead, exact), (behind, back)))
        rows.append((float(next(wrong)), float(ahead.change), float(next(wrong))))
    return rows


def fresh(depth: int, width: int, recipe: Any) -> tuple[Any, jax.Array]:
    """Blocks of a new network, and what its stem makes of random inputs."""
    trunk = ResNet(depth, width, recipe=recipe).build(20, key=jax.random.key(0))
    return trunk.blocks.blocks, trunk.first(jax.random.normal(jax.random.key(1), (ROWS, 20)))


def trained(path: Path) -> dict[str, tuple[Any, jax.Array]]:
    """The same of the three networks of a run, on a batch of what its policy does."""
    run = eqcrl.load(path)
    state, batch = real_batch(run.system, run.agent_state, ROWS, key=jax.random.key(0))
    inputs = {
        "actor": (state.actor.trunk, (batch.observation, batch.goal)),
        "phi": (state.critic.state_action.trunk, (batch.observation, batch.action)),
        "psi": (state.critic.goal.trunk, (batch.goal,)),
    }
    return {
        name: (trunk.blocks.blocks, trunk.first(jnp.concatenate(parts, axis=-1)))  # type: ignore[attr-defined]
        for name, (trunk, parts) in inputs.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--run", type=Path, action="append", default=[])
    args = parser.parse_args()
    networks: dict[str, tuple[Any, jax.Array]] = {}
    for path in args.run:
        networks |= {f"{path.name}, {name}": found for name, found in trained(path).items()}
    if not args.run:
        networks = {
            f"fresh, depth {depth}, {recipe}": fresh(depth, args.width, recipe)
            for depth in args.depths
            for recipe in ("paper", "calm")
        }
    table = Table("network", "", *(str(count) for count in COUNTS), title="Relative error after so many sweeps")
    for name, (blocks, x) in networks.items():
        grad = jax.random.normal(jax.random.key(2), x.shape)
        found = errors(blocks, x, grad)
        for i, kind in enumerate(("forward", "change", "backward")):
            table.add_row(name if i == 0 else "", kind, *(f"{row[i]:.0e}" for row in found))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
