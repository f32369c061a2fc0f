"""One optimizer for every agent: Adam (Kingma and Ba 2015, arXiv 1412.6980), without schedule or clipping."""

from typing import Any

import optax

from eqcrl.settings import Meta


def rate_of(text: str) -> Meta:
    """What a setting that holds a step size says about itself."""
    return Meta(gt=0.0, description=f"Adam step size of the {text}")


def adam_init(rate: float, params: Any) -> optax.OptState:
    """The optimizer's state before the first step."""
    return optax.adam(rate).init(params)


def adam_step(rate: float, grad: Any, optimizer: optax.OptState, params: Any) -> tuple[Any, optax.OptState]:
    """Parameters and optimizer after one step."""
    updates, optimizer = optax.adam(rate).update(grad, optimizer)
    return optax.apply_updates(params, updates), optimizer
