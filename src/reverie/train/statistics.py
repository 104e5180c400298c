"""Exact statistics of batch-normalised layers over the whole training set, as every evaluation uses them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.data.dataset import Dataset
from reverie.nn.blocks import Norm

_BLOCK = 500


def exact_statistics(model: Any, data: Dataset, key: jax.Array) -> Any:
    """Return `model` with each `Norm`'s mean and variance those of one pass of all training rows as a single batch.

    Layers are done in the order in which a row meets them, each pass with the layers below already exact, so
    memory does not grow with the data.  Needs ``model.trace(key, x, given)`` with ``pre`` by block path.
    """
    for path in _norm_paths(model):
        total, squares, seen = np.zeros(()), np.zeros(()), 0
        for block, (rows, labels) in enumerate(data.blocks("train", _BLOCK)):
            pad = np.zeros((_BLOCK - len(rows), rows.shape[1]), rows.dtype)
            keys = jax.random.split(jax.random.fold_in(key, block), _BLOCK)
            given = _given(model, labels)
            inside = _inside(model, keys, jnp.asarray(np.concatenate([rows, pad])), given)
            pre = np.asarray(inside[path])[: len(rows)]
            total = total + pre.sum(axis=0, dtype=np.float64)
            squares = squares + np.square(pre, dtype=np.float64).sum(axis=0)
            seen += len(rows)
        mean = total / seen
        variance = np.maximum(squares / seen - mean**2, 0.0)
        model = _with_statistics(model, path, mean, variance)
    return model


@eqx.filter_jit
def _inside(model: Any, keys: jax.Array, rows: jax.Array, given: jax.Array | None) -> dict[str, jax.Array]:
    # All layers in one executable: a compilation costs more than the outputs that are not fetched.
    one = lambda key, x, y: {path: block["pre"] for path, block in model.trace(key, x, y).items()}  # noqa: E731
    return jax.vmap(one, in_axes=(0, 0, None if given is None else 0))(keys, rows, given)


def _given(model: Any, labels: np.ndarray | None) -> jax.Array | None:
    if not getattr(model, "classes", 0) or labels is None:
        return None
    return jax.nn.one_hot(jnp.asarray(np.resize(labels, _BLOCK)), model.classes)


def _norm_paths(model: Any) -> list[str]:
    """Return the paths of normalised blocks, the Q-net's (fields come first) before the P-net's."""
    leaves = jax.tree_util.tree_leaves_with_path(model, is_leaf=lambda n: isinstance(n, Norm))
    named = [jax.tree_util.keystr(path, simple=True, separator=".") for path, n in leaves if isinstance(n, Norm)]
    return [name.removesuffix(".norm").removesuffix(".dense") for name in named]


def _with_statistics(model: Any, path: str, mean: np.ndarray, variance: np.ndarray) -> Any:
    def put(where: Any, node: Any) -> Any:
        name = jax.tree_util.keystr(where, simple=True, separator=".")
        mine = isinstance(node, Norm) and name.removesuffix(".norm").removesuffix(".dense") == path
        if not mine:
            return node
        return replace(node, mean=jnp.asarray(mean, jnp.float32), variance=jnp.asarray(variance, jnp.float32))

    return jax.tree_util.tree_map_with_path(put, model, is_leaf=lambda n: isinstance(n, Norm))
