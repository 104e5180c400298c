r"""The memory microscope: what a memory attends to, what is in it, and what each slot is worth.

Works on any model that fulfils `prob.abilities.Remembers`.  The worth of a slot is the fall of the test
log-likelihood when it is silenced, on the same rows with the same random numbers.

References: Li, Zhu & Zhang, *Learning to Generate with Memory*, 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError, an
from reverie.evaluate.classes import classes_of, one_hot
from reverie.evaluate.likelihood import importance
from reverie.evaluate.mapped import blocks
from reverie.evaluate.measure import gather
from reverie.evaluate.rows import Watch, on_device, visiting_order
from reverie.evaluate.tasks import Given, fall
from reverie.prob.abilities import Remembers


def look(
    model: Any,
    data: Dataset,
    *,
    split: str = "test",
    rows: int = 500,
    samples: int = 50,
    seed: int = 0,
    knockout: bool = True,
    ones: bool = False,
    progress: Watch | None = None,
) -> dict[str, np.ndarray]:
    """Return what ``arrays/memory.npz`` holds.

    Args:
        split: whose rows are looked at: all of them for attention, at most `rows` for the knock-out.
        samples: importance samples a row of the knock-out.
        seed: of the draws of h, of the choice of rows and of the estimator.
        knockout: silence every slot, and each layer as a whole, in turn.
        ones: also make each layer read ones, as the paper does; compiles the estimator anew for each.
        progress: called with the number of slots and layers silenced.

    Returns:
        ``layers`` (names, from the top down) and for each: ``preference_<layer>`` (classes, slots) mean attention by
        class, ``profile_<layer>`` (classes, slots) the same of attention that each row's sum divides, whose
        correlations between classes are the paper's graph, ``usage_<layer>`` (slots,), ``entropy_<layer>`` (n,) in
        nats, of the divided attention,
        ``images_<layer>`` (slots, D), ``knockout_<layer>`` (slots, 2) the fall in nats and its standard error,
        ``disabled_<layer>`` (1 or 2, 2) the same when the whole layer reads zeros, and ones.

    Raises:
        ReverieError: for a model without a memory.
    """
    _require(model)
    model = on_device(model)
    found = attention(model, data, split, seed)
    layers = [str(name) for name in found["layers"]]
    for layer in layers:
        found[f"images_{layer}"] = slot_images(model, layer, found[f"usage_{layer}"].size)
    if knockout:
        found |= knock_out(model, data, layers, found, split, rows, samples, seed, ones, progress)
    return found


def _require(model: Any) -> None:
    if not isinstance(model, Remembers):
        raise ReverieError(f"memory: {an(type(model).__name__)} has none; train a mem-vae to look into one")


def attention(model: Any, data: Dataset, split: str = "test", seed: int = 0) -> dict[str, np.ndarray]:
    """Return layers, preference, profile, usage and entropy over a split, in memory that does not grow with it."""
    sums: dict[str, np.ndarray] = {}
    shares: dict[str, np.ndarray] = {}
    entropies: dict[str, list[np.ndarray]] = {}
    counts = np.zeros(max(data.classes, 1))
    for block, labels in data.blocks(split, 1000):
        member = _membership(labels, data.classes, len(block))
        counts += member.sum(axis=0)
        for part, own in _attentions(model, block, member if classes_of(model) else None, member, seed):
            for layer, weights in part.items():
                share = normalised(weights)
                sums[layer] = sums.get(layer, 0.0) + own.T @ weights.astype(np.float64)
                shares[layer] = shares.get(layer, 0.0) + own.T @ share
                entropies.setdefault(layer, []).append(entropy(share))
    found: dict[str, np.ndarray] = {"layers": np.asarray(list(sums))}
    for layer, total in sums.items():
        members, none = np.maximum(counts, 1)[:, None], np.zeros((0, total.shape[1]))
        found[f"preference_{layer}"] = total / members if data.classes else none
        found[f"profile_{layer}"] = shares[layer] / members if data.classes else none
        found[f"usage_{layer}"] = total.sum(axis=0) / counts.sum()
        found[f"entropy_{layer}"] = np.concatenate(entropies[layer])
    return found


def _membership(labels: np.ndarray | None, classes: int, n: int) -> Float[np.ndarray, "n C"]:
    return one_hot(labels, classes) if classes and labels is not None else np.ones((n, 1), np.float32)


def _attentions(
    model: Any, rows: np.ndarray, given: Given, member: np.ndarray, seed: int
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    start = 0
    for part in blocks(_trace, model, rows, given, seed):
        size = len(next(iter(part.values())))
        yield part, member[start : start + size]
        start += size


def _trace(model: Any, key: PRNGKeyArray, x: Array, given: Array | None) -> dict[str, Array]:
    return {layer: inside["attention"] for layer, inside in model.memory_trace(key, x, given).items()}


def normalised(weights: Float[np.ndarray, "n slots"]) -> Float[np.ndarray, "n slots"]:
    """Return each row's attention divided by its sum: sigmoid attention need not sum to one."""
    wide = np.asarray(weights, np.float64)
    return wide / np.maximum(wide.sum(axis=1, keepdims=True), 1e-300)


def entropy(p: Float[np.ndarray, "n slots"]) -> Float[np.ndarray, " n"]:
    """Return the entropy in nats of each row's normalised attention."""
    return -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0).sum(axis=1)


def top_slots(
    preference: Float[np.ndarray, "classes slots"], count: int = 3
) -> tuple[Int[np.ndarray, "classes k"], Float[np.ndarray, "classes k"]]:
    """Return the `count` slots that each class prefers, and its mean attention to them (the lecture's table)."""
    order = np.argsort(-preference, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(preference, order, axis=1)


def slot_images(model: Any, layer: str, slots: int) -> Float[np.ndarray, "slots D"]:
    """Return E[x] when each slot of a layer alone speaks."""
    return np.asarray(_images(model, jnp.arange(slots), layer))


@eqx.filter_jit
def _images(model: Any, slots: Array, layer: str) -> Array:
    return jax.vmap(partial(model.slot_image, layer))(slots)


def knock_out(
    model: Any,
    data: Dataset,
    layers: list[str],
    sizes: dict[str, np.ndarray],
    split: str = "test",
    rows: int = 500,
    samples: int = 50,
    seed: int = 0,
    ones: bool = False,
    progress: Watch | None = None,
) -> dict[str, np.ndarray]:
    """Return ``knockout_<layer>`` and ``disabled_<layer>`` (reading zeros, then ones if asked and possible)."""
    index = np.sort(visiting_order(data.size(split), seed)[:rows])
    labels = data.labels(split)
    given = one_hot(None if labels is None else labels[index], classes_of(model)) if classes_of(model) else None
    x = gather(data, split, index)
    before = importance(model, x, samples=samples, seed=seed, given=given).values
    done = 0

    def worth(other: Any) -> list[float]:
        nonlocal done
        found = fall(model, other, x, samples=samples, seed=seed, given=given, before=before)
        done += 1
        if progress is not None:
            progress(done)
        return [found.value, found.standard_error]

    found = {}
    for layer in layers:
        slots = range(sizes[f"usage_{layer}"].size)
        found[f"knockout_{layer}"] = np.asarray([worth(model.silence(layer, slot)) for slot in slots])
        # Emptying slot after slot reads zeros, and needs no executable of its own as `disable` does.
        off = [worth(reduce(lambda m, slot, layer=layer: m.silence(layer, slot), slots, model))]  # type: ignore[misc]
        if ones and hasattr(model, "disable"):
            off.append(worth(model.disable(layer, 1.0)))
        found[f"disabled_{layer}"] = np.asarray(off)
    return found
