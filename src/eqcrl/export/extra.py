"""The packages of the extra `export`."""

import importlib
from typing import Any

from eqcrl.errors import UsageError


def require(module: str) -> Any:
    """The module. Raises: UsageError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"This format needs the package {module}, which cannot be imported: {error}.",
            mend="Install the extra: pip install 'eqcrl[export]'",
        ) from None
