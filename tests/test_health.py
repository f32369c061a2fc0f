"""Whether leaves are finite: any number of any leaf counts, however large the others are."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eqcrl.health import finite_leaves, leaf_names

LEAVES = st.lists(
    hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=st.floats(width=32)
    ),
    min_size=1,
    max_size=4,
)


@given(LEAVES)
def test_every_number_counts(leaves: list[np.ndarray]) -> None:
    expected = [bool(np.all(np.isfinite(leaf))) for leaf in leaves]
    np.testing.assert_array_equal(finite_leaves(leaves), expected)


def test_one_bad_number_among_many_is_seen_and_the_largest_is_not_bad() -> None:
    large = np.full((3, 5, 257), np.finfo(np.float32).max, np.float32)
    tree = {"count": jnp.int32(3), "minus": -large}
    for name, bad in (("nan", np.nan), ("plus", np.inf), ("down", -np.inf)):
        tree[name] = large.copy()
        tree[name][1, 2, 200] = bad
    known = dict(zip(leaf_names(tree), np.asarray(jax.jit(finite_leaves)(tree)), strict=True))
    assert known == {"['down']": False, "['minus']": True, "['nan']": False, "['plus']": False}
