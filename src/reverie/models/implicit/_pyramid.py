r"""Laplacian pyramids of images: each is a smaller one enlarged, and what that leaves out; and who makes the latter.

.. math:: I_{k+1} = d(I_k), \qquad h_k = I_k - u(I_{k+1}), \qquad I_k = u(I_{k+1}) + h_k,

where d is the mean of each square of 2 x 2 pixels and u repeats each pixel in such a square (Burt & Adelson 1983, with
the shortest kernel).  What was taken apart comes back to the bit where the differences are exact, as they are for
pixels on a grid of halves of halves; of other pixels in [0, 1] to a rounding of 1.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.models.implicit._nets import Critic, Rows
from reverie.nn.blocks import Linear
from reverie.nn.conv import Conv, Size, as_image, enlarged, flat
from reverie.prob.contracts import Given

#: Of one size or another: a list of them has no one length.
Flat = Float[Array, "..."]


def reduced(rows: Float[Array, "*B D"], size: Size) -> Float[Array, "*B d"]:
    """Return d of images of an even size, flat."""
    x = as_image(rows, size)
    # Sums in pairs: of pixels on a grid they are exact, and so are their quarters.
    x = x[..., ::2, :, :] + x[..., 1::2, :, :]
    return flat((x[..., :, ::2, :] + x[..., :, 1::2, :]) * 0.25)


def expanded(rows: Float[Array, "*B d"], size: Size) -> Float[Array, "*B D"]:
    """Return u of images, of the `size` given, flat."""
    return flat(enlarged(as_image(rows, (size[0] // 2, size[1] // 2)), size))


def pyramid(rows: Float[Array, "*B D"], sizes: tuple[Size, ...]) -> list[Flat]:
    """Return the images of each of `sizes`, the smallest first; the last are `rows` themselves."""
    found = [rows]
    for size in sizes[:0:-1]:
        found.insert(0, reduced(found[0], size))
    return found


def apart(rows: Float[Array, "*B D"], sizes: tuple[Size, ...]) -> list[Flat]:
    """Return the smallest images, then what each larger size adds."""
    images = pyramid(rows, sizes)
    return [images[0]] + [
        image - expanded(small, size) for image, small, size in zip(images[1:], images, sizes[1:], strict=False)
    ]


def together(parts: list[Flat], sizes: tuple[Size, ...]) -> Flat:
    """Return the images of the largest size: the inverse of `apart`."""
    image = parts[0]
    for part, size in zip(parts[1:], sizes[1:], strict=True):
        image = expanded(image, size) + part
    return image


class Residual(eqx.Module):
    """Convolutions that keep an image's size: what it lacks, from the image, a plane of noise and one of the class."""

    layers: tuple[Conv, ...]
    plane: Linear | None
    size: Size = eqx.field(static=True)

    @staticmethod
    def init(
        key: PRNGKeyArray, size: Size, channels: int, classes: int, widths: tuple[int, ...], sides: tuple[int, ...]
    ) -> Residual:  # fmt: skip
        """Return Glorot weights."""
        first, *keys = jax.random.split(key, len(sides) + 1)
        sizes = (channels + 1 + (classes > 0), *widths, channels)
        layers = tuple(Conv.init(*each) for each in zip(keys, sizes[:-1], sizes[1:], sides, strict=True))
        return Residual(layers, Linear.init(first, classes, math.prod(size)) if classes else None, size)

    def __call__(
        self, low: Float[Array, "*B D"], z: Float[Array, "*B n"], given: Given = None
    ) -> Float[Array, "*B D"]:  # fmt: skip
        planes = [low, z]
        if self.plane is not None:
            planes.append(jax.nn.relu(given @ self.plane.weight + self.plane.bias))
        x = jnp.concatenate([as_image(one, self.size) for one in planes], axis=-1)
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return flat(self.layers[-1](x))


class Level(eqx.Module):
    """One size of images: who makes them, and who tells them from the data's.

    Attributes:
        noises: numbers in its latent.
    """

    generator: Rows | Residual
    discriminator: Critic
    size: Size = eqx.field(static=True)
    noises: int = eqx.field(static=True)

    def image(self, z: Float[Array, "*B n"], low: Array | None, given: Given = None) -> Float[Array, "*B D"]:
        """Return images of this size: of the enlarged ones `low`, or of the latent (and class) alone."""
        if isinstance(self.generator, Residual):
            assert low is not None
            return low + self.generator(low, z, given)
        return self.generator(z if given is None else jnp.concatenate([z, given], axis=-1))
