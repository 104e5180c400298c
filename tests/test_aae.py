"""The adversarial autoencoder: who moves what, what a blind discriminator does, and the law that codes come to have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from tests.games import engine, moved_after, pixels
from tests.oracles import assert_kills

import reverie
from reverie.errors import ReverieError
from reverie.models.implicit import aae
from reverie.models.implicit._nets import error
from reverie.nn.laws import bernoulli_log_prob

SMALL: dict[str, Any] = {"code": 2, "hidden": (5,), "discriminator_hidden": (6,), "batch": 10}


def untrained(**settings: Any) -> aae.AAE:
    return engine("aae", pixels(classes=3), **{**SMALL, **settings}).init().model


@pytest.mark.parametrize(
    ("player", "parts"), [(0, {"encoder", "decoder"}), (1, {"discriminator"}), (2, {"encoder"})],
    ids=["reconstruction", "discriminator", "encoder"],
)  # fmt: skip
def test_each_player_moves_what_is_its_own(player: int, parts: set[str]) -> None:
    assert moved_after(engine("aae", pixels(), slice(player, player + 1), **SMALL)) == parts


def test_a_blind_discriminator_pulls_at_nobody() -> None:
    model, batch = untrained(), {"x": jnp.asarray(pixels().rows("train")[:10]), "given": None}
    blind = eqx.tree_at(lambda m: m.discriminator.last.weight, model, jnp.zeros((6, 1)))

    def check(found: aae.AAE) -> None:
        loss = lambda m: aae.deceiving(m, batch, None, jax.random.key(0))[0]  # noqa: E731
        pull = jax.grad(lambda encoder: loss(eqx.tree_at(lambda m: m.encoder, found, encoder)))(found.encoder)
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(pull)) == 0.0
        assert abs(float(aae.discriminating(found, batch, None, jax.random.key(0))[2]["value"]) + np.log(4)) < 1e-6

    assert_kills(check, blind, model)


def test_what_is_given_back_is_judged_by_the_sum_over_columns_that_there_are() -> None:
    rng = np.random.default_rng(0)
    x, a, there = rng.uniform(size=(4, 3)), rng.normal(size=(4, 3)), np.array([1.0, 0.0, 1.0])
    squares = (((x - 1 / (1 + np.exp(-a))) ** 2) * there).sum(1).mean()
    with jax.enable_x64(True):
        args = (jnp.asarray(x), jnp.asarray(a), jnp.asarray(there))
        np.testing.assert_allclose(error(*args, False, True), (squares / 2, squares))
        np.testing.assert_allclose(error(*args, True, False)[0], (((x - a) ** 2) * there).sum(1).mean() / 2)
        entropy = -(np.asarray(bernoulli_log_prob(args[0], args[1])) * there).sum(1).mean()
        np.testing.assert_allclose(error(*args, False, False), (entropy, squares))


def test_a_gaussian_encoder_draws_its_codes_and_tells_their_mean() -> None:
    """4,000 codes of one row: mean and spread as the encoder says, |z| < 4.5."""
    model, x = untrained(encoder="gaussian"), jnp.asarray(pixels().rows("train")[0])
    mean, log_scale = np.split(np.asarray(model.encoder(x), np.float64), 2)
    np.testing.assert_allclose(model.encode(x), mean, rtol=1e-5)
    z = np.asarray(jax.vmap(lambda k: model.coded(x, k))(jax.random.split(jax.random.key(0), 4000)), np.float64)
    assert (np.abs(z.mean(0) - mean) < 4.5 * np.exp(log_scale) / 4000**0.5).all()
    np.testing.assert_allclose(z.std(0), np.exp(log_scale), rtol=4.5 / 8000**0.5)
    plain = untrained()
    np.testing.assert_array_equal(plain.coded(x, jax.random.key(0)), plain.coded(x))


def test_draws_are_decoded_from_the_prior_and_rows_from_their_codes() -> None:
    model, x = untrained(spread=3.0, conditional=True), jnp.asarray(pixels().rows("train")[0])
    e, given = jnp.asarray([0.5, -1.0]), jax.nn.one_hot(1, 3)
    joined = jnp.concatenate([3.0 * e, given])
    np.testing.assert_allclose(model.mean(e, given), model.decoder(joined), rtol=1e-6)
    assert abs(float(model.log_prior(e)) - scipy.stats.norm.logpdf([0.5, -1.0]).sum()) < 1e-5
    back = model.decoder(jnp.concatenate([model.encode(x), given]))
    np.testing.assert_allclose(model.reconstruct(jax.random.key(0), x, given), back, rtol=1e-6)
    with pytest.raises(ReverieError, match="class-conditional"):
        model.mean(e)


def test_codes_come_to_have_the_law_that_they_are_held_to() -> None:
    """Codes of one number, of rows on a curve of two humps, after 2,000 steps: Kolmogorov-Smirnov against N(0, 4).

    Codes of 200 rows pass at 1 in 100; codes of all are within a tenth of the law, those before training nowhere near.
    """
    rng = np.random.default_rng(0)
    t = np.where(rng.random(1000) < 0.3, rng.normal(-2.0, 0.4, 1000), rng.normal(1.0, 0.6, 1000))
    x = (np.stack([t, t**2 - 3.0], axis=1) + 0.05 * rng.normal(size=(1000, 2))).astype(np.float32)
    data = pixels(likelihood="gaussian")
    data = type(data)(**{**data.__dict__, "splits": {n: type(s)(x, None) for n, s in data.splits.items()}})
    found = engine("aae", data, epochs=200.0, code=1, spread=2.0, hidden=(32,), discriminator_hidden=(32,), batch=100)
    state = found.advance(found.init(), 2000)
    gap = lambda model, rows: scipy.stats.kstest(  # noqa: E731
        np.asarray(jax.vmap(model.encode)(jnp.asarray(rows)))[:, 0], scipy.stats.norm(0, 2).cdf
    )
    assert gap(found.init().model, x).statistic > 0.3
    assert gap(state.average, x[:200]).pvalue > 0.01 and gap(state.average, x).statistic < 0.1


def test_classes_have_components_of_their_own(tmp_path: Path) -> None:
    assert untrained(prior="mixture", conditional=True).prior.components == 3
    assert untrained(prior="mixture").prior.components == 3
    with pytest.raises(ReverieError, match="3 classes"):
        untrained(prior="mixture", conditional=True, components=4)
    with pytest.raises(ReverieError, match="swiss-roll"):
        untrained(prior="swiss-roll", code=3)


def test_told_the_class_it_draws_and_fills_in_that_class(tmp_path: Path) -> None:
    """Nearest class means of the training rows tell 6 in 10 draws of the class that was asked for."""
    run = reverie.train(
        "aae", "digits", run=tmp_path / "run", **{**aae.TINY, "conditional": True, "epochs": 80, "rate": 2e-3}
    )
    rows, y = run.data.restore(run.data.rows("train")), run.data.labels("train")
    means = np.stack([rows[y == c].mean(0) for c in range(10)])
    drawn = run.sample(200).reshape(200, -1)
    told = ((drawn[:, None] - means) ** 2).sum(2).argmin(1)
    assert (told == np.arange(200) % 10).mean() > 0.6
    x = rows[y == 3][:5]
    filled = run.impute(x, np.tile(np.arange(64) < 40, (5, 1)), label=3, iterations=3).reshape(5, -1)
    np.testing.assert_array_equal(filled[:, :40], x[:, :40])
    assert run.encode(x, label=3).shape == (5, 3)
