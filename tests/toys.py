"""A linear-Gaussian model, with or without classes, and a data set of its size: shared by the evaluation's tests."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy.stats import multivariate_normal

from reverie.data.dataset import Dataset, Rows
from reverie.prob.contracts import Latent


class Linear(Latent):
    r"""x = W h + b_y + noise: p(x) is Gaussian.  q is wider than the posterior, so that weights are bounded."""

    weight: jax.Array
    offset: jax.Array
    spread: jax.Array
    wide: jax.Array
    classes: int = eqx.field(static=True, default=0)

    @property
    def conditional(self) -> bool:
        return self.classes > 0

    def centre(self, given: Any) -> jax.Array:
        return self.offset if given is None else given @ self.offset

    def posterior_law(self, x: jax.Array, given: Any) -> dist.Distribution:
        precision = jnp.eye(self.weight.shape[1]) + self.weight.T @ self.weight / self.spread**2
        covariance = jnp.linalg.inv(precision)
        mean = covariance @ self.weight.T @ (x - self.centre(given)) / self.spread**2
        return dist.Normal(mean, self.wide * jnp.sqrt(jnp.diag(covariance))).to_event(1)

    def infer(self, key, x, given=None):
        return self.posterior_law(x, given).rsample(key)

    def log_q(self, h, x, given=None):
        return self.posterior_law(x, given).log_prob(h)

    def log_prior(self, h, given=None):
        return dist.Normal().expand(h.shape).to_event(1).log_prob(h)

    def log_p(self, x, h, given=None):
        law = dist.Normal(self.weight @ h + self.centre(given), self.spread).to_event(1)
        return self.log_prior(h, given) + law.log_prob(x)

    def draw_prior(self, key, given=None):
        return jax.random.normal(key, (self.weight.shape[1],))

    def mean(self, h, given=None):
        return self.weight @ h + self.centre(given)

    def sample(self, key, given=None):
        first, second = jax.random.split(key)
        h = self.draw_prior(first, given)
        return self.mean(h, given) + self.spread * jax.random.normal(second, (self.weight.shape[0],)), h

    def truth(self, rows: np.ndarray, given: Any = None) -> np.ndarray:
        covariance = np.asarray(
            self.weight @ self.weight.T + self.spread**2 * jnp.eye(self.weight.shape[0]), np.float64
        )
        return multivariate_normal(np.asarray(self.centre(given), np.float64), covariance).logpdf(rows)


WEIGHT = jnp.asarray([[1.0, 0.2], [-0.5, 1.0], [0.3, -0.4], [0.8, 0.1]])


def linear(wide: float = 1.5, classes: int = 0) -> Linear:
    offset = jnp.zeros(4) if not classes else jnp.asarray([[1.0, 0.0, 0.5, 0.0], [-1.0, 0.3, 0.0, 0.0]])[:classes]
    return Linear(WEIGHT, offset, jnp.asarray(0.7), jnp.asarray(wide), classes)


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def dataset(n: int = 60, **changes: Any) -> Dataset:
    labels = np.arange(n) % 2
    splits = {name: Rows(rows_of(n, i), labels) for i, name in enumerate(("train", "valid", "test"))}
    fields = {"name": "toy", "source": "toy", "splits": splits, "shape": (4,), "likelihood": "gaussian",
              "binarisation": "as-is", "hash": "abc", "class_names": ("a", "b")}  # fmt: skip
    return Dataset(**{**fields, **changes})
