r"""How much of a training row's likelihood is its own component's: what a mixture over training rows remembers.

Of a model whose prior is :math:`\frac1n\sum_j p(z \mid x_j)` a training row has two likelihoods: that of the model,
:math:`\log p(x_i)`, and :math:`\log p_{-i}(x_i)`, without its own component, as a new row would have it.  The first can
be had by remembering alone: with components that do not meet it is that of an autoencoder, less log n.  What the own
component adds is therefore no sign of having learnt the data, and a large number of nats is one of having learnt rows
by heart.

Reference: Norouzi, Fleet & Norouzi, *Exemplar VAE*, 2020 (leaving one out).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from reverie.arrays import log_mean_exp
from reverie.data.dataset import Dataset
from reverie.estimate import Estimate
from reverie.evaluate import likelihood
from reverie.evaluate.certify import certify, log_scales
from reverie.evaluate.mapped import over_rows
from reverie.evaluate.measure import gather
from reverie.evaluate.rows import visiting_order
from reverie.prob.bounds import over_samples, sample_keys

#: Rows and draws looked at, and numbers held at once.
ROWS, SAMPLES, _HELD = 300, 100, 2**23
#: Nats of the own component above which a row counts as learnt by heart.
BY_HEART = 1.0


def look(
    model: Any, data: Dataset, split: str = "test", *, seed: int = 0
) -> tuple[dict[str, Estimate], list[dict[str, str]]]:
    """Return what training rows owe to their own components, beside rows of a split, and a sentence about it.

    Returns:
        ``own_component`` (nats, paired by row), ``own_share`` (of the posterior over training rows),
        ``train_log_likelihood``, ``train_without_own`` and ``held_out_log_likelihood`` (bounds, file's units);
        findings with ``level`` and ``text``.
    """
    chosen = np.sort(visiting_order(data.size("train"), seed)[:ROWS])
    rows = gather(data, "train", chosen)
    size = model.exemplars.size
    block = max(1, _HELD // (SAMPLES * size))
    number = chosen[:, None].astype(np.float32)
    whole, without, share = (np.asarray(a, np.float64) for a in over_rows(_both, model, rows, number, seed, block))
    shift = log_scales(data, rows)
    how: dict[str, Any] = {"split": "train", "seed": seed, "data_hash": data.hash, "binarisation": data.binarisation}
    bound: dict[str, Any] = {"kind": "lower_bound", "estimator": f"importance-{SAMPLES}", "measure": data.measure}
    held = np.sort(visiting_order(data.size(split), seed)[:ROWS])
    theirs = likelihood.importance(model, gather(data, split, held), samples=SAMPLES, seed=seed)
    records = {
        "own_component": Estimate.of_rows(whole - without, kind="estimate", estimator="paired", **how),
        "own_share": Estimate.of_rows(share, kind="estimate", estimator="posterior", unit="fraction", **how),
        "train_log_likelihood": Estimate.of_rows(whole - shift, **bound, **how),
        "train_without_own": Estimate.of_rows(without - shift, **bound, **how),
        "held_out_log_likelihood": certify(theirs, data, split, indices=held),
    }
    return records, [_finding(records, size)]


def _finding(records: dict[str, Estimate], size: int) -> dict[str, str]:
    own, part = records["own_component"].value, records["own_share"].value
    gap = records["train_without_own"].value - records["held_out_log_likelihood"].value
    said = f"a training row owes {own:.2f} nats to its own component, which has {part:.0%} of the posterior"
    if own > BY_HEART:
        text = f"Learnt by heart: {said}. Train for less, penalise means and scales, and leave --leave-one-out on."
        return {"level": "problem", "text": text}
    text = (
        f"Not learnt by heart: {said} (log n is {math.log(size):.1f}); without it training rows score {gap:.2f} nats "
    )
    return {"level": "ok", "text": f"{text}{'above' if gap > 0 else 'from'} held-out ones."}


def _both(model: Any, key: PRNGKeyArray, x: Array, given: Array | None) -> tuple[Array, Array, Array]:
    assert given is not None
    row, size = given[0].astype(jnp.int32), model.exemplars.size

    def one(own: PRNGKeyArray) -> tuple[Array, Array, Array]:
        drawn = model.forward(own, x)
        rest = model.log_prior_without(drawn.h, row)
        left = math.log(size - 1) - math.log(size)
        return drawn.log_w, drawn.log_w - drawn.log_prior + rest, -jnp.expm1(rest + left - drawn.log_prior)

    whole, without, part = over_samples(one, sample_keys(key, SAMPLES))
    share = (jax.nn.softmax(whole) * jnp.clip(part, 0.0, 1.0)).sum()
    return log_mean_exp(whole, axis=0), log_mean_exp(without, axis=0), share
