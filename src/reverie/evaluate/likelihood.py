r"""Bounds of :math:`\log p(x)` for every row of a set, in bounded memory and at "highest" precision.

.. math:: \log p(x) \ge \mathbb E\Big[\log \tfrac1k \sum_{i=1}^k w_i\Big], \qquad
          w_i = \frac{p(x, h_i)}{q(h_i \mid x)}, \quad h_i \sim q(h \mid x).

Samples are streamed in chunks with a running (max, sum): the memory of k = 5,000 on 10,000 rows is that of one block
times one chunk.  A class-conditional model gets the bound of its marginal,
:math:`\log p(x) = \log \sum_y p(y)\, p(x \mid y)`, the classes sharing their random numbers.

Known looseness: with k = 5,000 the bound can lie about a nat below annealed importance sampling (Wu et al. 2017), so
that differences under 0.3 nats between models need the latter (`annealed`).

References: Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders*, 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.arrays import placed
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate.certify import certify, with_known
from reverie.evaluate.classes import classes_of, conditioning, one_hot, result_of
from reverie.evaluate.rows import (
    RowResult,
    Sweep,
    Watch,
    as_rows,
    checked_seed,
    fingerprint,
    on_device,
    row_key,
    visiting_order,
)
from reverie.prob.bounds import over_samples, sample_keys, stream_log_likelihood
from reverie.prob.contracts import Given, Latent, Row

#: Temporary activations stay under this many bytes.
BUDGET = 64 * 2**20
#: Draws held at once per row, and rows at once: many enough for full matrix products, and the same for every k and
#: split, so that validation, evaluation and knock-out share one executable.
_CHUNK, _ROWS = 50, 100
#: Draws in a block, beyond which it has fewer rows: a wish to stop is heard between blocks.
_DRAWS = 500_000


def importance(
    model: Latent,
    rows: Float[np.ndarray, "n D"],
    *,
    samples: int = 1000,
    seed: int = 0,
    block: int | None = None,
    minutes: float | None = None,
    given: Float[np.ndarray, "n C"] | None = None,
    class_prior: Float[np.ndarray, " C"] | None = None,
    resume: Path | None = None,
    progress: Watch | None = None,
) -> RowResult:
    r"""Return the importance-sampled log-likelihood of each row, a stochastic lower bound, in nats.

    Args:
        model: one example at a time; its statistics are frozen.
        rows: in the model's units, shape ``(n, D)``.
        samples: k.
        seed: of the estimator.  A row's value depends on its content, the seed and k alone.
        block: rows at a time (default: what fits into the memory budget).
        minutes: stop after so long; the rows done are a random part of all.
        given: one-hot classes, for log p(x given class) of a class-conditional model.
        class_prior: p(y), for its marginal (default: uniform).
        resume: file of partial results (.npz); a run with the same model, rows, k and seed goes on from it, to exactly
            the same values.
        progress: called with the number of rows done, and their mean as `value`.

    Raises:
        ReverieError: for rows of a wrong shape, or a number that makes no sense.
    """
    return _sweep("importance", _importance_block, model, rows, samples, seed, block, minutes, given, class_prior,
                  resume, progress)  # fmt: skip


def elbo(
    model: Latent,
    rows: Float[np.ndarray, "n D"],
    *,
    samples: int = 100,
    seed: int = 0,
    block: int | None = None,
    minutes: float | None = None,
    given: Float[np.ndarray, "n C"] | None = None,
    class_prior: Float[np.ndarray, " C"] | None = None,
    resume: Path | None = None,
    progress: Watch | None = None,
) -> RowResult:
    r"""Return :math:`\frac1k\sum_i \log w_i` of each row: the evidence lower bound, averaged over k draws.

    Arguments are those of `importance`.
    """
    return _sweep("elbo", _elbo_block, model, rows, samples, seed, block, minutes, given, class_prior, resume, progress)


def _sweep(
    name: str,
    compiled: Callable[..., dict[str, Array]],
    model: Latent,
    rows: np.ndarray,
    samples: int,
    seed: int,
    block: int | None,
    minutes: float | None,
    given: np.ndarray | None,
    class_prior: np.ndarray | None,
    resume: Path | None,
    progress: Watch | None,
) -> RowResult:
    if samples < 1:
        raise ReverieError(f"samples: {samples} is not a number of samples; give 1 or more")
    rows, model = as_rows(rows), on_device(model)
    given, prior = conditioning(model, len(rows), given, class_prior)
    chunk, fitting = block_shape(model, rows.shape[1], samples)
    number = placed(checked_seed(seed), np.uint32)

    def score(x: np.ndarray, y: np.ndarray | None, words: np.ndarray) -> dict[str, np.ndarray]:
        with jax.default_matmul_precision("highest"):
            out = compiled(model, placed(x), maybe(y), placed(words), number, jnp.asarray(samples), chunk)
        return {key: np.asarray(value) for key, value in out.items()}

    estimator = f"{name}-{samples}"
    sweep = Sweep(
        score, rows, given, fitting if block is None else block, seed,
        fingerprint(model, rows, estimator, seed, given), resume, minutes, progress, 0 if prior is None else len(prior),
    )  # fmt: skip
    return result_of(sweep, prior, samples, estimator)


def block_shape(model: Latent, width: int, samples: int, budget: int = BUDGET) -> tuple[int, int]:
    """Return (draws at once, rows at once) whose activations fit into `budget` bytes.

    It is a function of the model's shapes and k, never of the number of rows: one row is scored as a thousand are.
    """
    lanes = max(1, budget // (4 * footprint(model, width)))
    chunk = min(samples, _CHUNK, lanes)
    return chunk, int(np.clip(lanes // chunk, 1, max(1, min(_ROWS, _DRAWS // samples))))


def footprint(model: Latent, width: int) -> int:
    """Return how many numbers one pass of one row holds, counting what the model's trace and its data law show."""
    classes = classes_of(model)
    given = jax.ShapeDtypeStruct((classes,), jnp.float32) if classes else None
    inside = eqx.filter_eval_shape(
        lambda m, x, y: m.forward(jax.random.key(0), x, y), model, jax.ShapeDtypeStruct((width,), jnp.float32), given
    )
    # Logits, log-probabilities and their intermediate terms are not in the trace: six times the row stands for them.
    return 6 * width + sum(leaf.size for leaf in jax.tree.leaves(inside) if hasattr(leaf, "size"))


@eqx.filter_jit
def _importance_block(
    model: Latent, rows: Array, given: Array | None, words: Array, seed: Array, samples: Array, chunk: int
) -> dict[str, Array]:
    def one(x: Row, y: Given, own: Array) -> dict[str, Array]:
        total = stream_log_likelihood(model, row_key(seed, own), x, y, samples, chunk)
        return {"values": total.value(), "variances": total.variance(), "ess": total.effective_sample_size()}

    return jax.vmap(one, in_axes=(0, None if given is None else 0, 0))(rows, given, words)


@eqx.filter_jit
def _elbo_block(
    model: Latent, rows: Array, given: Array | None, words: Array, seed: Array, samples: Array, chunk: int
) -> dict[str, Array]:
    def one(x: Row, y: Given, own: Array) -> dict[str, Array]:
        mean, variance = stream_mean(model, row_key(seed, own), x, y, samples, chunk)
        return {"values": mean, "variances": variance / samples, "ess": samples.astype(jnp.float32)}

    return jax.vmap(one, in_axes=(0, None if given is None else 0, 0))(rows, given, words)


def stream_mean(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, samples: Int[Array, ""], chunk: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return mean and variance of k log-weights in constant memory (chunks merged as Chan et al. 1979 do)."""

    def take(i: Int[Array, ""], state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, mean, square = state
        start = i * chunk
        log_w = over_samples(lambda own: model.forward(own, x, given).log_w, sample_keys(key, chunk, start))
        mine = start + jnp.arange(chunk) < samples
        new = mine.sum()
        centre = jnp.where(mine, log_w, 0.0).sum() / new
        gap = centre - mean
        square += jnp.where(mine, (log_w - centre) ** 2, 0.0).sum() + gap**2 * count * new / (count + new)
        return count + new, mean + gap * new / (count + new), square

    zero = jnp.zeros(())
    count, mean, square = jax.lax.fori_loop(0, -(-samples // chunk), take, (zero, zero, zero))
    return mean, square / jnp.maximum(count - 1.0, 1.0)


def maybe(array: np.ndarray | None) -> Array | None:
    """Return host numbers as an array of the device, None where there are none."""
    return None if array is None else placed(array)


def validator(samples: int = 100, rows: int = 1000, seed: int = 0) -> Callable[[Any, Dataset, Any], Estimate]:
    """Return ``validate(model, data, key) -> Estimate`` on fixed validation rows with fixed random numbers.

    The numbers are common to all epochs, so that comparing weights is not comparing luck; `key` is not used.  A
    class-conditional model is judged by log p(x given its class), which costs one class and not all of them.

    Args:
        samples: importance samples per row.
        rows: at most so many rows, chosen at random once and for all.
        seed: of the choice and of the estimator.
    """
    return validating(partial(importance, samples=samples, seed=seed), rows, seed)


def validating(score: Callable[..., RowResult], rows: int, seed: int) -> Callable[[Any, Dataset, Any], Estimate]:
    """Return ``validate(model, data, key) -> Estimate`` by ``score(model, rows, given=)``; see `validator`."""
    kept: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]] = {}

    def validate(model: Any, data: Dataset, key: Any = None) -> Estimate:
        if data.hash not in kept:
            index = with_known(data, "valid", np.sort(visiting_order(data.size("valid"), seed)[:rows]))
            labels = data.labels("valid")
            kept[data.hash] = (index, data.rows("valid")[index], None if labels is None else labels[index])
        index, x, labels = kept[data.hash]
        given = one_hot(labels, classes_of(model)) if classes_of(model) else None
        result = score(model, x, given=given)
        note = None if given is None else "log p(x given its class)"
        return certify(result, data, "valid", note=note, indices=index)

    return validate
