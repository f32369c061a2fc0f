"""Configurations of runs that were written out in full, perhaps before a parameter existed."""

from typing import Any

from eqcrl.config import PART_KINDS, Config, Part
from eqcrl.errors import ConfigError

# What parts did before there was a parameter for it, where its default is something else today; and a parameter that
# is older, by which a part that was written out in full is known.
BEFORE_THE_CHOICE: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("arch", "resnet"): ("remat", {"recipe": "paper"}),
}


def recorded_config(text: str, origin: str) -> Config:
    """What a run was made with; `origin` names the text in messages. Raises: ConfigError."""
    config = Config.from_toml(text, origin)
    filled: dict[str, Part] = {}
    for field, kind in PART_KINDS.items():
        part = getattr(config, field)
        if part is None or (kind, part.name) not in BEFORE_THE_CHOICE:
            continue
        if part.params.get("recipe") == "calm" and "depth_solver" not in part.params:
            raise ConfigError(
                f"{origin}: `{field}.recipe = 'calm'` was recorded when that meant 1 / blocks of each branch, which "
                "this version does not have.",
                mend="Use the version of eqcrl that made the run; header.json names it.",
            )
        older, before = BEFORE_THE_CHOICE[kind, part.name]
        if older in part.params:
            filled[field] = Part(part.name, before | part.params)
    return config.replace(**filled)
