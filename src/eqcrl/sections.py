"""The sections of the configuration: settings that are no parts, with unit, range and default."""

from typing import Annotated

import msgspec

from eqcrl.settings import Meta


def _count(text: str, unit: str, ge: int = 1) -> Meta:
    return Meta(ge=ge, description=text, extra={"unit": unit})


class Train(msgspec.Struct, frozen=True, kw_only=True):
    """How much is collected and how much is learned from it."""

    total_env_steps: Annotated[int, _count("steps to train for, summed over all environments", "env steps")] = 400_000
    num_envs: Annotated[int, _count("environments that run side by side", "environments")] = 256
    unroll_length: Annotated[int, _count("steps that each environment takes per epoch", "steps")] = 40
    updates_per_epoch: Annotated[int, _count("gradient steps after each unroll", "gradient steps")] = 200
    batch_size: Annotated[int, _count("state-action pairs, and as many goals, per gradient step", "pairs")] = 256
    fresh_resets: Annotated[
        bool,
        Meta(
            description="draw a new start and goal for each episode; false: every environment "
            "repeats its first ones for the whole run, as the paper's code does"
        ),
    ] = True


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """The ring buffer of past transitions."""

    capacity: Annotated[int, _count("steps kept of each environment", "steps per environment")] = 10_000
    min_filled: Annotated[
        int, _count("steps of each environment to collect before learning starts", "steps per environment")
    ] = 240


class Eval(msgspec.Struct, frozen=True, kw_only=True):
    """The evaluation in between."""

    every: Annotated[int, _count("epochs between evaluations", "epochs")] = 4
    num_envs: Annotated[int, _count("episodes per evaluation, run side by side", "episodes")] = 128


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What is saved to continue from."""

    every: Annotated[
        int, _count("evaluations between checkpoints (one is always written at the end)", "evaluations")
    ] = 5
    minutes: Annotated[
        float, Meta(gt=0, description="save at least so often, between evaluations too", extra={"unit": "minutes"})
    ] = 30.0
    keep: Annotated[int, _count("newest complete checkpoints to keep", "checkpoints")] = 2
    policies: Annotated[
        int, _count("keep the policy of every so many checkpoints for good; 0: of none", "checkpoints", ge=0)
    ] = 0
    replay: Annotated[
        bool, Meta(description="save the replay; false: a resumed run fills it anew with the policy it has")
    ] = True
