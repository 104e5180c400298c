"""The VAE's convolutions: sizes that come back, what they see of a row, how many numbers they have, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.games import pixels
from tests.oracles import assert_kills

import reverie
from reverie import data as data_floor
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.models.directed import vae
from reverie.nn.laws import expectation, log_prob
from reverie.train.engine import parameters
from reverie.train.recipe import Brief

SMALL: dict[str, Any] = {"conv": (3, 4), "latent": (2,), "hidden": ((),), "batch": 10, "valid_samples": 2}


def untrained(data: Dataset, **settings: Any) -> tuple[vae.VAE, Any]:
    return vae.recipe(Brief(data, jax.random.key(0), 1.0), **{**SMALL, **settings})


@pytest.mark.parametrize("shape", [(8, 8), (7, 5), (1, 3), (6, 5, 3)], ids=str)
def test_images_of_any_size_come_back_as_they_were(shape: tuple[int, ...]) -> None:
    model, _ = untrained(pixels(shape=shape))
    x = jnp.asarray(pixels(shape=shape).rows("train")[0])
    h, back = jax.eval_shape(lambda: (h := model.infer(jax.random.key(0), x), model.mean(h)))
    assert back.shape == x.shape == (np.prod(shape),) and [part.shape for part in h] == [(2,)]


def test_the_preset_of_mnist_has_as_many_numbers_as_its_layers() -> None:
    how = {name: value for name, value in vae.PRESETS["conv"].items() if name != "epochs"}
    model, recipe = untrained(pixels(12, shape=(28, 28)), **how)
    seen = (16 * 1 * 16 + 16) + (16 * 16 * 32 + 32)  # 4 x 4 patches, 28 to 14 to 7
    codes = 2 * (7 * 7 * 32 * 20 + 20)
    drawn = (20 * 7 * 7 * 32 + 7 * 7 * 32) + (9 * 32 * 16 + 16) + (9 * 16 * 1 + 1)
    assert parameters(model, recipe) == seen + codes + drawn == 108_953


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "categorical"])
def test_every_law_of_pixels_starts_at_the_channels_means(likelihood: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2 if likelihood == "bernoulli" else 4, (80, 5, 4, 3)).astype(float)
    data = data_floor.load(x, likelihood=likelihood)
    model, _ = untrained(data)
    law = model.law((jnp.zeros(2),))
    row = jnp.asarray(data.rows("train")[0])
    assert law.sample(jax.random.key(0)).shape == (60,) and bool(jnp.isfinite(log_prob(law, row)))
    if likelihood == "categorical":
        np.testing.assert_allclose(jnp.exp(log_prob(law, row)), 0.25**60, rtol=1e-3)
    else:
        means = np.asarray(data.mean).reshape(20, 3).mean(axis=0)
        np.testing.assert_allclose(expectation(law).reshape(20, 3), np.tile(means, (20, 1)), rtol=1e-4, atol=1e-5)


def test_missing_cells_and_classes_are_heard_where_they_stand() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4, 4))
    x[rng.random(x.shape) < 0.2] = np.nan
    data = data_floor.load(x, likelihood="gaussian")
    model, _ = untrained(data)
    seen, row = model.q[0].trunk[0], jnp.asarray(data.rows("train")[0])
    assert seen.parts == (16, 16) and seen.down.layers[0].linear.weight.shape[0] == 16 * 2
    assert bool(jnp.isnan(row).any()) and bool(jnp.isfinite(model.forward(jax.random.key(0), row).log_w))
    told, _ = untrained(pixels(classes=3, shape=(4, 4)), conditional=True)
    up, _ = told.q[0].trunk[0](jnp.concatenate([jnp.ones(16), jnp.asarray([0.0, 7.0, 0.0])]))
    np.testing.assert_array_equal(up[-3:], [0.0, 7.0, 0.0])


def test_values_and_flags_are_channels_of_the_same_pixel() -> None:
    """Flags laid behind all values, not between them: read as channels they would be those of other pixels."""
    x = np.random.default_rng(0).normal(size=(80, 4, 4))
    x[0, 0, 0] = np.nan
    model, _ = untrained(data_floor.load(x, likelihood="gaussian"), conv=(3,))
    seen, values, flags = model.q[0].trunk[0], jnp.arange(16.0), jnp.zeros(16).at[5].set(1.0)
    image = jnp.stack([values, flags], axis=-1)

    def check(row: Any) -> None:
        np.testing.assert_array_equal(seen(row)[0], seen.down(image.ravel()))

    assert_kills(check, jnp.concatenate([values, flags]), image.ravel())


def test_a_stack_of_layers_trains(tmp_path: Path) -> None:
    how = {**SMALL, "latent": (4, 2), "hidden": ((8,), (6,)), "conditional": True, "batch": 50, "steps": 30}
    whole = reverie.train("vae", "digits", run=tmp_path / "whole", **how)
    assert whole.sample(3, label=2).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("data", "conv", "words"),
    [(pixels(), (4,), "without the shape of an image"), (pixels(shape=(4, 4)), (4, 0), "channels"),
     (pixels(shape=(4, 4), likelihood="counts"), (4,), "counts")],
)  # fmt: skip
def test_what_is_no_image_gets_one_clear_line(data: Dataset, conv: tuple[int, ...], words: str) -> None:
    with pytest.raises(ReverieError, match=words) as caught:
        untrained(data, conv=conv)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("conv:")
