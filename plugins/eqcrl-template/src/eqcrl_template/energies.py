"""An energy that is smooth where the embeddings meet, to copy and change."""

from typing import Annotated

import jax.numpy as jnp
from jaxtyping import Array, Float

from eqcrl.energies import AbstractEnergy, squared_distances
from eqcrl.settings import Meta


class SmoothL2(AbstractEnergy):
    """f = softness - sqrt(||phi - psi||_2^2 + softness^2): the square of the distance near, the distance far.

    Its gradient is at most 1, as that of L2, but fades towards 0 for identical embeddings instead of jumping.
    Source: Charbonnier et al. 1994; Barron 2019 (arXiv 1701.03077), equation 1 with alpha = 1, times the scale c.
    """

    softness: Annotated[float, Meta(gt=0, description="distance at which the square turns into the distance")] = 0.1

    def __call__(self, phi: Float[Array, "*batch dim"], psi: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        """Row by row."""
        return self._of_square(jnp.sum((phi - psi) ** 2, axis=-1))

    def pairwise(self, phi: Float[Array, "rows dim"], psi: Float[Array, "columns dim"]) -> Float[Array, "rows columns"]:
        """Every pair."""
        return self._of_square(squared_distances(phi, psi))

    def _of_square(self, square: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # The formula above, multiplied out: as a difference it would lose all digits of a small distance.
        return -square / (jnp.sqrt(square + self.softness**2) + self.softness)
