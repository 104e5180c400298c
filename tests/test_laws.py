"""The laws of `nn.laws` against those of NumPyro and SciPy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.special import expit, log_expit
from tests.oracles import assert_kills

from reverie.nn import laws

LOGITS = np.array([-300.0, -30.0, -2.5, -1e-4, 0.0, 1e-4, 0.7, 18.0, 300.0], np.float32)


def truth(x: np.ndarray) -> np.ndarray:
    a = LOGITS.astype(np.float64)
    return x * log_expit(a) + (1 - x) * log_expit(-a)


@pytest.mark.parametrize("x", [0.0, 1.0, 0.3])
def test_the_density_of_logits_holds_in_both_tails(x: float) -> None:
    rows = np.full_like(LOGITS, x)

    def check(log_prob: Any) -> None:
        np.testing.assert_allclose(
            np.asarray(log_prob(jnp.asarray(rows), jnp.asarray(LOGITS))), truth(rows), rtol=2e-6, atol=2e-6
        )

    by_probability = lambda x, a: jnp.log(jnp.where(x > 0, jax.nn.sigmoid(a), 1 - jax.nn.sigmoid(a)))  # noqa: E731
    unstable = lambda x, a: x * a - jnp.log(1 + jnp.exp(a))  # noqa: E731
    assert_kills(check, laws.bernoulli_log_prob, by_probability, unstable)


def test_its_gradient_is_that_of_its_formula() -> None:
    x = jnp.asarray([0.0, 1.0, 0.3, 0, 1, 1, 0, 1, 0])
    by_x, by_logits = jax.grad(lambda *both: laws.bernoulli_log_prob(*both).sum(), (0, 1))(x, jnp.asarray(LOGITS))
    np.testing.assert_allclose(by_x, LOGITS, rtol=1e-6)
    np.testing.assert_allclose(by_logits, np.asarray(x) - expit(LOGITS.astype(np.float64)), rtol=1e-5, atol=1e-6)
    one = lambda a: laws.bernoulli_log_prob(jnp.float32(1.0), a)  # noqa: E731
    assert float(jax.grad(jax.grad(one))(jnp.float32(0.7))) == pytest.approx(-float(expit(0.7) * expit(-0.7)), rel=1e-5)


def test_the_law_is_numpyro_s_in_all_else() -> None:
    ours, theirs = (
        laws.Bernoulli(jnp.asarray(LOGITS)).to_event(1),
        dist.BernoulliLogits(jnp.asarray(LOGITS)).to_event(1),
    )
    x = theirs.sample(jax.random.key(0))
    assert (ours.sample(jax.random.key(0)) == x).all() and (ours.mean == theirs.mean).all()
    assert float(ours.log_prob(x)) == pytest.approx(float(theirs.log_prob(x)), rel=1e-6)
    assert ours.log_prob(jnp.stack([x, x])).shape == (2,)
