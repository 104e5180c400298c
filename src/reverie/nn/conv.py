r"""Convolutions of images, written as shifted copies and one matrix product.

.. math:: y_{ij} = \sum_{a, b} x_{s i + a - p,\, s j + b - p}\, W_{ab} + c, \qquad p = \lfloor (k - 1)/2 \rfloor,

with zeros outside.  Inside a compiled loop on a CPU, XLA's own convolution is many times slower than this.

On the way down a layer with stride 2 halves each side, rounded up; on the way up each pixel is repeated and what goes
beyond the side aimed at is cut off, so that any size comes back as it was.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.nn.blocks import Linear

Size = tuple[int, int]


def halved(size: Size, times: int) -> list[Size]:
    """Return the sizes of an image and of what `times` layers of stride 2 make of it."""
    found = [size]
    for _ in range(times):
        found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
    return found


def patches(x: Float[Array, "*B h w c"], side: int, stride: int = 1) -> Float[Array, "*B i j n"]:
    """Return the square of `side` pixels around every `stride`-th one, as numbers: row, column, channel in order."""
    before = (side - 1) // 2
    height, width = x.shape[-3:-1]
    # To the right as many as the last patch of all needs.
    rims = [(before, max(0, (-(-n // stride) - 1) * stride + side - before - n)) for n in (height, width)]
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [*rims, (0, 0)])
    rows, columns = -(-height // stride), -(-width // stride)
    parts = [
        x[..., a : a + (rows - 1) * stride + 1 : stride, b : b + (columns - 1) * stride + 1 : stride, :]
        for a in range(side)
        for b in range(side)
    ]
    return jnp.concatenate(parts, axis=-1)


def enlarged(x: Float[Array, "*B h w c"], size: Size) -> Float[Array, "*B H W c"]:
    """Return an image of `size`, at most twice as large, each pixel four times."""
    x = jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)
    return x[..., : size[0], : size[1], :]


class Conv(eqx.Module):
    """A convolution; `linear` takes a patch to the channels of its place."""

    linear: Linear
    side: int = eqx.field(static=True)
    stride: int = eqx.field(static=True, default=1)

    @staticmethod
    def init(key: PRNGKeyArray, channels: int, out: int, side: int = 3, stride: int = 1,
             bias: Float[Array, " out"] | None = None) -> Conv:  # fmt: skip
        """Return Glorot weights of the patch."""
        return Conv(Linear.init(key, side * side * channels, out, bias), side, stride)

    def __call__(self, x: Float[Array, "*B h w c"]) -> Float[Array, "*B i j o"]:
        return patches(x, self.side, self.stride) @ self.linear.weight + self.linear.bias


def as_image(rows: Float[Array, "*B D"], size: Size) -> Float[Array, "*B h w c"]:
    """Return flat rows as images with their channels last."""
    return rows.reshape(*rows.shape[:-1], *size, -1)


def flat(images: Float[Array, "*B h w c"]) -> Float[Array, "*B D"]:
    """Return images as flat rows."""
    return images.reshape(*images.shape[:-3], -1)


class Down(eqx.Module):
    """Rectified convolutions of stride 2, flat row in, flat features out."""

    layers: tuple[Conv, ...]
    size: Size = eqx.field(static=True)

    @staticmethod
    def init(key: PRNGKeyArray, size: Size, channels: int, widths: tuple[int, ...]) -> Down:
        """Return Glorot weights."""
        keys = jax.random.split(key, len(widths))
        pairs = zip((channels, *widths), widths, strict=False)
        return Down(tuple(Conv.init(k, a, b, 4, 2) for k, (a, b) in zip(keys, pairs, strict=True)), size)

    @property
    def width(self) -> int:
        """Numbers of features."""
        height, width = halved(self.size, len(self.layers))[-1]
        return height * width * self.layers[-1].linear.bias.size

    def __call__(self, rows: Float[Array, "*B D"]) -> Float[Array, "*B n"]:
        x = as_image(rows, self.size)
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        return flat(x)


class Up(eqx.Module):
    """A rectified linear layer, then enlargements with convolutions: flat numbers in, flat row out."""

    first: Linear
    layers: tuple[Conv, ...]
    size: Size = eqx.field(static=True)

    @staticmethod
    def init(
        key: PRNGKeyArray, fan_in: int, size: Size, channels: int, widths: tuple[int, ...],
        bias: Float[Array, " c"] | None = None,
    ) -> Up:  # fmt: skip
        """Return Glorot weights; `widths` are the channels from the image upwards, as of the `Down` that it mirrors.

        Args:
            bias: of the image's channels.
        """
        keys = jax.random.split(key, len(widths) + 1)
        height, width = halved(size, len(widths))[-1]
        pairs = zip(widths[::-1], (*widths[-2::-1], channels), strict=True)
        biases = (*(None for _ in widths[1:]), bias)
        layers = tuple(Conv.init(k, a, b, bias=c) for k, (a, b), c in zip(keys[1:], pairs, biases, strict=True))
        return Up(Linear.init(keys[0], fan_in, height * width * widths[-1]), layers, size)

    def __call__(self, z: Float[Array, "*B d"]) -> Float[Array, "*B D"]:
        sizes = halved(self.size, len(self.layers))[::-1]
        x = as_image(jax.nn.relu(z @ self.first.weight + self.first.bias), sizes[0])
        for layer, size in zip(self.layers, sizes[1:], strict=True):
            x = layer(enlarged(x, size))
            x = x if layer is self.layers[-1] else jax.nn.relu(x)
        return flat(x)
