"""Whether a block can be stacked and scanned, and if not, why: from shapes alone, for people who write blocks."""

import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from eqcrl import registry
from eqcrl.errors import BrokenPlugin, EqcrlError
from eqcrl.nn.base import AbstractBlock, AbstractLayer
from eqcrl.types import Key

UNKNOWN_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
"""What JAX raises where Python asks for the value of something that is only traced."""
LIBRARIES = {"jax", "jaxlib", "equinox", "jaxtyping", "beartype", "numpy", "contextlib", "functools"}
"""Their lines say nothing to the author of a block; nor do those of this package that stack and call it."""
STACKING = {"eqcrl.nn.scannable", "eqcrl.nn.stacked"}


def check_leaves(make_block: Callable[[Key], AbstractLayer]) -> AbstractLayer:
    """The block that `make_block` makes, with shapes and types for its leaves; all must be floating-point arrays.

    Raises: BrokenPlugin for another leaf, for a constructor that fails, or that needs the value of its key.
    """
    try:
        block = eqx.filter_eval_shape(make_block, jax.random.key(0))
    except EqcrlError:
        raise
    except Exception as error:
        frame, place = _where(error)
        # "Shapes must be ... concrete values" is a mere TypeError.
        if isinstance(error, UNKNOWN_VALUE) or "concrete values" in str(error):
            raise BrokenPlugin(
                f"{_of_frame(frame)} cannot be stacked: its constructor asks for the value of something drawn from "
                f"the key, {place}. All blocks are made side by side, so that value is not known.",
                mend="Let shapes and settings follow from the width alone; only numbers in arrays may be random.",
            ) from error
        raise BrokenPlugin(
            f"{_of_frame(frame)} cannot be made: {_first_line(error)}, {place}.",
            mend="`--debug` shows where it failed.",
        ) from error
    for part in _parts(block):
        _check_leaves_of(part)
    return block


def _check_leaves_of(block: AbstractLayer) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(block):
        name = jax.tree_util.keystr(path).lstrip(".")
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            raise BrokenPlugin(
                f"{_of_class(block)} cannot be stacked: its leaf `{name}` is no JAX array but {_article(leaf)}.",
                mend=f"A setting: `{name.rpartition('.')[2]}: ... = eqx.field(static=True)`. Something learned: "
                "jnp.asarray(...).",
            )
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise BrokenPlugin(
                f"{_of_class(block)} cannot be stacked: its leaf `{name}` has type {leaf.dtype}, of which there is no "
                "gradient.",
                mend="Every leaf is a parameter that learns. Make what is constant inside of __call__.",
            )


def check_call(block: AbstractLayer, x: jax.ShapeDtypeStruct) -> None:
    """Nothing, if one block (its leaves shapes and types) maps `x` to an array of the same shape and type.

    Raises: BrokenPlugin for another result, for a block that fails, or that needs the value of its input.
    """
    # A residual connection would add what a branch returns even if that has to be broadcast.
    for part in _parts(block):
        _check_part(part, x, whole=part is block)


def _parts(block: AbstractLayer) -> list[AbstractLayer]:
    """The blocks inside that are what somebody wrote, then what is around them."""
    nodes = jax.tree.leaves(block, is_leaf=lambda node: isinstance(node, AbstractBlock))
    inner = [node for node in nodes if isinstance(node, AbstractBlock) and node is not block]
    return [*inner, block]


def _check_part(part: AbstractLayer, x: jax.ShapeDtypeStruct, whole: bool) -> None:
    try:
        out = jax.eval_shape(lambda part, x: part(x), part, x)
    except EqcrlError:
        raise
    except Exception as error:
        _, place = _where(error)
        if isinstance(error, UNKNOWN_VALUE):
            raise BrokenPlugin(
                f"{_of_class(part)} cannot be scanned: it asks for the value of its input, or of something made of "
                f"it, {place}. All blocks share one program, so no value is known.",
                mend="Instead of Python's `if` use jnp.where or jax.lax.cond, instead of a loop until something holds "
                "jax.lax.while_loop, instead of NumPy jax.numpy.",
            ) from error
        raise BrokenPlugin(
            f"{_of_class(part)} fails on an input of shape {x.shape}: {_first_line(error)}, {place}.",
            mend="A block maps (*batch, width) to (*batch, width), the width being what it was constructed with.",
        ) from error
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise BrokenPlugin(
            f"{_of_class(part)} cannot be scanned: it returns {_article(out)}, not an array.",
            mend="Return one array, the input of the next block.",
        )
    if out.shape != x.shape:
        raise BrokenPlugin(
            f"{_of_class(part)} cannot be scanned: from shape {x.shape} it makes {out.shape}, which the next block "
            "does not take.",
            mend="A block maps (*batch, width) to (*batch, width), the width being what it was constructed with.",
        )
    if out.dtype != x.dtype and (whole or not jnp.issubdtype(out.dtype, jnp.floating)):
        raise BrokenPlugin(
            f"{_of_class(part)} cannot be scanned: from {x.dtype} it makes {out.dtype}, which the next block does not "
            "take.",
            mend="Convert at the end: `.astype(x.dtype)`.",
        )


def _where(error: Exception) -> tuple[FrameType | None, str]:
    """The last frame in somebody's own code, and `in file.py line 3: the line`."""
    frame, place = None, "outside of any code of its own"
    for (found, line), shown in zip(
        traceback.walk_tb(error.__traceback__), traceback.extract_tb(error.__traceback__), strict=True
    ):
        module = found.f_globals.get("__name__", "")
        if module.split(".")[0] not in LIBRARIES and module not in STACKING:
            frame, place = found, f"in {shown.filename} line {line}: `{shown.line}`"
    return frame, place


def _of_frame(frame: FrameType | None) -> str:
    if frame is None:
        return "The block"
    owner = frame.f_code.co_qualname.rpartition(".")[0]
    return _named(frame.f_globals.get("__name__", "?"), owner or frame.f_code.co_qualname)


def _of_class(block: AbstractLayer) -> str:
    """The block inside, if there is one: what is around it is seldom what is wrong."""
    named = _parts(block)[0]
    return _named(type(named).__module__, type(named).__qualname__)


def _named(module: str, name: str) -> str:
    """By the name in the registry where it has one."""
    for entry in registry.entries("block"):
        if entry.entry_point.value == f"{module}:{name}":
            return f"The block {entry.name!r} of {entry.origin()}"
    return f"The block {name} ({module})"


def _article(value: Any) -> str:
    kind = type(value).__name__
    text = repr(value)
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}" + (f" ({text})" if len(text) < 30 else "")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0].rstrip('.')}"
