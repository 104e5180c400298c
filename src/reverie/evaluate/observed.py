r"""A generator seen through Gaussian noise, so that it has a likelihood that annealing can bound.

.. math:: z \sim p(z), \qquad x \mid z \sim \mathcal N(G(z), s^2 I)

The protocol of Wu et al. (2017): a generator alone gives rows off its manifold no density at all; with this noise its
:math:`\log p(x)` is bounded from below on real rows by annealed importance sampling, and from both sides on rows
simulated from it (`annealed`).  The variance :math:`s^2` is a part of the model: numbers of different ones are of
different models, and the record's estimator names it.  Unless it is given it is chosen on validation rows.

Grey rows stay grey, and the density is of cells in [0, 1]; that of real-valued rows is in the file's own units.

Reference: Wu, Burda, Salakhutdinov & Grosse, *On the Quantitative Analysis of Decoder-Based Generative Models*, 2017.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError, an
from reverie.estimate import Estimate
from reverie.evaluate.annealed import annealed
from reverie.evaluate.certify import class_frequencies
from reverie.evaluate.classes import classes_of
from reverie.evaluate.parzen import judged_view
from reverie.prob.contracts import Given, Implicit, Latent, Row

NAME = "noisy_log_likelihood"
#: Variances tried first, how far beyond they may go, and the short annealing that chooses.
VARIANCES, _ENDS = (0.005, 0.01, 0.025, 0.05, 0.1), (1e-4, 10.0)
_ROWS = 16
_PLAN: dict[str, Any] = {"chains": 4, "temperatures": 100, "pilot": 50, "start": "prior"}


class Observed(Latent):
    r"""A generator (`Implicit`, or the decoder of a `Latent`) with :math:`p(x \mid z) = \mathcal N(G(z), s^2 I)`.

    Its inference net is the prior.  A missing cell has no share in the density.

    Attributes:
        generator: gives z, its density, and the mean of x.
        variance: :math:`s^2`, in the model's units.
        rule: how the variance was come by.
    """

    generator: Any
    variance: Float[Array, ""]
    rule: str = eqx.field(static=True, default="")

    @property
    def conditional(self) -> bool:
        return classes_of(self.generator) > 0

    @property
    def classes(self) -> int:
        return classes_of(self.generator)

    def infer(self, key: PRNGKeyArray, x: Row, given: Given = None) -> PyTree:
        return self.generator.draw_prior(key, given)

    def log_q(self, h: PyTree, x: Row, given: Given = None) -> Float[Array, ""]:
        return self.log_prior(h, given)

    def log_p(self, x: Row, h: PyTree, given: Given = None) -> Float[Array, ""]:
        there = ~jnp.isnan(x)
        gap = jnp.where(there, x, 0.0) - jnp.where(there, self.generator.mean(h, given), 0.0)
        noise = -0.5 * jnp.vdot(gap, gap) / self.variance
        return self.log_prior(h, given) + noise - 0.5 * there.sum() * jnp.log(2 * jnp.pi * self.variance)

    def log_prior(self, h: PyTree, given: Given = None) -> Float[Array, ""]:
        return self.generator.log_prior(h, given)

    def draw_prior(self, key: PRNGKeyArray, given: Given = None) -> PyTree:
        return self.generator.draw_prior(key, given)

    def mean(self, h: PyTree, given: Given = None) -> Row:
        return self.generator.mean(h, given)

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Row, PyTree]:
        first, second = jax.random.split(key)
        h = self.draw_prior(first, given)
        mean = self.mean(h, given)
        return mean + jnp.sqrt(self.variance) * jax.random.normal(second, mean.shape, mean.dtype), h


def taken(model: Any, data: Dataset, estimator: str, more: dict[str, Any], seed: int = 0) -> Any:
    """Return the model that ``ais`` anneals: with noise where it is implicit or a ``variance`` (taken out) is given."""
    if estimator != "ais" or isinstance(model, Observed) or not (isinstance(model, Implicit) or "variance" in more):
        return model
    if not isinstance(model, Implicit | Latent):
        raise ReverieError(f"variance: {an(type(model).__name__)} has no decoder to give it to; leave it out")
    return observe(model, data, more.pop("variance", None), seed=seed)


def observe(model: Any, data: Dataset, variance: float | None = None, *, seed: int = 0) -> Observed:
    """Return the generator with noise of `variance`, or of the one that is best on validation rows.

    Raises:
        ReverieError: for a variance that is none, or rows that have no density.
    """
    data = judged_view(data, "variance", "densities around what is generated")
    if variance is not None:
        if not 0 < variance < np.inf:
            raise ReverieError(f"variance: {variance} is not a positive number; 0.025 is usual for pixels in [0, 1]")
        return Observed(model, jnp.asarray(variance, jnp.float32), f"variance {variance:g}, as given")
    tried: dict[float, float] = {}
    best, wanted = VARIANCES[0], list(VARIANCES)
    while wanted:
        tried |= {v: _short(model, data, v, seed) for v in wanted}
        best = max(tried, key=lambda v: tried[v])
        further = {min(tried): best / 2, max(tried): best * 2}.get(best)
        wanted = [further] if further is not None and _ENDS[0] < further < _ENDS[1] else []
    rows = min(_ROWS, data.size("valid"))
    rule = f"variance {best:g}, the best of {len(tried)} from {min(tried):g} to {max(tried):g} by a short annealing "
    rule += f"({_PLAN['chains']}x{_PLAN['temperatures']}) of {rows} validation rows"
    return Observed(model, jnp.asarray(best, jnp.float32), rule)


def _short(model: Any, data: Dataset, variance: float, seed: int) -> float:
    noisy = Observed(model, jnp.asarray(variance, jnp.float32))
    prior = class_frequencies(data) if classes_of(noisy) else None
    found = annealed(noisy, data.rows("valid", 0, _ROWS), seed=seed, class_prior=prior, **_PLAN)
    return float(np.nan_to_num(found.values, nan=-np.inf).mean())


def named(model: Observed, estimator: str) -> str:
    """Return the name of an estimator of a generator's density, which holds the variance."""
    return f"{estimator}-variance-{float(model.variance):.4g}"


def certified(record: Estimate, model: Observed) -> dict[str, Estimate]:
    """Return the record of annealing as what it is: the density of the generator with its noise."""
    note = f"of rows with normal noise around the generator: {model.rule}" + (f"; {record.note}" if record.note else "")
    return {NAME: dataclasses.replace(record, measure="density", note=note)}
