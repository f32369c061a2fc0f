"""What the numbers of `metrics.jsonl` are called in pictures."""

NAMES = {
    "eval/success_any": "success at any step (share)",
    "eval/success_end": "success at the last step (share)",
    "eval/time_at_goal": "time at goal (steps per episode)",
    "eval/distance_end": "distance to goal at the end",
    "eval/episode_length": "episode length (steps)",
    "train/critic_loss": "critic loss",
    "train/actor_loss": "actor loss",
    "train/categorical_accuracy": "categorical accuracy (share)",
    "train/logits_pos": "logits of positive pairs",
    "train/logits_neg": "logits of negative pairs",
    "train/entropy": "policy entropy (nats)",
    "train/env_steps_per_second": "environment steps per second",
    "train/grad_steps_per_second": "gradient steps per second",
}
SHARES = ("eval/success_any", "eval/success_end", "train/categorical_accuracy")
SHARE_LIMITS = (-0.03, 1.03)
"""Of an axis with shares: the whole range, and room for lines at its ends."""


def metric_name(metric: str) -> str:
    """Name and unit for people; the metric itself if it has none."""
    return NAMES.get(metric, metric)


def metric_limits(metric: str) -> tuple[float, float] | None:
    """The range of its axis, or None if that is for the data to say."""
    return SHARE_LIMITS if metric in SHARES else None
