"""The adversarial game where it can be counted, its players' turns, and what the networks are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from tests.games import engine, moved_after, pixels, turns
from tests.oracles import assert_kills

import reverie
from reverie import training
from reverie.errors import ReverieError
from reverie.models.implicit import _play as play
from reverie.models.implicit import gan
from reverie.models.implicit._nets import Critic, uniform_weights
from reverie.models.implicit._priors import Prior
from reverie.nn.blocks import Linear
from reverie.train.recipe import Brief

#: Laws on four outcomes, in eighths: lists of outcomes in which each is as often as it is likely.
DATA, OTHER = np.repeat(np.arange(4), [3, 1, 2, 2]), np.repeat(np.arange(4), [1, 4, 1, 2])
SMALL: dict[str, Any] = {"latent": 3, "hidden": (5,), "discriminator_hidden": (6,), "batch": 10}


def law(outcomes: np.ndarray) -> np.ndarray:
    return np.bincount(outcomes, minlength=4) / len(outcomes)


def best_logits(mine: np.ndarray) -> Any:
    """Ascend V in a table of log-odds by its own gradient."""
    loss = lambda a: play.discriminator_loss(a[DATA], a[mine])  # noqa: E731
    return jax.lax.fori_loop(0, 4000, lambda _, a: a - 2.0 * jax.grad(loss)(a), jnp.zeros(4))


@pytest.mark.parametrize("mine", [OTHER, DATA], ids=["another", "equal"])
def test_the_best_discriminator_and_its_value(mine: np.ndarray) -> None:
    with jax.enable_x64(True):
        a, p, q = best_logits(mine), law(DATA), law(mine)
        np.testing.assert_allclose(jax.nn.sigmoid(a), p / (p + q), atol=1e-6)
        half = (p + q) / 2
        divergence = 0.5 * (p * np.log(p / half)).sum() + 0.5 * (q * np.log(q / half)).sum()
        assert abs(float(play.value(a[DATA], a[mine])) - (-np.log(4) + 2 * divergence)) < 1e-9
        assert abs(float(-2 * play.discriminator_loss(a[DATA], a[mine]) - play.value(a[DATA], a[mine]))) < 1e-12


@pytest.mark.parametrize("loss", ["minimax", "non-saturating"])
def test_the_generator_rests_where_and_only_where_the_laws_agree(loss: Any) -> None:
    with jax.enable_x64(True):
        each = lambda a: jax.vmap(lambda one: play.generator_loss(one[None], loss))(a)  # noqa: E731

        def slope(mine: np.ndarray) -> np.ndarray:
            losses, theta = each(best_logits(mine)), jnp.log(law(mine))
            return np.asarray(jax.grad(lambda t: jax.nn.softmax(t) @ losses)(theta))

        assert np.abs(slope(DATA)).max() < 1e-7
        for counts in ([1, 4, 1, 2], [3, 2, 1, 2], [2, 2, 2, 2]):
            assert np.abs(slope(np.repeat(np.arange(4), counts))).max() > 1e-2


def test_the_two_losses_pull_alike_with_the_known_ratio() -> None:
    b = jnp.asarray([-9.0, -1.0, 0.0, 2.0])
    pull = {name: jax.grad(lambda x, n=name: play.generator_loss(x, n))(b) for name in ("minimax", "non-saturating")}
    d = np.asarray(jax.nn.sigmoid(b))
    np.testing.assert_allclose(pull["non-saturating"] / pull["minimax"], (1 - d) / d, rtol=1e-4)
    assert float(play.discriminator_loss(jnp.asarray([1e3, -1e3]), jnp.asarray([1e3, -1e3]))) == 500.0  # no overflow


def test_smoothed_targets_have_their_best_at_their_own_odds() -> None:
    # Alone with the data, told 0.9, the best log-odds are those of 0.9.
    a = jnp.full(1, float(np.log(9.0)))
    slope = jax.grad(lambda x: play.discriminator_loss(x, jnp.full(1, -40.0), 0.1))(a)
    assert abs(float(slope[0])) < 1e-6


def test_each_player_moves_its_own_network_alone() -> None:
    data = pixels()
    assert moved_after(engine("gan", data, slice(0, 1), **SMALL)) == {"discriminator"}
    assert moved_after(engine("gan", data, slice(1, 2), **SMALL)) == {"generator"}


def test_the_discriminator_has_k_turns_to_one_and_its_vectors_go_on() -> None:
    found = engine("gan", pixels(), discriminator_steps=3, spectral=True, **SMALL)
    start = found.init()
    assert turns(start) == [0, 0]
    before = [np.array(u) for u in start.carry]
    after = found.advance(start, 4)
    assert turns(after) == [12, 4]
    # The power iteration's vectors are what a checkpoint must hold, too; of one column the vector is always 1.
    assert all(not np.array_equal(a, b) for a, b in zip(before[:-1], after.carry[:-1], strict=True))


def test_a_maxout_unit_is_the_largest_of_its_pieces() -> None:
    rng = np.random.default_rng(0)
    critic = Critic.init(jax.random.key(0), 4, (3,), pieces=2)
    x = rng.normal(size=(5, 4)).astype(np.float32)
    weight, last = np.asarray(critic.layers[0].weight), np.asarray(critic.last.weight)

    def check(found: Critic) -> None:
        wanted = [
            sum(max(row @ weight[:, 2 * unit + piece] for piece in range(2)) * last[unit, 0] for unit in range(3))
            for row in x
        ]
        np.testing.assert_allclose(found(jnp.asarray(x)), wanted, rtol=1e-4, atol=1e-5)

    assert_kills(check, critic, Critic(critic.layers, Linear(jnp.ones((6, 1)), jnp.zeros(1)), 1))


def test_dropout_leaves_out_its_share_and_scales_the_rest() -> None:
    """One linear map of ones: the mean over 4,000 masks is what it is without, |z| < 4.5."""
    critic = Critic((), Linear(jnp.ones((50, 1)), jnp.zeros(1)), 1, (0.2, 0.5))
    found = np.asarray(critic(jnp.ones((4000, 50)), jax.random.key(0)))
    assert float(critic(jnp.ones(50))) == 50.0
    assert abs(found.mean() - 50) < 4.5 * found.std() / 4000**0.5
    assert abs(found.var() / (50 * 0.2 / 0.8) - 1) < 0.15


def test_the_slope_penalty_of_a_linear_map_is_half_its_square() -> None:
    critic = Critic((), Linear(jnp.asarray([[3.0], [4.0]]), jnp.zeros(1)), 1)
    assert abs(float(play.slope_penalty(critic, jnp.ones((7, 2)))) - 12.5) < 1e-5
    assert abs(float(play.slope_penalty(critic, jnp.ones((7, 2)), jnp.asarray([1.0, 0.0]))) - 4.5) < 1e-5


def test_spectral_matrices_have_singular_values_of_one_at_most() -> None:
    critic = Critic.init(jax.random.key(1), 6, (5, 4))
    vectors = play.powers(critic)
    for _ in range(100):
        normed, vectors = play.normalised(critic, vectors)
    for one in normed.matrices:
        assert abs(np.linalg.norm(np.asarray(one.weight), 2) - 1) < 1e-3


def test_descent_grows_its_momentum_and_loses_its_rate() -> None:
    how = play.Descent(0.5, 0.7, 2.0, 1.5)(lambda step: 0.1, 3.0)
    x, state, wanted, step = jnp.asarray(1.0), None, 1.0, 0.0
    state = how.init(x)
    for i in range(9):
        update, state = how.update(jnp.asarray(1.0), state, x)
        x = x + update
        step = (0.5 + 0.2 * min(i / 6, 1)) * step - 0.1 / 1.5**i
        wanted += step
        assert abs(float(x) - wanted) < 1e-5


@pytest.mark.parametrize(
    ("prior", "cdf"),
    [(Prior("normal", 1, 2.0), scipy.stats.norm(0, 2).cdf), (Prior("uniform", 1, 3.0), scipy.stats.uniform(-3, 6).cdf)],
    ids=["normal", "uniform"],
)
def test_noise_is_mapped_to_its_law(prior: Prior, cdf: Any) -> None:
    quantiles = (np.arange(200) + 0.5) / 200
    z = jax.vmap(prior)(jnp.asarray(scipy.stats.norm.ppf(quantiles), jnp.float32)[:, None])[:, 0]
    np.testing.assert_allclose(cdf(np.asarray(z)), quantiles, atol=1e-5)


def test_mixtures_lie_on_their_ring_and_rolls_in_theirs() -> None:
    mixture, roll = Prior("mixture", 3, 4.0, 5), Prior("swiss-roll", 2, 2.0)
    z = np.asarray(jax.vmap(mixture)(jax.random.normal(jax.random.key(0), (4000, mixture.noises))))
    number = np.round(np.arctan2(z[:, 1], z[:, 0]) / (2 * np.pi / 5)) % 5
    assert scipy.stats.chisquare(np.bincount(number.astype(int), minlength=5)).pvalue > 1e-4
    for k in range(5):
        ray = np.array([np.cos(2 * np.pi * k / 5), np.sin(2 * np.pi * k / 5)])
        told = np.asarray(mixture(jnp.asarray([0.0, 0.0, 1.0, 2.0]), jax.nn.one_hot(k, 5)))
        np.testing.assert_allclose(told, [*(4 * ray), 4.0], atol=1e-5)
        assert np.abs((z[number == k, :2] @ ray).mean() - 4) < 0.2
    z = np.asarray(jax.vmap(roll)(jax.random.normal(jax.random.key(1), (2000, roll.noises))))
    radius = np.linalg.norm(z, axis=1)
    gap = (np.arctan2(z[:, 1], z[:, 0]) - 2 * np.pi * radius) / (2 * np.pi)
    assert radius.max() < 2.2 and np.quantile(np.abs(gap - np.round(gap)), 0.95) < 0.15


def test_the_published_start() -> None:
    data = pixels(20, 784)
    model, _ = gan.recipe(Brief(data, jax.random.key(0), 1.0), **{
        name: value for name, value in gan.PRESETS["paper"].items() if name not in ("epochs", "batch", "descent")
    }, batch=10)  # fmt: skip
    count = lambda part: sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(part, eqx.is_array)))  # noqa: E731
    assert (count(model.generator), count(model.discriminator)) == (2_503_984, 1_231_441)
    reach = [float(jnp.abs(one.weight).max()) for one in (model.generator.last, *model.discriminator.matrices)]
    assert 0.049 < reach[0] <= 0.05 and all(0.0049 < r <= 0.005 for r in reach[1:3])
    means = jax.nn.sigmoid(model.generator.last.bias)
    np.testing.assert_allclose(means, np.clip(data.mean, 0.001, 0.999), rtol=1e-4)


def test_convolutions_make_images_of_any_size_and_classes_pass_them_by() -> None:
    data = pixels(shape=(5, 4, 3), classes=3)
    how = {**SMALL, "conv": (4, 2), "conditional": True}
    model, _ = gan.recipe(Brief(data, jax.random.key(0), 1.0), **how)
    e, given = jnp.zeros(3), jax.nn.one_hot(1, 3)
    assert model.mean(e, given).shape == (60,) and model.discriminator.layers[0].weight.shape == (2 * 1 * 2 + 3, 6)
    rows = jnp.asarray(data.rows("train")[:7])
    odds = [model.discriminator(jnp.concatenate([rows, jnp.tile(jax.nn.one_hot(c, 3), (7, 1))], 1)) for c in (0, 1)]
    assert odds[0].shape == (7,) and not np.allclose(*odds)
    assert len(model.generator.matrices) == 1 + 1 + 2 and len(model.discriminator.matrices) == 2 + 1 + 1
    with pytest.raises(ReverieError, match="images"):
        engine("gan", pixels(), **SMALL, conv=(4,))


def test_uniform_weights_go_where_they_are_told() -> None:
    found = uniform_weights(jax.random.key(0), Critic.init(jax.random.key(1), 50, (40,)), 0.3, lambda c: (c.last,))
    assert float(jnp.abs(found.last.weight).max()) <= 0.3
    wanted = Critic.init(jax.random.key(1), 50, (40,)).layers[0].weight
    np.testing.assert_array_equal(found.layers[0].weight, wanted)


def test_a_run_with_everything_resumes_to_the_bit(tmp_path: Path) -> None:
    how = {**SMALL, "conditional": True, "spectral": True, "discriminator_steps": 2, "penalty": 0.1, "dropout": 0.2,
           "select": "average", "batch": 50, "steps": 40}  # fmt: skip
    whole = reverie.train("gan", "digits", run=tmp_path / "whole", **how)
    with pytest.raises(reverie.Interrupted):
        reverie.train("gan", "digits", run=tmp_path / "cut", minutes=0.0, **how)
    cut = reverie.load(tmp_path / "cut").resume()
    read = lambda run: (run.path / "checkpoint.json").read_text().split('"sha256"')[1][:70]  # noqa: E731
    assert read(whole) == read(cut)
    assert whole.sample(3, label=4).shape == (3, 8, 8)
    # Grey rows stay grey: nobody needs a likelihood of them.
    assert whole.data.binarisation == "means" and len(np.unique(whole.data.rows("train"))) > 2


def test_a_column_that_never_changes_tells_the_players_nothing(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(5.0, 2.0, (200, 3))
    x[:, 1] = 7.0
    run = reverie.train("gan", x, run=tmp_path / "run", **{**SMALL, "steps": 30, "select": "last"})
    drawn = run.sample(50)
    assert np.isfinite(drawn).all() and (drawn[:, 1] == 7.0).all() and drawn[:, 0].std() > 0.01
    # Both kinds are shown with a zero there: the first layer's weights of that column never move.
    start = training.read_plan(run.record).build(run.data)[0]
    weights = [model.discriminator.layers[0].weight for model in (start, run.model)]
    np.testing.assert_array_equal(weights[0][1], weights[1][1])
    assert not np.array_equal(weights[0][0], weights[1][0])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"weights": (0.1,)}, "weights"), ({"dropout": 1.0}, "dropout"), ({"discriminator_steps": 0}, "discriminator"),
     ({"hidden": ()}, "hidden"), ({"latent": 0}, "latent"), ({"conditional": True}, "no classes"),
     ({"batch": 61}, "batch"), ({"descent": play.Descent(1.5)}, "descent.start")],
)  # fmt: skip
def test_wrong_settings_get_one_clear_line(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ReverieError, match=words) as caught:
        engine("gan", pixels(), **{**SMALL, **wrong})
    assert "\n" not in str(caught.value)


def test_data_it_cannot_draw_get_one_clear_line() -> None:
    with pytest.raises(ReverieError, match="gaussian"):
        engine("gan", pixels(likelihood="counts"), **SMALL)
    with pytest.raises(ReverieError, match="missing"):
        engine("gan", pixels(missing=True), **SMALL)
