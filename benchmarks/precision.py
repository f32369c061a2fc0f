"""What rounded matrix products do to the losses and gradients of an update, beside exact ones.

    python -m benchmarks.precision [--depths 64 1024] [--width 64] [--batch 64]

Fresh networks, the same batch. On a CPU tf32 and bf16 are emulated exactly (`eqcrl.nn.precision`).
"""

import argparse
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import cases
from eqcrl.agents.crl import CRL


def flat(tree: Any) -> np.ndarray:
    """All leaves in one float64 vector."""
    return np.concatenate([np.ravel(leaf).astype(float) for leaf in jax.tree.leaves(tree)])


def gradients(agent: CRL, algorithm: Any) -> dict[str, Any]:
    """Losses and gradients of one update of fresh networks."""
    state, batch = cases.agent_state(algorithm), cases.batch(algorithm)
    found = jax.jit(lambda s, b: agent.gradients(s, b, key=jax.random.key(3)))(state, batch)
    return {
        "losses": np.array([found.actor_loss, found.critic_loss], float),
        "actor": flat(found.actor),
        "critic": flat(found.critic),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    columns = ("depth", "recipe", "precision", "actor loss", "critic loss", "actor: 1 - cosine", "critic: 1 - cosine")
    table = Table(*columns, title="Against exact products: relative difference of losses, direction of gradients")
    for depth in args.depths:
        for recipe in ("paper", "calm"):
            algorithm = cases.algorithm(depth, args.width, args.batch, env="humanoid", arch__recipe=recipe)
            agent: Any = algorithm.agent
            exact = gradients(agent, algorithm)
            for precision in ("tf32", "bf16"):
                found = gradients(replace(agent, precision=precision), algorithm)
                losses = np.abs(found["losses"] / exact["losses"] - 1.0)
                cosines = [
                    found[k] @ exact[k] / np.linalg.norm(found[k]) / np.linalg.norm(exact[k])
                    for k in ("actor", "critic")
                ]
                cells = [*losses, *(1.0 - c for c in cosines)]
                table.add_row(str(depth), recipe, precision, *(f"{value:.1e}" for value in cells))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
