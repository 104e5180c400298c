"""Convolutions as matrix products against XLA's own, and sizes that come back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.oracles import assert_kills

from reverie.nn.conv import Conv, Down, Up, enlarged, halved


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (4, 2), (5, 2)])
@pytest.mark.parametrize("size", [(7, 8), (6, 5)])
def test_shifted_copies_are_a_convolution(side: int, stride: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    layer = Conv.init(jax.random.key(0), 3, 2, side, stride, jnp.asarray([0.5, -1.0]))
    before = (side - 1) // 2
    rims = [(before, (-(-n // stride) - 1) * stride + side - before - n) for n in size]
    kernel = layer.linear.weight.reshape(side, side, 3, 2)
    wanted = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), rims, dimension_numbers=("NHWC", "HWIO", "NHWC")
    ) + jnp.asarray([0.5, -1.0])  # fmt: skip

    def check(found: Conv) -> None:
        np.testing.assert_allclose(found(x), wanted, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found(x[0]), wanted[0], rtol=1e-4, atol=1e-4)

    mixed = layer.linear.weight.reshape(side, side, 3, 2).swapaxes(0, 1).reshape(-1, 2)
    assert_kills(check, layer, Conv(type(layer.linear)(mixed, layer.linear.bias), side, stride))


@pytest.mark.parametrize("size", [(28, 28), (8, 8), (7, 5), (1, 3)])
def test_sizes_come_back(size: tuple[int, int]) -> None:
    down = Down.init(jax.random.key(0), size, 3, (4, 5))
    up = Up.init(jax.random.key(1), 6, size, 3, (4, 5))
    rows = jnp.ones((2, size[0] * size[1] * 3))
    assert down(rows).shape == (2, down.width) and down(rows[0]).shape == (down.width,)
    assert up(jnp.ones((2, 6))).shape == rows.shape and up(jnp.ones(6)).shape == rows[0].shape
    assert halved((7, 5), 2) == [(7, 5), (4, 3), (2, 2)]


def test_pixels_are_repeated() -> None:
    x = jnp.asarray([[1.0, 2.0]])[..., None]
    np.testing.assert_array_equal(enlarged(x, (2, 3))[..., 0], [[1, 1, 2], [1, 1, 2]])
