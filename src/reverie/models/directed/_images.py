r"""Convolutions next to the image in a chain of Gaussian layers: the first block of q, the last of p.

Up, the image is seen by rectified convolutions of 4 x 4 pixels whose stride of 2 halves its sides; down, what they made
is mirrored, each pixel being repeated before a convolution of 3 x 3 (`nn.conv`).  What is not of the image, such as a
class, passes by the former; the law of each pixel is that of the data.
"""

from __future__ import annotations

import math
from itertools import accumulate

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.nn.blocks import Trace
from reverie.nn.conv import Down, Size, Up, as_image, flat
from reverie.nn.laws import Bernoulli, Law


class Seen(eqx.Module):
    """Convolutions of a row whose first `parts` are images of one size; the rest of the row passes by them.

    Attributes:
        parts: lengths of the images: the values, and the flags of missing cells if there are any.
    """

    down: Down
    parts: tuple[int, ...] = eqx.field(static=True)

    @staticmethod
    def init(key: PRNGKeyArray, data: Dataset, seen: int, conv: tuple[int, ...]) -> Seen:
        """Return Glorot weights; `seen` numbers of a row are images, the values of `data` first.

        Raises:
            ReverieError: for rows that are no images, and for what are no channels.
        """
        if len(data.shape) < 2:
            raise ReverieError(
                f"conv: {data.name} has rows of {data.width} columns without the shape of an image; leave it out, or "
                "give a folder of images or an array (n, height, width)"
            )
        if min(conv) < 1:
            raise ReverieError(f"conv: {conv} are no channels; give one or more, such as 16,32")
        flags = data.width if data.missing else 0
        size = (data.shape[0], data.shape[1])
        return Seen(
            Down.init(key, size, seen // math.prod(size), conv), (seen - flags, flags) if flags else (seen,)
        )  # fmt: skip

    @property
    def width(self) -> int:
        """Numbers of features."""
        return self.down.width

    def __call__(self, x: Float[Array, " n"]) -> tuple[Float[Array, " m"], Trace]:
        *images, rest = jnp.split(x, tuple(accumulate(self.parts)))
        image = jnp.concatenate([as_image(one, self.down.size) for one in images], axis=-1)
        out = jnp.concatenate([self.down(flat(image)), rest])
        return out, {"out": out}


class ImageHead(eqx.Module):
    """The law of an image's pixels, its parameters drawn by convolutions.

    Each channel of the image (of a category each level, too) has a channel of parameters, and of a Gaussian another
    one: the logarithm of its variance.
    """

    up: Up
    likelihood: str = eqx.field(static=True)
    levels: int = eqx.field(static=True)

    @staticmethod
    def init(key: PRNGKeyArray, fan_in: int, data: Dataset, conv: tuple[int, ...]) -> ImageHead:
        """Return Glorot weights, the biases of the image at the channels' means.

        Raises:
            ReverieError: for data that have no such law.
        """
        size: Size = (data.shape[0], data.shape[1])
        means = np.asarray(data.mean, np.float64).reshape(math.prod(size), -1).mean(axis=0)
        if data.likelihood == "bernoulli":
            p = np.clip(means, 0.001, 0.999)
            bias = np.log(p) - np.log1p(-p)
        elif data.likelihood == "gaussian":
            bias = np.concatenate([means, np.zeros_like(means)])
        elif data.likelihood == "categorical":
            bias = np.zeros(len(means) * data.levels)
        else:
            raise ReverieError(f"conv: there is no law of {data.likelihood} for pixels; leave it out")
        up = Up.init(key, fan_in, size, len(bias), conv, jnp.asarray(bias, jnp.float32))
        return ImageHead(up, data.likelihood, data.levels)

    def __call__(self, z: Float[Array, " n"]) -> Law:
        fields = self.up(z)
        if self.likelihood == "bernoulli":
            return Bernoulli(fields).to_event(1)
        if self.likelihood == "categorical":
            return dist.Categorical(logits=fields.reshape(-1, self.levels)).to_event(1)
        mean, log_variance = jnp.split(as_image(fields, self.up.size), 2, axis=-1)
        return dist.Normal(flat(mean), jnp.exp(0.5 * flat(log_variance))).to_event(1)
