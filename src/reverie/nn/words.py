r"""Words as vectors: a text is the sum of its words' vectors, each weighed by where it stands.

A word is its number from 1 up, 0 is no word.  With R weights :math:`v_{jr}` of the place j and the table
:math:`A \in R^{V\times d}`

.. math:: e_r = \textstyle\sum_{j : x_j > 0} v_{jr} A_{x_j}, \qquad r = 1..R .

Of a small vocabulary a text is its weighed counts, a row of V numbers, and every table costs one matrix product: a step
then takes half the time that it takes where rows are fetched and gradients added to them one by one
(`benchmarks/memn2n.py`).  Of a large vocabulary rows are fetched.

References: Sukhbaatar, Szlam, Weston & Fergus, *End-To-End Memory Networks*, 2015, 4.1.
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Encoding = Literal["bag", "position", "position-paper"]

#: The largest vocabulary whose texts are counted.
COUNTED = 512


def embedded(
    words: Int[Array, "... J"], places: Float[Array, "J R"], table: Float[Array, "V d"]
) -> Float[Array, "..."]:
    """Return e of each text, shape (..., R, d).

    Args:
        words: numbers from 1, 0 for none.
        places: v, what the word at each place weighs.
        table: a row for each word, the first one word 1's.
    """
    if len(table) <= COUNTED:
        return counted(words, places, len(table)) @ table
    return fetched(words, places, table)


def counted(words: Int[Array, "... J"], places: Float[Array, "J R"], vocabulary: int) -> Float[Array, "..."]:
    """Return the weighed counts of each text, shape (..., R, V)."""
    here = (words[..., None] == jnp.arange(1, vocabulary + 1)).astype(places.dtype)
    return jnp.stack([(here * places[:, r, None]).sum(axis=-2) for r in range(places.shape[1])], axis=-2)


def fetched(words: Int[Array, "... J"], places: Float[Array, "J R"], table: Float[Array, "V d"]) -> Float[Array, "..."]:
    """Return e of each text from the rows of its words, shape (..., R, d)."""
    rows = jnp.where((words > 0)[..., None], table[jnp.maximum(words - 1, 0)], 0.0)
    return jnp.einsum("...jd,jr->...rd", rows, places)


def encoding(kind: Encoding, places: int, width: int) -> tuple[Float[np.ndarray, "J R"], Float[np.ndarray, "R d"]]:
    r"""Return v and u, so that a text is :math:`\sum_r u_r \circ e_r`: the k-th number of word j weighs
    :math:`l_{kj} = \sum_r u_{rk} v_{jr}`.

    ``bag`` is 1.  ``position`` is the released code's, the one the published numbers were made with:
    :math:`1 + 4 (k - \frac{d+1}{2})(j - \frac{J+1}{2})/(dJ)`; ``position-paper`` the paper's
    :math:`(1 - j/J) - (k/d)(1 - 2j/J)`.  Both are sums of two products of a number of the place and one of k.
    """
    j, k = np.arange(1, places + 1), np.arange(1, width + 1)
    if kind == "bag":
        return np.ones((places, 1)), np.ones((1, width))
    if kind == "position-paper":
        return np.stack([1 - j / places, 1 - 2 * j / places], 1), np.stack([np.ones(width), -k / width])
    slope = 4 * (k - (width + 1) / 2) / (width * places)
    return np.stack([np.ones(places), j - (places + 1) / 2], 1), np.stack([np.ones(width), slope])
