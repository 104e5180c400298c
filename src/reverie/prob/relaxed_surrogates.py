r"""Gradients that go back through binary draws all the same: through relaxed ones, or as if there were a way.

A unit with logit a is one where :math:`a + \epsilon > 0`, :math:`\epsilon` logistic noise.  In its place

================  ======================================================  ===========================================
name              the unit                                                its density
================  ======================================================  ===========================================
concrete          :math:`s = \sigma(y),\ y = (a + \epsilon)/\tau`         of y, :math:`\tau\,e^{a - \tau y}
                                                                          (1 + e^{a - \tau y})^{-2}`
straight-through  as it is, with the slope of :math:`\sigma(a)`           as it is
================  ======================================================  ===========================================

``concrete`` ascends the k-sample bound of another model, whose units are numbers between 0 and 1 (both P's and Q's laws
relaxed at one temperature :math:`\tau`): no bias for that bound, and a bias for the binary model's that falls with
:math:`\tau` while the variance grows.  ``straight-through`` has the binary model's bound as its value and no claim on
its gradient.  A model takes part by `abilities.Relaxes`.

What is logged: ``relaxed_bound``, of the relaxed model and not of log p(x); ``bound`` and ``elbo`` where draws are
binary.

References: Maddison, Mnih & Teh, *The Concrete Distribution*, 2017; Jang, Gu & Poole, *Categorical Reparameterization
with Gumbel-Softmax*, 2017; Bengio, Léonard & Courville, *Estimating or Propagating Gradients Through Stochastic
Neurons*, 2013; Gregor et al., *Deep AutoRegressive Networks*, 2014.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.nn.laws import bernoulli_log_prob
from reverie.prob import bounds
from reverie.prob.contracts import Given, Latent, Row
from reverie.prob.surrogates import Beta, Penalty, Scalar, Scored, Surrogate, is_one, values_of

Unit = Float[Array, "*n"]


@runtime_checkable
class Relaxation(Protocol):
    """A way to draw binary units that gradients go back through; everything elementwise."""

    def decide(self, logit: Unit, noise: Unit) -> Unit:
        """Return the unit, from its logit and logistic noise."""
        ...

    def scored(self, logit: Unit, noise: Unit, unit: Unit) -> Unit:
        """Return what `log_prob` is a density of."""
        ...

    def log_prob(self, scored: Unit, logit: Unit) -> Unit:
        """Return its log-density under a law with that logit."""
        ...


class Concrete(NamedTuple):
    """Binary concrete units, scored by their y."""

    temperature: float | Scalar

    def decide(self, logit: Unit, noise: Unit) -> Unit:
        return jax.nn.sigmoid((logit + noise) / self.temperature)

    def scored(self, logit: Unit, noise: Unit, unit: Unit) -> Unit:
        # Not from the unit: sigmoids round to 1 long before y is large.
        return (logit + noise) / self.temperature

    def log_prob(self, scored: Unit, logit: Unit) -> Unit:
        off = logit - self.temperature * scored
        return jnp.log(self.temperature) + off - 2.0 * jax.nn.softplus(off)


class StraightThrough(NamedTuple):
    """Binary units with the slope of their means."""

    def decide(self, logit: Unit, noise: Unit) -> Unit:
        mean = jax.nn.sigmoid(logit)
        # In this order the sum of the first two is exactly 0 and the unit exactly 0 or 1.
        return (mean - jax.lax.stop_gradient(mean)) + (logit + noise > 0).astype(logit.dtype)

    def scored(self, logit: Unit, noise: Unit, unit: Unit) -> Unit:
        return unit

    def log_prob(self, scored: Unit, logit: Unit) -> Unit:
        return bernoulli_log_prob(scored, logit)


def concrete(
    model: Latent,
    key: PRNGKeyArray,
    x: Row,
    given: Given,
    k: int,
    beta: Beta = 1.0,
    penalty: Penalty | None = None,
    temperature: float = 0.5,
) -> Scored:
    r"""Ascend the k-sample bound of the relaxed model (Maddison et al. 2017)."""
    objective, info = _through(model, key, x, given, k, beta, penalty, Concrete(temperature))
    return objective, {"relaxed_bound": info["bound"]}


def straight_through(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, beta: Beta = 1.0, penalty: Penalty | None = None
) -> Scored:
    r"""Ascend the k-sample bound as if a draw had the slope of its mean (Bengio et al. 2013)."""
    return _through(model, key, x, given, k, beta, penalty, StraightThrough())


RELAXED: dict[str, Surrogate] = {"concrete": concrete, "straight-through": straight_through}


def _through(
    model: Latent,
    key: PRNGKeyArray,
    x: Row,
    given: Given,
    k: int,
    beta: Beta,
    penalty: Penalty | None,
    way: Relaxation,
) -> Scored:
    if not is_one(beta):
        raise ReverieError(f"beta: {' and '.join(RELAXED)} have no KL term to weigh; leave it (and warmup) out")
    if penalty is not None:
        raise ReverieError(f"penalty: {' and '.join(RELAXED)} have no trace to take one from; leave it out")

    def one(own: PRNGKeyArray) -> Scalar:
        return model.relaxed(own, x, given, way).log_w  # type: ignore[attr-defined]

    log_w = bounds.over_samples(one, bounds.sample_keys(key, k))
    return bounds.iwae_bound(log_w), jax.lax.stop_gradient(values_of(log_w))
