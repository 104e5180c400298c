r"""Gradients: what is differentiated to ascend a bound of :math:`\log p(x)`, and the values logged beside it.

Every surrogate has one signature and serves one example inside ``jax.vmap(..., axis_name="batch")``:

.. code-block:: python

    surrogate(model, key, x, given, k, beta=1.0, penalty=None) -> (scalar to maximise, info)

The scalar's *value* is the objective; its *gradient* is the estimator.  With :math:`w_i = p(x, h_i)/q(h_i \mid x)`,
:math:`\tilde w_i = w_i/\sum_j w_j` and :math:`h_i = h(\epsilon_i, x, \phi)`, and :math:`\theta` the decoder's,
:math:`\phi` the encoder's parameters:

=============  ===================================================  ================================================
name           gradient for :math:`\theta`                          gradient for :math:`\phi`
=============  ===================================================  ================================================
elbo           :math:`\frac1k \sum_i \nabla \log w_i`               the same
elbo-analytic  that of :math:`\log p(x \mid h)`                     and of the closed-form KL
iwae           :math:`\sum_i \tilde w_i \nabla \log w_i`            the same
one-backward   :math:`\nabla \log w_I,\ I \sim \tilde w`            the same: unbiased, and one backward pass
stl            as iwae                                              without :math:`\nabla_\phi \log q` at fixed h:
                                                                    unbiased for k = 1 alone
dreg           as iwae                                              :math:`\sum_i \tilde w_i^2\, \partial_h \log w_i\,
                                                                    \partial_\phi h_i`: unbiased
=============  ===================================================  ================================================

`beta` weighs :math:`\log q(h \mid x) - \log p(h)`:
:math:`\log w_\beta = \log p(x \mid h) + \beta\,(\log p(h) - \log q(h \mid x))`.  What is logged is always a value at
beta = 1 (``elbo``, ``bound``), with the ``objective`` beside it when beta is not 1.  `penalty(trace) -> scalar` is
evaluated on each sample's trace, averaged, taken from the scalar and logged.

The map over samples is named ``samples``: layers with live statistics average over ("batch", "samples").

References: Kingma & Welling 2014; Burda, Grosse & Salakhutdinov 2016 (iwae, one-backward); Roeder, Wu & Duvenaud,
*Sticking the Landing*, 2017 (stl); Tucker, Lawson, Gu & Maddison, *Doubly Reparameterized Gradient Estimators for
Monte Carlo Objectives*, 2019, and Bauer & Mnih, *Generalized Doubly Reparameterized Gradient Estimators*, 2021 (dreg).

All of these go back through the draws of h.  Where there is no way back, as through binary units, they would be wrong
without a word: those of `score_surrogates` need none, and those of `relaxed_surrogates` make one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.errors import ReverieError, nearest
from reverie.prob import bounds
from reverie.prob.contracts import Given, Latent, Pass, Row

Tree = TypeVar("Tree")
Scalar = Float[Array, ""]
Beta = float | Scalar
#: ``penalty(trace) -> scalar`` of one sample's pass, under the mapped axes ``batch`` and ``samples``.
Penalty = Callable[[dict[str, Any]], Scalar]
Scored = tuple[Scalar, dict[str, Scalar]]
Surrogate = Callable[..., Scored]


class RunningMean(NamedTuple):
    r"""A running mean :math:`m_t = \beta m_{t-1} + (1 - \beta) v_t`, divided by the weight it has gathered."""

    total: Scalar
    weight: Scalar

    @staticmethod
    def start() -> RunningMean:
        return RunningMean(jnp.zeros(()), jnp.zeros(()))

    def add(self, value: Scalar, decay: float) -> RunningMean:
        value = jax.lax.stop_gradient(value)
        return RunningMean(decay * self.total + (1 - decay) * value, decay * self.weight + (1 - decay))

    def value(self) -> Scalar:
        """Return the mean, 0 before the first value."""
        return self.total / jnp.where(self.weight > 0, self.weight, 1.0)


@dataclass(frozen=True)
class Running:
    """A surrogate that takes `level`, the running mean of its ``elbo`` over the batches before (`objective`)."""

    surrogate: Callable[..., Scored]
    decay: float = 0.9

    def __call__(self, *args: Any, **options: Any) -> Scored:
        return self.surrogate(*args, **options)


class Terms(NamedTuple):
    """Of each sample: `log_w`, a value; `ascent`, log w_beta, which is differentiated; and the penalty."""

    log_w: Float[Array, " k"]
    ascent: Float[Array, " k"]
    penalty: Float[Array, " k"] | None


def elbo(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, beta: Beta = 1.0, penalty: Penalty | None = None
) -> Scored:
    r"""Ascend :math:`\frac1k\sum_i \log w_i` (Kingma & Welling 2014); k samples only lower the variance."""
    terms = _passes(model, bounds.sample_keys(key, k), x, given, beta, penalty)
    return _scored(bounds.elbo(terms.ascent), {"elbo": bounds.elbo(terms.log_w)}, beta, terms.penalty)


def elbo_analytic(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, beta: Beta = 1.0, penalty: Penalty | None = None
) -> Scored:
    r"""Ascend :math:`\frac1k\sum_i \log p(x \mid h_i) - \mathrm{KL}(q(h \mid x)\,\|\,p(h))`, the KL from
    ``model.kl(x, given)``.

    Raises:
        ReverieError: when the model has no closed-form KL.
    """
    if not callable(getattr(model, "kl", None)):
        name = type(model).__name__
        raise ReverieError(f"surrogate: elbo-analytic needs a closed-form KL, which {name} has not; use elbo")

    def one(own: PRNGKeyArray) -> Terms:
        drawn = model.forward(own, x, given)
        # Inside the map, for the encoder's layers may average over both named axes.
        gap = model.kl(x, given)  # type: ignore[attr-defined]
        return Terms(drawn.log_likelihood - gap, drawn.log_likelihood - beta * gap, penalty and penalty(drawn.trace))

    terms = bounds.over_samples(one, bounds.sample_keys(key, k))
    return _scored(bounds.elbo(terms.ascent), {"elbo": bounds.elbo(terms.log_w)}, beta, terms.penalty)


def iwae(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, beta: Beta = 1.0, penalty: Penalty | None = None
) -> Scored:
    r"""Ascend :math:`\log\frac1k\sum_i w_i` by :math:`\sum_i \tilde w_i \nabla \log w_i` (Burda et al. 2016)."""
    terms = _passes(model, bounds.sample_keys(key, k), x, given, beta, penalty)
    return _scored(bounds.iwae_bound(terms.ascent), values_of(terms.log_w), beta, terms.penalty)


def one_backward(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, beta: Beta = 1.0, penalty: Penalty | None = None
) -> Scored:
    r"""Ascend the k-sample bound by :math:`\nabla \log w_I`, :math:`I \sim \tilde w`: one backward pass.

    The penalty is that of sample I alone.  A layer with live statistics sees the chosen samples as its batch.
    """
    keys = bounds.sample_keys(key, k)
    terms = _passes(freeze(model), keys, x, given, beta, None)
    index = choose(key, jax.lax.stop_gradient(terms.ascent))
    again = _passes(model, keys[index][None], x, given, beta, penalty)
    # log w_I is no bound of anything: it gives the gradient, the k samples give the value.
    objective = with_gradient_of(bounds.iwae_bound(terms.ascent), again.ascent[0])
    return _scored(objective, values_of(terms.log_w), beta, again.penalty)


def stl(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, beta: Beta = 1.0, penalty: Penalty | None = None
) -> Scored:
    r"""Ascend the k-sample bound without the score of q, by scoring h with frozen parameters (Roeder et al. 2017)."""
    frozen = freeze(model)

    def one(own: PRNGKeyArray) -> Terms:
        drawn = model.forward(own, x, given)
        return _terms(drawn._replace(log_q=frozen.log_q(drawn.h, x, given)), beta, penalty)

    terms = bounds.over_samples(one, bounds.sample_keys(key, k))
    return _scored(bounds.iwae_bound(terms.ascent), values_of(terms.log_w), beta, terms.penalty)


def dreg(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given, k: int, beta: Beta = 1.0, penalty: Penalty | None = None
) -> Scored:
    r"""Ascend the k-sample bound with the doubly reparameterised gradient (Tucker et al. 2019).

    q is scored with frozen parameters; with several layers its dependence on the layer below stays (Bauer & Mnih
    2021).  The objective :math:`\sum_i \tilde w_i \log w_i` at fixed weights gives the decoder :math:`\tilde w_i`, and
    the gradient is scaled once more by :math:`\tilde w_i` where it enters h: one backward pass.
    """
    frozen, keys = freeze(model), bounds.sample_keys(key, k)
    # The forward pass below repeats this one operation for operation, and the compiler merges the two.
    values = jax.lax.stop_gradient(_passes(frozen, keys, x, given, beta, None))
    weights = jax.nn.softmax(values.ascent)

    def one(own: PRNGKeyArray, weight: Scalar) -> Terms:
        h = scale_gradient(model.infer(own, x, given), weight)
        log_q = frozen.log_q(h, x, given)
        if is_one(beta):
            ascent = model.log_p(x, h, given) - log_q
        else:
            prior = model.log_prior(h, given)
            ascent = model.log_p(x, h, given) - prior + beta * (prior - log_q)
        return Terms(ascent, ascent, penalty and penalty(model.forward(own, x, given).trace))

    terms = bounds.over_samples(one, keys, weights)
    objective = with_gradient_of(bounds.iwae_bound(values.ascent), (weights * terms.ascent).sum())
    return _scored(objective, values_of(values.log_w), beta, terms.penalty)


SURROGATES: dict[str, Surrogate] = {
    "elbo": elbo,
    "elbo-analytic": elbo_analytic,
    "iwae": iwae,
    "one-backward": one_backward,
    "stl": stl,
    "dreg": dreg,
}


def objective(
    surrogate: str,
    k: int,
    beta_schedule: Callable[[Int[Array, ""]], Beta] | None = None,
    penalty: Penalty | None = None,
    known: Mapping[str, Surrogate] = SURROGATES,
) -> Callable[..., tuple[Scalar, Any, dict[str, Scalar]]]:
    """Return ``(model, batch, carry, key) -> (loss, carry, info)``: a player's objective.

    The loss is minus the mean of the surrogate over the batch, which has ``x`` (B, D), ``given`` (None or (B, C))
    and ``step`` (for `beta_schedule`).

    Args:
        surrogate: a name of `known`.
        k: samples per row.
        beta_schedule: weight of the KL term at a step; None is 1.
        penalty: taken from what is maximised; sees one sample's trace.
        known: the surrogates that the model allows; of a `Running` one the carry is a `RunningMean`.

    Raises:
        ReverieError: for an unknown name or k below 1.
    """
    if surrogate not in known:
        hint = nearest(surrogate, known) or f"; give one of {', '.join(known)}"
        raise ReverieError(f"surrogate: {surrogate!r} is not known{hint}")
    if k < 1:
        raise ReverieError(f"k: {k} samples are too few; give 1 or more")
    chosen = known[surrogate]

    def of_batch(model: Latent, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Scalar, Any, dict]:
        beta = 1.0 if beta_schedule is None else beta_schedule(batch["step"])

        level = {"level": carry.value()} if isinstance(chosen, Running) else {}

        def one(own: PRNGKeyArray, x: Row, given: Given) -> Scored:
            return chosen(model, own, x, given, k, beta, penalty, **level)

        keys = jax.random.split(key, batch["x"].shape[0])
        scalars, info = jax.vmap(one, axis_name="batch")(keys, batch["x"], batch["given"])
        info = {name: value.mean() for name, value in info.items()}
        after = carry.add(info["elbo"], chosen.decay) if isinstance(chosen, Running) else carry
        return -scalars.mean(), after, info

    return of_batch


def freeze(model: Tree) -> Tree:
    """Return `model` with no gradient to its parameters; gradients still pass through to its inputs."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, model)


def choose(key: PRNGKeyArray, log_w: Float[Array, " k"]) -> Int[Array, ""]:
    r"""Draw an index with probabilities :math:`\tilde w_i = w_i / \sum_j w_j`."""
    # Samples have the keys 0 .. k - 1 folded from this one; k is free.
    return jax.random.categorical(jax.random.fold_in(key, log_w.shape[0]), log_w)


def scale_gradient(h: Tree, weight: Scalar) -> Tree:
    """Return `h` itself; gradients that pass back through it are multiplied by `weight`."""
    return jax.tree.map(lambda leaf: _scaled(leaf, weight) if eqx.is_inexact_array(leaf) else leaf, h)


@jax.custom_jvp
def _scaled(leaf: Array, weight: Scalar) -> Array:
    return leaf


@_scaled.defjvp
def _scaled_jvp(primals: tuple[Array, Scalar], tangents: tuple[Array, Scalar]) -> tuple[Array, Array]:
    return primals[0], primals[1] * tangents[0]


def _passes(model: Latent, keys: PRNGKeyArray, x: Row, given: Given, beta: Beta, penalty: Penalty | None) -> Terms:
    return bounds.over_samples(lambda own: _terms(model.forward(own, x, given), beta, penalty), keys)


def _terms(drawn: Pass, beta: Beta, penalty: Penalty | None) -> Terms:
    log_w = drawn.log_w
    ascent = log_w if is_one(beta) else drawn.log_likelihood + beta * (drawn.log_prior - drawn.log_q)
    return Terms(log_w, ascent, penalty and penalty(drawn.trace))


def is_one(beta: Beta) -> bool:
    # A traced weight may become 1 at some step: what is logged cannot depend on that.
    return isinstance(beta, float | int) and beta == 1


def values_of(log_w: Float[Array, " k"]) -> dict[str, Scalar]:
    return {"bound": bounds.iwae_bound(log_w), "elbo": bounds.elbo(log_w)}


def _scored(objective: Scalar, values: dict[str, Scalar], beta: Beta, penalty: Float[Array, " k"] | None) -> Scored:
    info = dict(values) if is_one(beta) else {**values, "objective": objective}
    if penalty is not None:
        info["penalty"] = penalty.mean()
        objective = objective - penalty.mean()
    return objective, jax.lax.stop_gradient(info)


def with_gradient_of(value: Scalar, source: Scalar) -> Scalar:
    return jax.lax.stop_gradient(value) + (source - jax.lax.stop_gradient(source))
