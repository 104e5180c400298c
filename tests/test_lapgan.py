"""The pyramid of adversarial networks: images that come back to the bit, whose turn it is, what a draw is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.games import engine, pixels, turns
from tests.oracles import assert_kills

import reverie
from reverie import training
from reverie.arrays import named_leaves
from reverie.errors import ReverieError
from reverie.models.implicit import _pyramid as pyramid
from reverie.models.implicit import lapgan
from reverie.train.recipe import Brief
from reverie.training import resolve

SMALL: dict[str, Any] = {"latent": 3, "hidden": (5,), "discriminator_hidden": (6,), "residual": (2,), "sides": (3, 3),
                         "conv": (2,), "batch": 10}  # fmt: skip
SIZES = ((2, 3), (4, 6), (8, 12))


def untrained(**settings: Any) -> lapgan.LAPGAN:
    data = pixels(shape=settings.pop("shape", (4, 4)), classes=3)
    return lapgan.recipe(Brief(data, jax.random.key(0), 1.0), **{**SMALL, **settings})[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_pyramid_comes_back_to_the_bit(channels: int) -> None:
    rng = np.random.default_rng(0)
    grid = jnp.asarray(rng.integers(0, 257, (5, 96 * channels)) / 256, jnp.float32)

    def check(parts: list[Any]) -> None:
        np.testing.assert_array_equal(pyramid.together(parts, SIZES), grid)

    parts = pyramid.apart(grid, SIZES)
    assert [part.shape[1] for part in parts] == [6 * channels, 24 * channels, 96 * channels]
    assert_kills(check, parts, [parts[0], parts[1], parts[2].at[0, 0].add(2.0**-20)])
    # Pixels such as 1/255 are on no such grid: their differences are rounded, once a level.
    bytes_ = jnp.asarray(rng.integers(0, 256, (5, 96 * channels)) / 255, jnp.float32)
    back = pyramid.together(pyramid.apart(bytes_, SIZES), SIZES)
    np.testing.assert_allclose(back, bytes_, rtol=0, atol=2.0**-24)


def test_smaller_images_are_means_of_squares_and_residuals_add_nothing_to_them() -> None:
    x = np.random.default_rng(1).random((3, 4, 6, 2)).astype(np.float32)
    rows, sizes = jnp.asarray(x.reshape(3, -1)), SIZES[:2]
    small = x.reshape(3, 2, 2, 3, 2, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(pyramid.reduced(rows, (4, 6)), small.reshape(3, -1), rtol=1e-6)
    wide = np.repeat(np.repeat(small, 2, axis=1), 2, axis=2)
    np.testing.assert_array_equal(pyramid.expanded(jnp.asarray(small.reshape(3, -1)), (4, 6)), wide.reshape(3, -1))
    assert float(jnp.abs(pyramid.reduced(pyramid.apart(rows, sizes)[1], (4, 6))).max()) < 1e-6


@pytest.mark.parametrize("player", range(4))
def test_each_player_moves_its_own_network_of_its_own_level(player: int) -> None:
    found = engine("lapgan", pixels(shape=(4, 4)), slice(player, player + 1), penalty=0.0, **SMALL)
    before = {name: np.array(leaf) for name, leaf in named_leaves(found.init().model)}
    after = dict(named_leaves(found.advance(found.init(), 2).model))
    moved = {".".join(name.split(".")[:3]) for name, leaf in before.items() if not np.array_equal(leaf, after[name])}
    assert moved == {f"levels.{player // 2}.{('discriminator', 'generator')[player % 2]}"}


def test_what_a_generator_adds_is_logged() -> None:
    # Of each generator beyond the coarsest, the energy of what it draws by that of the data's residuals.
    start = engine("lapgan", pixels(shape=(8, 8)), levels=3, **SMALL).init()
    assert {name for name in start.sums if name.startswith("detail")} == {"detail_3", "detail_5"}
    assert turns(start) == [0] * 6


def test_three_levels_have_three_sizes() -> None:
    model = untrained(shape=(8, 12), levels=3)
    assert [level.size for level in model.levels] == list(SIZES)
    images = jax.eval_shape(lambda: model.images(jnp.zeros(3 + 24 + 96)))
    assert [image.shape for image in images] == [(6,), (24,), (96,)]


@pytest.mark.parametrize("shape", [(4, 4), (4, 6, 3)])
def test_a_draw_is_the_enlarged_image_and_what_is_added(shape: tuple[int, ...]) -> None:
    model = untrained(shape=shape)
    area = shape[0] * shape[1]
    e = jax.random.normal(jax.random.key(1), (3 + area,))
    assert model.draw_prior(jax.random.key(0)).shape == e.shape
    coarse, fine = model.images(e)
    assert coarse.shape == (np.prod(shape) // 4,) and fine.shape == (np.prod(shape),) == model.mean(e).shape
    low = pyramid.expanded(coarse, shape[:2])
    own = model.levels[1].generator

    def check(wanted: Any) -> None:
        np.testing.assert_allclose(fine - low, wanted, rtol=1e-4, atol=1e-5)

    assert_kills(check, own(low, e[3:]), own(low, e[:area]))
    # Noise of the finer level leaves the coarse image as it is.
    np.testing.assert_array_equal(model.images(e.at[3:].add(1.0))[0], coarse)
    assert not np.array_equal(model.images(e.at[3:].add(1.0))[1], fine)


def test_pixels_end_at_their_ends() -> None:
    model = untrained()
    loud = eqx.tree_at(lambda m: m.levels[1].generator.layers[-1].linear.bias, model, jnp.asarray([5.0]))
    assert float(loud.mean(jnp.zeros(19)).max()) == 1.0 and float(loud.images(jnp.zeros(19))[1].min()) > 1.0


def test_every_level_hears_the_class() -> None:
    model, e = untrained(conditional=True), jnp.zeros(19)
    a, b = (model.images(e, jax.nn.one_hot(c, 3)) for c in (0, 1))
    assert not np.allclose(a[0], b[0])
    residuals = [image - pyramid.expanded(small, (4, 4)) for small, image in (a, b)]
    assert not np.allclose(*residuals)
    own = [model.levels[1].generator(jnp.ones(16), e[3:], jax.nn.one_hot(c, 3)) for c in (0, 1)]
    assert not np.allclose(*own)
    with pytest.raises(ReverieError, match="class-conditional"):
        model.mean(e)


def test_a_run_with_everything_moves_all_players(tmp_path: Path) -> None:
    how = {**SMALL, "conditional": True, "prior": "uniform", "dropout": 0.2, "batch": 50, "steps": 20}
    whole = reverie.train("lapgan", "digits", run=tmp_path / "whole", **how)
    assert whole.sample(3, label=4).shape == (3, 8, 8)
    # All players of all levels had their turns.
    start = training.read_plan(whole.record).build(whole.data)[0]
    for before, after in zip(start.levels, whole.model.levels, strict=True):
        for who in ("generator", "discriminator"):
            one, other = (jax.tree.leaves(getattr(level, who))[0] for level in (before, after))
            assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("shape", "wrong", "words"),
    [((6,), {}, "rows of 6 columns"), ((7, 6), {}, "7 x 6 pixels do not halve 1 times"),
     ((8, 6), {"levels": 3}, "halve 2 times"), ((8, 8), {"levels": 1}, "no pyramid"),
     ((8, 8), {"sides": (3,)}, "sides: 1 for 1"), ((8, 8), {"conv": ()}, "conv"), ((8, 8), {"latent": 0}, "latent")],
)  # fmt: skip
def test_what_it_cannot_halve_gets_one_clear_line(shape: tuple[int, ...], wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ReverieError, match=words) as caught:
        engine("lapgan", pixels(shape=shape), **{**SMALL, **wrong})
    assert "\n" not in str(caught.value)


def test_presets_are_settings_and_the_one_for_colour_holds_discriminators_tighter() -> None:
    found = {name: resolve("lapgan", {}, presets=(name,), rows=100).settings for name in lapgan.PRESETS}
    assert found["colour"]["penalty"] == 10 * found["fast"]["penalty"] and found["colour"]["batch"] == 50
