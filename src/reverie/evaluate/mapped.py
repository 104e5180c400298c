"""Functions of one row, mapped over many: blocks of one shape, one executable, keys from the rows' content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.arrays import placed
from reverie.evaluate.rows import as_rows, checked_seed, on_device, row_key, row_words

#: ``function(model, key, x, given) -> pytree of arrays``; a function of a module, so that it is compiled once.
PerRow = Callable[[Any, PRNGKeyArray, Array, Array | None], Any]
BLOCK = 500
#: Rows of a block that is always full.
_FIXED = 100


def blocks(
    function: PerRow,
    model: Any,
    rows: Float[np.ndarray, "n D"],
    given: Float[np.ndarray, "n C"] | None = None,
    seed: int = 0,
    block: int = BLOCK,
    fixed: bool = False,
) -> Iterator[Any]:
    """Yield what `function` gives for the rows, a block at a time, in order, as NumPy arrays.

    Args:
        fixed: go by full blocks of `_FIXED` rows, however few there are: a row's value is then the same to the last bit
            whatever stands beside it, as scores and codes must be.
    """
    rows, model = as_rows(rows), on_device(model)
    words, number = row_words(rows), placed(checked_seed(seed), np.uint32)
    # Rounded up to a power of two: calls with other numbers of rows find the same few executables.
    block = _FIXED if fixed else min(block, 1 << (len(rows) - 1).bit_length())
    for start in range(0, len(rows), block):
        stop = min(start + block, len(rows))
        take = np.concatenate([np.arange(start, stop), np.full(block - (stop - start), start)])
        own = None if given is None else placed(np.asarray(given, np.float32)[take])
        found = _block(function, model, placed(rows[take]), own, placed(words[take]), number)
        yield jax.tree.map(lambda a, count=stop - start: np.asarray(a)[:count], found)


def over_rows(
    function: PerRow,
    model: Any,
    rows: Float[np.ndarray, "n D"],
    given: Float[np.ndarray, "n C"] | None = None,
    seed: int = 0,
    block: int = BLOCK,
    fixed: bool = False,
) -> Any:
    """Return what `function` gives for every row, rows in front; for the arguments see `blocks`."""
    parts = list(blocks(function, model, rows, given, seed, block, fixed))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@eqx.filter_jit
def _block(function: PerRow, model: Any, rows: Array, given: Array | None, words: Array, seed: Array) -> Any:
    def one(x: Array, y: Array | None, own: Array) -> Any:
        return function(model, row_key(seed, own), x, y)

    return jax.vmap(one, in_axes=(0, None if given is None else 0, 0))(rows, given, words)
