"""The training rows as the compiled loop meets them: on the device, or read from disk as they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from reverie.data.rows import Gathered


class Prepare(eqx.Module):
    """How a stored row becomes what a model sees: scaled, then binarised if the data are grey means.

    model value = (stored - shift) / scale; for ``bernoulli`` that is a mean in [0, 1].  A missing cell stays NaN.
    """

    shift: np.ndarray | float = eqx.field(static=False)
    scale: np.ndarray | float = eqx.field(static=False)
    binarise: str = eqx.field(static=True)
    missing: bool = eqx.field(static=True, default=False)

    def __call__(self, key: PRNGKeyArray, stored: Float[Array, " D"]) -> Float[Array, " D"]:
        """Return one row in the model's units; `key` is used by ``dynamic`` binarisation alone."""
        x = (stored.astype(jnp.float32) - self.shift) / self.scale
        if self.binarise not in ("dynamic", "threshold"):
            return x
        cut = _uniform_below(key, x) if self.binarise == "dynamic" else x >= 0.5
        binary = cut.astype(jnp.float32)
        return jnp.where(jnp.isnan(x), x, binary) if self.missing else binary


def _uniform_below(key: PRNGKeyArray, p: Float[Array, "... D"]) -> Bool[Array, "... D"]:
    """Return True with probability p, to within 2^-17: each random word serves two cells, which halves the time."""
    columns = p.shape[-1]
    words = jax.random.bits(key, (*p.shape[:-1], -(-columns // 2)))
    halves = jnp.concatenate([words >> 16, words & 0xFFFF], axis=-1)[..., :columns]
    return halves.astype(jnp.float32) < p * 65536.0


class Source(eqx.Module):
    """The training rows as the compiled loop is given them: arrays on the device, or a way to read them from disk.

    Attributes:
        x: stored rows (n, D), or None when they are read from disk as needed.
        y: classes (n,), or None.
        size: n.
        disk: the rows on disk, or None.
        prepare: ``prepare(key, stored)``, the stored rows as a model sees them; None where nobody asks for that.
    """

    x: Shaped[Array, "n D"] | None
    y: Int[Array, " n"] | None
    size: int = eqx.field(static=True)
    disk: Gathered | None = eqx.field(static=True, default=None)
    prepare: Any = None

    def take(self, indices: Int[Array, " B"]) -> tuple[Shaped[Array, "B D"], Int[Array, " B"] | None]:
        """Return stored rows and classes at `indices` (each in 0..n-1); the same numbers wherever the rows lie."""
        labels = None if self.y is None else self.y.at[indices].get(mode="promise_in_bounds")
        if self.disk is None:
            assert self.x is not None
            return self.x.at[indices].get(mode="promise_in_bounds"), labels
        dtype = jax.dtypes.canonicalize_dtype(self.disk.dtype)
        rows = jax.ShapeDtypeStruct((*indices.shape, self.disk.shape[1]), dtype)
        return jax.pure_callback(_Reader(self.disk, dtype), rows, indices, vmap_method="sequential"), labels


@dataclass(frozen=True)
class _Reader:
    """Reads rows on the host, with numpy alone: a callback that asks JAX for anything may wait for itself."""

    disk: Gathered
    dtype: Any

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        return self.disk[np.asarray(indices)].astype(self.dtype, copy=False)
