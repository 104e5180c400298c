r"""Tiny models whose every number is known exactly, and how a test shows that it would notice a mistake.

Closed forms and quadrature are written here apart from `reverie`, in NumPy where there is no gradient to check.
Use them with `jax.enable_x64(True)`: they name no dtype.

Where a model draws, the "key" may be the noise itself (an array of numbers): the expectation over keys is then a sum
over nodes, exact to rounding, and no test of an expectation needs a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.prob import bounds
from reverie.prob.contracts import Given, Latent

LOG_2PI = float(np.log(2 * np.pi))

#: Spec 6.6, measured apart from this code: x = 1.3, m = .3, log s = -.2.
GOLDEN_X, GOLDEN_M, GOLDEN_LOG_S = 1.3, 0.3, -0.2
GOLDEN_BOUNDS = {1: -1.83425858, 2: -1.747935, 3: -1.725229}
GOLDEN_LOG_P, GOLDEN_GRADIENT, GOLDEN_STL = -1.68801212, 0.30712084, 0.60017426


def noise(key: Any, shape: tuple[int, ...] = ()) -> Array:
    """Return standard normal noise from a key, or the "key" itself where it is the noise."""
    return jax.random.normal(key, shape) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def log_normal(x: Any, mean: Any = 0.0, log_scale: Any = 0.0) -> Any:
    return -0.5 * (LOG_2PI + ((x - mean) / jnp.exp(log_scale)) ** 2) - log_scale


class ScalarGaussian(Latent):
    """p(z) = N(0, 1), p(x|z) = N(a z + b, 1), q(z|x) = N(m, s^2): spec 6.6 with a decoder to learn."""

    m: Any = GOLDEN_M
    log_s: Any = GOLDEN_LOG_S
    a: Any = 1.0
    b: Any = 0.0

    def infer(self, key: PRNGKeyArray, x: Array, given: Given = None) -> Array:
        return self.m + jnp.exp(self.log_s) * noise(key)

    def log_q(self, h: Array, x: Array, given: Given = None) -> Array:
        return log_normal(h, self.m, self.log_s)

    def log_prior(self, h: Array, given: Given = None) -> Array:
        return log_normal(h)

    def log_p(self, x: Array, h: Array, given: Given = None) -> Array:
        return log_normal(h) + log_normal(x, self.a * h + self.b)

    def kl(self, x: Array, given: Given = None) -> Array:
        return 0.5 * (self.m**2 + jnp.exp(2 * self.log_s) - 1) - self.log_s

    def likelihood_term(self, x: Array) -> Array:
        """E_q[log p(x|z)], in closed form."""
        return -0.5 * (LOG_2PI + (x - self.a * self.m - self.b) ** 2 + self.a**2 * jnp.exp(2 * self.log_s))

    def elbo(self, x: Array) -> Array:
        """L_1 in closed form."""
        return self.likelihood_term(x) - self.kl(x)

    def log_likelihood(self, x: Array) -> Array:
        """log p(x) in closed form."""
        return log_normal(x, self.b, 0.5 * jnp.log(self.a**2 + 1))

    def bound(self, x: Array, k: int, n: int = 40) -> Array:
        """L_k by Gauss-Hermite over the k draws, from the densities alone; differentiable."""
        eps, weights = gauss_hermite(k, n)
        z = self.m + jnp.exp(self.log_s) * eps
        log_w = log_normal(z) + log_normal(x, self.a * z + self.b) - log_normal(z, self.m, self.log_s)
        return weights @ (jax.nn.logsumexp(log_w, axis=1) - np.log(k))


class Chain(Latent):
    """z2 ~ N(0, 1), z1|z2 ~ N(a z2, 1), x|z1 ~ N(b z1, 1); q(z1|x) = N(c x, s1^2), q(z2|z1) = N(d z1 + e, s2^2)."""

    a: Any = 0.8
    b: Any = 1.1
    c: Any = 0.5
    log_s1: Any = -0.3
    d: Any = 0.6
    e: Any = 0.2
    log_s2: Any = -0.1

    def infer(self, key: PRNGKeyArray, x: Array, given: Given = None) -> tuple[Array, Array]:
        eps = noise(key, (2,))
        z1 = self.c * x + jnp.exp(self.log_s1) * eps[0]
        return z1, self.d * z1 + self.e + jnp.exp(self.log_s2) * eps[1]

    def log_q(self, h: tuple[Array, Array], x: Array, given: Given = None) -> Array:
        return log_normal(h[0], self.c * x, self.log_s1) + log_normal(h[1], self.d * h[0] + self.e, self.log_s2)

    def log_prior(self, h: tuple[Array, Array], given: Given = None) -> Array:
        return log_normal(h[1]) + log_normal(h[0], self.a * h[1])

    def log_p(self, x: Array, h: tuple[Array, Array], given: Given = None) -> Array:
        return self.log_prior(h) + log_normal(x, self.b * h[0])

    def log_likelihood(self, x: Array) -> Array:
        return log_normal(x, 0.0, 0.5 * jnp.log(self.b**2 * (self.a**2 + 1) + 1))


class LinearGaussian(Latent):
    """p(h) = N(0, I), p(x|h) = N(W h + mu, s^2 I), q(h|x) = N(A (x - c), diag t^2): a VAE with no hidden layer."""

    W: Float[Array, "D q"]
    mu: Float[Array, " D"]
    log_s: Float[Array, ""]
    A: Float[Array, "q D"]
    c: Float[Array, " D"]
    log_t: Float[Array, " q"]

    def infer(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " q"]:
        return self.A @ (x - self.c) + jnp.exp(self.log_t) * noise(key, self.log_t.shape)

    def log_q(self, h: Array, x: Array, given: Given = None) -> Array:
        return log_normal(h, self.A @ (x - self.c), self.log_t).sum()

    def log_prior(self, h: Array, given: Given = None) -> Array:
        return log_normal(h).sum()

    def log_p(self, x: Array, h: Array, given: Given = None) -> Array:
        return self.log_prior(h) + log_normal(x, self.mean(h), self.log_s).sum()

    def mean(self, h: Array, given: Given = None) -> Array:
        return self.W @ h + self.mu

    def draw_prior(self, key: PRNGKeyArray, given: Given = None) -> Array:
        return noise(key, self.log_t.shape)

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Array, Array]:
        first, second = jax.random.split(key)
        h = self.draw_prior(first)
        return self.mean(h) + jnp.exp(self.log_s) * noise(second, self.mu.shape), h

    def kl(self, x: Array, given: Given = None) -> Array:
        mean = self.A @ (x - self.c)
        return 0.5 * (mean**2 + jnp.exp(2 * self.log_t) - 1 - 2 * self.log_t).sum()

    def log_likelihood(self, x: Float[Array, "n D"]) -> Float[Array, " n"]:
        """log N(x; mu, W W^T + s^2 I) of each row."""
        cov = self.W @ self.W.T + jnp.exp(2 * self.log_s) * jnp.eye(self.mu.size)
        gap = x - self.mu
        _, log_det = jnp.linalg.slogdet(cov)
        return -0.5 * (self.mu.size * LOG_2PI + log_det + (gap * jnp.linalg.solve(cov, gap.T).T).sum(1))


def ppca(x: np.ndarray, q: int) -> LinearGaussian:
    """Return the maximum-likelihood linear-Gaussian model of the rows (Tipping & Bishop 1999), its encoder exact."""
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    s2 = values[q:].mean()
    W = vectors[:, :q] * np.sqrt(values[:q] - s2)
    # W has orthogonal columns, so the posterior's covariance s^2 (W^T W + s^2 I)^-1 is diagonal.
    shrink = 1.0 / values[:q]
    arrays = (W, x.mean(0), 0.5 * np.log(s2), shrink[:, None] * W.T, x.mean(0), 0.5 * np.log(s2 * shrink))
    return LinearGaussian(*(jnp.asarray(a) for a in arrays))


def linear_data(rows: int = 300, width: int = 8, q: int = 3, seed: int = 0) -> np.ndarray:
    """Rows of a linear-Gaussian model, for `ppca`."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(width, q)) * np.array([2.0, 1.4, 0.9])[:q]
    return rng.normal(size=(rows, q)) @ W.T + rng.normal(size=width) + 0.5 * rng.normal(size=(rows, width))


class Discrete(Latent):
    """h in 0 .. 7, x in 0 .. 4, every probability in a table; a row x is an array of one number."""

    prior: Float[Array, " 8"]
    emission: Float[Array, "8 5"]
    recognition: Float[Array, "5 8"]

    @staticmethod
    def random(seed: int = 0) -> Discrete:
        rng = np.random.default_rng(seed)
        tables = (rng.normal(size=8), rng.normal(size=(8, 5)), rng.normal(size=(5, 8)))
        return Discrete(*(jax.nn.log_softmax(jnp.asarray(t)) for t in tables))

    def infer(self, key: PRNGKeyArray, x: Array, given: Given = None) -> Array:
        drawn = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        return jax.random.categorical(key, self.recognition[_cell(x)]) if drawn else key

    def log_q(self, h: Array, x: Array, given: Given = None) -> Array:
        return self.recognition[_cell(x), h]

    def log_prior(self, h: Array, given: Given = None) -> Array:
        return self.prior[h]

    def log_p(self, x: Array, h: Array, given: Given = None) -> Array:
        return self.prior[h] + self.emission[h, _cell(x)]

    def tables(self, x: int) -> tuple[np.ndarray, np.ndarray]:
        """Return q(h|x) and the weight w(h) for every h."""
        prior, emission, q = (np.exp(np.asarray(t, np.float64)) for t in (self.prior, self.emission, self.recognition))
        return q[x], prior * emission[:, x] / q[x]

    def log_likelihood(self, x: int) -> float:
        q, w = self.tables(x)
        return float(np.log(q @ w))

    def bound(self, x: int, k: int) -> float:
        """L_k by enumerating all 8^k draws."""
        q, w = self.tables(x)
        return float(sum(np.prod(q[list(h)]) * np.log(w[list(h)].mean()) for h in product(range(8), repeat=k)))


def _cell(x: Array) -> Array:
    return jnp.asarray(x).reshape(-1)[0].astype(int)


def gauss_hermite(k: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes (n^k, k) and weights (n^k,) of the expectation over k standard normals."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    grid = np.stack([a.ravel() for a in np.meshgrid(*[nodes] * k, indexing="ij")], axis=-1)
    mass = np.prod(np.stack([a.ravel() for a in np.meshgrid(*[weights] * k, indexing="ij")]), axis=0)
    return grid, mass / mass.sum()


def with_arrays(model: Any) -> Any:
    """Return `model` with every number an array, so that each can be differentiated."""
    return jax.tree.map(jnp.asarray, model)


def assert_same(found: Any, wanted: Any, tolerance: float = 1e-8) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), found, wanted)


@contextmanager
def given_noise() -> Iterator[None]:
    """Within: the "key" that a surrogate is given is the array of its samples' noise, one row a sample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "sample_keys", lambda key, k, start=0: key)
        yield


def assert_kills(check: Callable[..., None], right: Any, *mutants: Any) -> None:
    """Assert that `check` passes what is right and fails every mutant: a test that cannot fail proves nothing."""
    check(right)
    for mutant in mutants:
        with pytest.raises(AssertionError):
            check(mutant)
            pytest.fail(f"a mutant lives: {getattr(mutant, '__name__', mutant)}")
