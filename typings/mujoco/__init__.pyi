"""MuJoCo keeps its names in compiled modules, which type checkers cannot read."""

from typing import Any

def __getattr__(name: str) -> Any: ...
