"""Blocks: what a deep network repeats."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.nn.activations import ActivationName
from eqcrl.nn.base import AbstractBlock, AbstractLayer
from eqcrl.nn.chain import chain
from eqcrl.nn.layers import Dense, init_weight
from eqcrl.nn.norms import NORMS, NormName
from eqcrl.types import Key

LAYERS = 4


class DenseNormSwish(AbstractBlock):
    """Four times Dense -> LayerNorm -> Swish: the residual branch of the paper's network.

    h_0 = x, h_k = swish(LN(h_{k-1} W_k + b_k)) for k = 1..4, returns h_4. The identity is added around it.
    Source: Wang et al. 2025 (arXiv 2503.14858), section 3. The four layers share one leaf per parameter,
    because many small leaves cost one kernel launch each in the optimizer.
    """

    weight: Float[Array, "layers width width"]
    bias: Float[Array, "layers width"]
    scale: Float[Array, "layers width"]
    shift: Float[Array, "layers width"]

    def __init__(self, width: int, *, key: Key):
        keys = jax.random.split(key, LAYERS)
        self.weight = jax.vmap(lambda k: init_weight(k, width, width))(keys)
        self.bias = jnp.zeros((LAYERS, width))
        self.scale = jnp.ones((LAYERS, width))
        self.shift = jnp.zeros((LAYERS, width))

    @staticmethod
    def dense_layers() -> int:
        """Four."""
        return LAYERS

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The branch alone, without the identity."""
        rows = x.reshape(-1, x.shape[-1])
        return chain((self.weight, self.bias, self.scale, self.shift), rows).reshape(x.shape)


class DenseNormActivation(AbstractBlock):
    """`DenseNormSwish` with another norm or activation: h_k = activation(norm(h_{k-1} W_k + b_k)), k = 1..4.

    The same initial weights from the same key; a norm begins with gain 1 and shift 0, as far as it has them. Source
    of the ablations: Wang et al. 2025 (arXiv 2503.14858), figure 16.
    """

    weight: Float[Array, "layers width width"]
    bias: Float[Array, "layers width"]
    scale: Float[Array, "layers width"] | None
    shift: Float[Array, "layers width"] | None
    norm: NormName = eqx.field(static=True)
    activation: ActivationName = eqx.field(static=True)

    def __init__(self, width: int, norm: NormName, activation: ActivationName, *, key: Key):
        plain = DenseNormSwish(width, key=key)
        self.weight, self.bias = plain.weight, plain.bias
        self.scale = plain.scale if NORMS[norm].gain else None
        self.shift = plain.shift if NORMS[norm].shift else None
        self.norm, self.activation = norm, activation

    @staticmethod
    def dense_layers() -> int:
        """Four."""
        return LAYERS

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The branch alone, without the identity."""
        rows = x.reshape(-1, x.shape[-1])
        layers = (self.weight, self.bias, self.scale, self.shift)
        return chain(layers, rows, self.norm, self.activation).reshape(x.shape)


class DenseSwish(AbstractBlock):
    """swish(x W + b): the layer of a plain multilayer perceptron."""

    dense: Dense

    def __init__(self, width: int, *, key: Key):
        self.dense = Dense(width, width, key=key)

    @staticmethod
    def dense_layers() -> int:
        """One."""
        return 1

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """One layer."""
        return jax.nn.swish(self.dense(x))


class Residual(AbstractLayer):
    """x + scale f(x) around another layer or block; the paper's scale is 1."""

    branch: AbstractLayer
    scale: float = eqx.field(default=1.0, static=True)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The identity plus the branch."""
        return x + self.scale * self.branch(x)
