r"""Gradients without a way back through the draws: for latents that are discrete, and right for any other.

They have the signature of `surrogates`, of which they are the other half.  With :math:`h_i \sim q(h \mid x)` held
fixed, :math:`w_i = p(x, h_i)/q(h_i \mid x)`, :math:`\tilde w_i = w_i/\sum_j w_j` and a dream
:math:`(\hat x, \hat h) \sim p`:

==========  ==================================================  ===================================================
name        gradient for :math:`\theta`                         gradient for :math:`\phi`
==========  ==================================================  ===================================================
wake-sleep  :math:`\frac1k\sum_i \nabla \log p(x, h_i)`         :math:`\nabla \log q(\hat h \mid \hat x)`
rws         :math:`\sum_i \tilde w_i \nabla \log p(x, h_i)`     :math:`\sum_i \tilde w_i \nabla \log q(h_i \mid x)`
                                                                (wake) and that of a dream (sleep)
vimco       :math:`\sum_i \tilde w_i \nabla \log p(x, h_i)`     :math:`\sum_i (\hat L - \hat L_{-i} - \tilde w_i)
                                                                \nabla \log q(h_i \mid x)`
score       :math:`\frac1k\sum_i \nabla \log p(x, h_i)`         :math:`\frac1k\sum_i (\log w_i - b_i)
                                                                \nabla \log q(h_i \mid x)`
==========  ==================================================  ===================================================

Wake-sleep's :math:`\theta` ascends the evidence lower bound; its :math:`\phi` descends
:math:`\mathrm{KL}(p(h \mid x)\,\|\,q(h \mid x))` over what the model dreams and not
:math:`\mathrm{KL}(q\,\|\,p)` over the data: no function need descend under both.  Reweighted,
:math:`\theta` follows :math:`\nabla \log p(x)` with a bias of order 1/k, and the wake update of q the same divergence
over the data.  Both sums are self-normalised; :math:`\frac1k\sum_i w_i` itself is unbiased for p(x).

VIMCO is unbiased for the gradient of the k-sample bound.  Draw i is praised by
:math:`\hat L = \log\frac1k\sum_j w_j` less what that would have been without it,

.. math:: \hat L_{-i} = \log \tfrac1k \Big(\sum_{j \ne i} w_j + \big(\prod_{j \ne i} w_j\big)^{1/(k-1)}\Big).

That baseline does not depend on draw i, so that it changes no expectation and takes away most of the variance.

The score function is unbiased for the gradient of the evidence lower bound at any baseline :math:`b_i` that does not
depend on draw i; a near one takes the variance away (`Baseline`): none (0); the ``running-mean`` of log w over the
batches before; the ``input``'s, :math:`b(x)`, a net that descends :math:`\frac12 (\log w - b(x))^2`; and
``leave-one-out``, the mean of the row's other :math:`\log w_j`, which needs no more than two draws.

What is logged is a value: ``elbo`` or ``bound``, and ``sleep``, log q of a dream.  The scalar has the value of the
bound and the gradient above.  There is no KL apart to weigh, so `beta` must be 1.

References: Hinton, Dayan, Frey & Neal, *The "Wake-Sleep" Algorithm for Unsupervised Neural Networks*, 1995;
Bornschein & Bengio, *Reweighted Wake-Sleep*, 2015; Williams, *Simple Statistical Gradient-Following Algorithms*, 1992,
and Mnih & Gregor, *Neural Variational Inference and Learning in Belief Networks*, 2014 (score, its baselines); Mnih &
Rezende, *Variational Inference for Monte Carlo Objectives*, 2016.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.prob import bounds
from reverie.prob.contracts import Given, Latent, Row
from reverie.prob.surrogates import Beta, Penalty, Scalar, Scored, Surrogate, is_one, values_of, with_gradient_of

#: How q is updated by `rws`: on its own draws, weighed; on dreams; or on both.
QUpdates = Literal["both", "wake", "sleep"]

#: What `score` compares a draw's log-weight with.
Baseline = Literal["leave-one-out", "running-mean", "input", "none"]


class Drawn(NamedTuple):
    """Scores of each sample, at draws that nothing goes back through; and its penalty."""

    log_p: Float[Array, " k"]
    log_q: Float[Array, " k"]
    penalty: Float[Array, " k"] | None

    @property
    def log_w(self) -> Float[Array, " k"]:
        return self.log_p - self.log_q


def wake_sleep(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, beta: Beta = 1.0, penalty: Penalty | None = None
) -> Scored:
    r"""Wake: p learns from what q makes of x.  Sleep: q learns from what p dreams (Hinton et al. 1995)."""
    wake = _drawn(model, key, x, given, k, beta, penalty)
    value, dream = bounds.elbo(wake.log_w), sleep(model, key, given, k)
    return _scored(value, wake.log_p.mean() + dream, {"elbo": value, "sleep": dream}, wake.penalty)


def rws(
    model: Latent,
    key: PRNGKeyArray,
    x: Row,
    given: Given,
    k: int,
    beta: Beta = 1.0,
    penalty: Penalty | None = None,
    q_updates: QUpdates = "both",
) -> Scored:
    r"""Reweighted wake-sleep: what q draws counts by its weight, for p and for q (Bornschein & Bengio 2015)."""
    wake = _drawn(model, key, x, given, k, beta, penalty)
    share, info = shares(wake.log_w), values_of(wake.log_w)
    source = (share * wake.log_p).sum()
    if q_updates != "sleep":
        source += (share * wake.log_q).sum()
    if q_updates != "wake":
        info["sleep"] = sleep(model, key, given, k)
        source += info["sleep"]
    return _scored(info["bound"], source, info, wake.penalty)


def vimco(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, beta: Beta = 1.0, penalty: Penalty | None = None
) -> Scored:
    r"""Ascend the k-sample bound, each draw praised by what it added to it (Mnih & Rezende 2016).

    Raises:
        ReverieError: for one sample, which no other could be a baseline of.
    """
    if k < 2:
        raise ReverieError(f"k: vimco compares samples with each other, and {k} is too few; give 2 or more")
    drawn = _drawn(model, key, x, given, k, beta, penalty)
    info = values_of(drawn.log_w)
    praise = jax.lax.stop_gradient(info["bound"] - without(drawn.log_w))
    return _scored(info["bound"], info["bound"] + (praise * drawn.log_q).sum(), info, drawn.penalty)


def score(
    model: Latent,
    key: PRNGKeyArray,
    x: Row,
    given: Given,
    k: int,
    beta: Beta = 1.0,
    penalty: Penalty | None = None,
    baseline: Baseline = "leave-one-out",
    level: float | Scalar = 0.0,
) -> Scored:
    r"""Ascend the ELBO, each draw praised by its log-weight less a baseline (Williams 1992; Mnih & Gregor 2014).

    Args:
        level: the running mean, where that is the baseline (`surrogates.Running` gives it).

    Raises:
        ReverieError: for one sample, which no other could be a baseline of.
    """
    if baseline == "leave-one-out" and k < 2:
        raise ReverieError(f"k: leave-one-out compares samples with each other, and {k} is too few; give 2 or more")
    drawn = _drawn(model, key, x, given, k, beta, penalty)
    log_w, info = jax.lax.stop_gradient(drawn.log_w), {"elbo": bounds.elbo(drawn.log_w)}
    source = drawn.log_p.mean()
    if baseline == "input":
        told: Scalar = model.baseline(x, given)  # type: ignore[attr-defined]
        source -= 0.5 * ((log_w - told) ** 2).mean()
        level = jax.lax.stop_gradient(told)
    elif baseline == "leave-one-out":
        level = (log_w.sum() - log_w) / (k - 1)
    return _scored(info["elbo"], source + ((log_w - level) * drawn.log_q).mean(), info, drawn.penalty)


def without(log_w: Float[Array, " k"]) -> Float[Array, " k"]:
    r"""Return :math:`\hat L_{-i}`: the bound with the geometric mean of the others in the place of each weight."""
    k = log_w.shape[0]
    others = jnp.where(jnp.eye(k, dtype=bool), 0.0, log_w).sum(axis=1) / (k - 1)
    return bounds.iwae_bound(jnp.where(jnp.eye(k, dtype=bool), others, log_w[:, None]))


def sleep(model: Latent, key: PRNGKeyArray, given: Given, k: int) -> Scalar:
    r"""Return :math:`\log q(\hat h \mid \hat x)` of one dream :math:`(\hat x, \hat h) \sim p`, itself held fixed."""

    def one(own: PRNGKeyArray) -> Scalar:
        x, h = jax.lax.stop_gradient(model.sample(own, given))
        return model.log_q(h, x, given)

    # The samples of q have the keys 0 .. k - 1: a dream must not be made of the same noise.
    return bounds.over_samples(one, bounds.sample_keys(key, 1, k))[0]


def shares(log_w: Float[Array, " k"]) -> Float[Array, " k"]:
    r"""Return :math:`\tilde w_i = w_i/\sum_j w_j`, as numbers: nothing learns by changing the weights themselves."""
    return jax.lax.stop_gradient(jax.nn.softmax(log_w))


SCORED: dict[str, Surrogate] = {
    "wake-sleep": wake_sleep,
    "rws": rws,
    "vimco": vimco,
    "score": score,
}


def _drawn(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, beta: Beta, penalty: Penalty | None
) -> Drawn:
    if not is_one(beta):
        raise ReverieError(f"beta: {', '.join(SCORED)} have no KL term to weigh; leave it (and warmup) out")

    def one(own: PRNGKeyArray) -> Drawn:
        h = jax.lax.stop_gradient(model.infer(own, x, given))
        told = penalty and penalty(model.forward(own, x, given).trace)
        return Drawn(model.log_p(x, h, given), model.log_q(h, x, given), told)

    return bounds.over_samples(one, bounds.sample_keys(key, k))


def _scored(value: Scalar, source: Scalar, info: dict[str, Scalar], penalty: Float[Array, " k"] | None) -> Scored:
    objective = with_gradient_of(value, source)
    if penalty is not None:
        info["penalty"] = penalty.mean()
        objective = objective - penalty.mean()
    return objective, jax.lax.stop_gradient(info)
