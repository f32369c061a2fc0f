"""Self-supervised goal-conditioned reinforcement learning with networks up to 1024 layers deep.

    import eqcrl
    run = eqcrl.fit(eqcrl.Config.load(preset="quickstart"))
    action = run.policy(observation, desired_goal)

Names are imported when first used, so that `import eqcrl` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eqcrl.config import Config as Config
    from eqcrl.errors import EqcrlError as EqcrlError
    from eqcrl.run import Run as Run
    from eqcrl.run import fit as fit
    from eqcrl.run import load as load
    from eqcrl.run import resume as resume
    from eqcrl.seeds import fit_seeds as fit_seeds
    from eqcrl.seeds import resume_seeds as resume_seeds

__version__ = "0.1.0"

_HOME = {
    "Config": "eqcrl.config",
    "EqcrlError": "eqcrl.errors",
    "Run": "eqcrl.run",
    "fit": "eqcrl.run",
    "fit_seeds": "eqcrl.seeds",
    "load": "eqcrl.run",
    "resume": "eqcrl.run",
    "resume_seeds": "eqcrl.seeds",
}
__all__ = ["Config", "EqcrlError", "Run", "__version__", "fit", "fit_seeds", "load", "resume", "resume_seeds"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'eqcrl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
