"""Surrogates on networks, in float32 as they train: names of axes, bits, extremes, and what the compiler merges."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.oracles import assert_kills, log_normal

from reverie.nn.blocks import Dense, live
from reverie.prob import bounds
from reverie.prob.contracts import Given, Latent
from reverie.prob.surrogates import SURROGATES, objective

WIDTH, HIDDEN, CODE, ROWS = 30, 24, 5, 6


class Small(Latent):
    """A Bernoulli VAE of two dense layers; `given` shifts the logits."""

    encoder: Dense
    centre: Dense
    spread: Dense
    decoder: Dense
    logits: Dense

    @staticmethod
    def init(norm: bool = False, width: int = WIDTH, hidden: int = HIDDEN) -> Small:
        keys = jax.random.split(jax.random.key(0), 5)
        shapes = [(width, hidden, "tanh", norm), (hidden, CODE, "linear"), (hidden, CODE, "linear"),
                  (CODE, hidden, "tanh", norm), (hidden, width, "linear")]  # fmt: skip
        return Small(*(Dense.init(key, *shape) for key, shape in zip(keys, shapes, strict=True)))

    def posterior(self, x: Any) -> tuple[Any, Any]:
        inside = self.encoder(x)[0]
        return self.centre(inside)[0], self.spread(inside)[0]

    def infer(self, key: Any, x: Any, given: Given = None) -> Any:
        mean, log_scale = self.posterior(x)
        return mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape)

    def log_q(self, h: Any, x: Any, given: Given = None) -> Any:
        return log_normal(h, *self.posterior(x)).sum()

    def log_prior(self, h: Any, given: Given = None) -> Any:
        return log_normal(h).sum()

    def log_p(self, x: Any, h: Any, given: Given = None) -> Any:
        a = self.logits(self.decoder(h)[0])[0] + (0.0 if given is None else given)
        return self.log_prior(h) + (x * a - jax.nn.softplus(a)).sum()

    def kl(self, x: Any, given: Given = None) -> Any:
        mean, log_scale = self.posterior(x)
        return 0.5 * (mean**2 + jnp.exp(2 * log_scale) - 1 - 2 * log_scale).sum()


def rows(given: Any = None, width: int = WIDTH, n: int = ROWS) -> dict[str, Any]:
    x = (np.random.default_rng(0).random((n, width)) < 0.4).astype(np.float32)
    return {"x": jnp.asarray(x), "given": given, "step": jnp.asarray(3, jnp.int32)}


def loss_and_slope(maximise: Any, model: Any, batch: Any, compiled: bool = True) -> tuple[Any, Any, Any]:
    def loss_of(m: Any) -> Any:
        loss, carry, info = maximise(m, batch, "carry", jax.random.key(1))
        assert carry == "carry"
        return loss, info

    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    step = jax.value_and_grad(lambda a: loss_of(eqx.combine(a, rest)), has_aux=True)
    (loss, info), slope = (jax.jit(step) if compiled else step)(arrays)
    return loss, info, slope


def finite(tree: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def same_bits(a: Any, b: Any) -> bool:
    return all(bool((x == y).all()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# The player's objective


@pytest.mark.parametrize("name", SURROGATES)
def test_the_loss_is_minus_the_mean_over_rows_each_with_its_own_key_and_given(name: str) -> None:
    model, k = Small.init(), 3
    batch = rows(jnp.asarray(np.random.default_rng(1).normal(size=(ROWS, 1)), jnp.float32))
    loss, info, _ = loss_and_slope(objective(name, k), model, batch)
    keys = jax.random.split(jax.random.key(1), ROWS)
    alone = jax.jit(lambda key, x, given: SURROGATES[name](model, key, x, given, k))
    each = [alone(*row) for row in zip(keys, batch["x"], batch["given"], strict=True)]
    scalars = np.array([float(scalar) for scalar, _ in each])
    assert float(loss) == pytest.approx(-scalars.mean(), rel=1e-5)
    assert scalars.std() > 0.1, "rows differ, so a sum or a forgotten row would show"
    for logged, value in info.items():
        assert float(value) == pytest.approx(np.mean([float(i[logged]) for _, i in each]), rel=1e-5)


def test_the_kl_weight_is_read_at_the_step_of_the_batch() -> None:
    model, batch = Small.init(), rows()
    loss, info, _ = loss_and_slope(objective("elbo-analytic", 1, lambda step: step / 6), model, batch)
    kl = float(jax.vmap(model.kl)(batch["x"]).mean())
    assert float(info["objective"]) == pytest.approx(-float(loss), rel=1e-6)
    assert float(info["objective"] - info["elbo"]) == pytest.approx(kl / 2, rel=1e-3)


# Batch normalisation


@pytest.mark.parametrize(("name", "k"), [("elbo", 1), *((name, 3) for name in SURROGATES)])
def test_live_statistics_find_both_axes_in_every_surrogate(name: str, k: int) -> None:
    loss, info, slope = loss_and_slope(objective(name, k), live(Small.init(norm=True)), rows())
    assert finite((loss, info, slope))
    assert float(jnp.abs(slope.encoder.linear.weight).max()) > 0
    still = Small.init(norm=True)
    frozen = jax.jit(lambda batch: objective(name, k)(still, batch, None, jax.random.key(1))[0])(rows())
    assert float(loss) != pytest.approx(float(frozen), rel=1e-3), "live statistics are not the frozen ones"


def test_live_statistics_are_those_of_all_rows_and_samples() -> None:
    """The decoder's layer by hand: mean and variance over rows times samples."""
    model, batch, k = Small.init(norm=True), rows(), 3
    loss, _, _ = loss_and_slope(objective("elbo", k), live(model), batch)
    keys = jax.vmap(lambda key: bounds.sample_keys(key, k))(jax.random.split(jax.random.key(1), ROWS))
    noise = jax.vmap(jax.vmap(lambda key: jax.random.normal(key, (CODE,))))(keys)

    def layer(dense: Dense, a: Any) -> Any:
        pre = a @ dense.linear.weight
        axes = tuple(range(pre.ndim - 1))
        return jnp.tanh((pre - pre.mean(axes)) / jnp.sqrt(pre.var(axes) + 1e-10))

    inside = layer(model.encoder, batch["x"])
    mean, log_scale = (inside @ d.linear.weight + d.linear.bias for d in (model.centre, model.spread))
    h = mean[:, None] + jnp.exp(log_scale)[:, None] * noise
    a = layer(model.decoder, h) @ model.logits.linear.weight
    likelihood = (batch["x"][:, None] * a - jax.nn.softplus(a)).sum(-1)
    gap = (log_normal(h, mean[:, None], log_scale[:, None]) - log_normal(h)).sum(-1)
    assert float(loss) == pytest.approx(-float((likelihood - gap).mean()), rel=1e-4)


# k = 1


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_one_sample_of_the_iwae_is_the_elbo_to_the_bit(compiled: bool, norm: bool) -> None:
    # Compiled, wide enough that the sums of two programs would be ordered differently.
    width, hidden = (784, 200) if compiled else (WIDTH, HIDDEN)
    model, batch = live(Small.init(norm, width, hidden)), rows(width=width)
    elbo = loss_and_slope(objective("elbo", 1), model, batch, compiled)
    iwae = loss_and_slope(objective("iwae", 1), model, batch, compiled)
    assert same_bits(elbo[0], iwae[0]) and same_bits(elbo[2], iwae[2])
    assert same_bits(elbo[1]["elbo"], iwae[1]["bound"])
    assert not same_bits(elbo[0], loss_and_slope(objective("iwae", 2), model, batch, compiled)[0])


# T25


@pytest.mark.parametrize("logit", [1e3, -1e3])
@pytest.mark.parametrize("name", SURROGATES)
def test_extreme_logits_give_finite_losses_and_gradients(name: str, logit: float) -> None:
    model = eqx.tree_at(lambda m: m.logits.linear.bias, Small.init(), jnp.full(WIDTH, logit))
    batch = rows()
    loss, info, slope = loss_and_slope(objective(name, 4), model, batch)
    assert finite((loss, info, slope))
    wrong = float((batch["x"] != (logit > 0)).sum(1).mean())
    assert float(loss) == pytest.approx(1e3 * wrong, rel=0.02)

    def check(softplus: Any) -> None:
        assert finite(jax.grad(lambda a: a - softplus(a))(jnp.asarray(logit)))
        assert finite(softplus(jnp.asarray(logit)))

    # At -1e3 the naive form underflows to a right answer; only the other sign can show it.
    assert_kills(check, jax.nn.softplus, *((lambda a: jnp.log(1 + jnp.exp(a)),) if logit > 0 else ()))


class Spread(Small):
    """A decoder that prefers one direction of h beyond all measure."""

    def log_p(self, x: Any, h: Any, given: Given = None) -> Any:
        return super().log_p(x, h, given) + given * h[0]


@pytest.mark.parametrize("scale", [700.0, 1e4])
@pytest.mark.parametrize("name", SURROGATES)
def test_weights_that_spread_without_bound_give_finite_gradients(name: str, scale: float) -> None:
    model = Spread(**vars(Small.init()))
    loss, info, slope = loss_and_slope(objective(name, 5), model, rows(jnp.full((ROWS,), scale)))
    assert finite((loss, info, slope))
    assert float(jnp.abs(slope.centre.linear.bias).max()) > 1.0
    if "bound" in info:
        assert float(info["bound"] - info["elbo"]) > scale / 10, "the weights did spread"


# What the compiler merges


def flops(name: str, k: int) -> float:
    model, batch = Small.init(), rows()
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    loss = lambda a: objective(name, k)(eqx.combine(a, rest), batch, None, jax.random.key(0))[0]  # noqa: E731
    return float(jax.jit(jax.grad(loss)).lower(arrays).compile().cost_analysis()["flops"])


def test_the_second_pass_of_dreg_costs_nothing_and_one_backward_saves_its_share() -> None:
    plain = flops("iwae", 20)
    assert flops("dreg", 20) < 1.15 * plain, "unmerged, its forward pass would be a third more"
    assert flops("stl", 20) < 1.15 * plain
    assert flops("one-backward", 20) < 0.55 * plain
