r"""The likelihood by draws from the prior: what some slides call approximate log-likelihood.

.. math:: \log p(x) \approx \log \frac1S \sum_{s=1}^S p(x \mid h_s), \qquad h_s \sim p(h),

the same draws for every row.  It is a lower bound in the mean, as importance sampling's is, but hardly a tight one:
of S draws from the prior few explain a given row, and the effective sample size says so (near 1: one draw does).  It
falls the more information a code carries, and rises with S without end in sight, so that it compares models of one S
alone and never with importance sampling.  It is here because it was published.

Reference: Kim, Kim & Hwang, *Generative Auto Encoder*, slides, 2018, whose S is not stated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int

from reverie.arrays import LogMean
from reverie.errors import ReverieError, an
from reverie.evaluate.classes import classes_of, result_of
from reverie.evaluate.rows import RowResult, Sweep, Watch, as_rows, checked_seed, fingerprint, on_device
from reverie.nn.laws import log_prob
from reverie.prob.bounds import sample_keys
from reverie.prob.contracts import Latent

NAME = "prior"
#: Draws decoded at once, and most rows that these are scored on: fewer would decode the same draws again.
_CHUNK, _ROWS = 100, 5000


def prior(
    model: Latent,
    rows: Float[np.ndarray, "n D"],
    *,
    samples: int = 10_000,
    seed: int = 0,
    minutes: float | None = None,
    class_prior: Float[np.ndarray, " C"] | None = None,
    resume: Path | None = None,
    progress: Watch | None = None,
) -> RowResult:
    r"""Return :math:`\log \frac1S\sum_s p(x \mid h_s)` of each row, in nats.

    Args:
        model: has ``law(h)``, p(x | h).
        rows: in the model's units, shape ``(n, D)``.
        samples: S.
        seed: of the draws, which all rows share.
        minutes: stop after so long; the rows done are a random part of all.
        resume: file of partial results (.npz).
        progress: called with the number of rows done, and their mean as `value`.

    Raises:
        ReverieError: for a class-conditional model, one that does not show its law, or no draw at all.
    """
    if classes_of(model):
        raise ReverieError("estimator: prior draws serve all rows at once, and classes differ; use importance")
    if not callable(getattr(model, "law", None)):
        raise ReverieError(f"estimator: {an(type(model).__name__)} has no p(x | h) to score draws by; use importance")
    if samples < 1:
        raise ReverieError(f"samples: {samples} is not a number of samples; give 1 or more")
    rows, model = as_rows(rows), on_device(model)
    number, count = jnp.asarray(np.uint32(checked_seed(seed))), jnp.asarray(samples)

    def score(x: np.ndarray, y: np.ndarray | None, words: np.ndarray) -> dict[str, np.ndarray]:
        with jax.default_matmul_precision("highest"):
            out = _block(model, jnp.asarray(x), number, count)
        return {key: np.asarray(value) for key, value in out.items()}

    estimator = f"{NAME}-{samples}"
    mark = fingerprint(model, rows, estimator, seed, None)
    sweep = Sweep(score, rows, None, min(len(rows), _ROWS), seed, mark, resume, minutes, progress, 0)
    return result_of(sweep, None, samples, estimator)


@eqx.filter_jit
def _block(model: Any, rows: Array, seed: Array, samples: Int[Array, ""]) -> dict[str, Array]:
    key = jax.random.key(seed)

    def take(i: Int[Array, ""], total: LogMean) -> LogMean:
        start = i * _CHUNK
        drawn = jax.vmap(lambda own: model.law(model.draw_prior(own)))(sample_keys(key, _CHUNK, start))
        each = _scores(drawn, rows, model.sight.missing)
        return total.add(jnp.where((start + jnp.arange(_CHUNK) < samples)[:, None], each, -jnp.inf))

    total = jax.lax.fori_loop(0, -(-samples // _CHUNK), take, LogMean.start((len(rows),)))
    total = total._replace(k=jnp.full_like(total.k, samples))
    return {"values": total.value(), "variances": total.variance(), "ess": total.effective_sample_size()}


def _scores(laws: Any, rows: Float[Array, "n D"], missing: bool) -> Float[Array, "S n"]:
    r"""Return :math:`\log p(x_i \mid h_s)`: of binary columns as one matrix product."""
    base = laws.base_dist
    if isinstance(base, dist.BernoulliLogits) and not missing:
        logits = base.logits
        return logits @ rows.T - jax.nn.softplus(logits).sum(axis=1)[:, None]
    return jax.vmap(lambda law: jax.vmap(lambda x: log_prob(law, x, missing))(rows))(laws)
