"""What implicit models are made of: a network that gives rows, a discriminator, a generator of normal noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.models.implicit._priors import Prior
from reverie.nn.blocks import ACTIVATIONS, Dense, Linear, dense_trunk, host_random
from reverie.nn.conv import Down, Up
from reverie.nn.laws import bernoulli_log_prob
from reverie.prob.contracts import Given, Implicit

Tree = TypeVar("Tree")


class Rows(eqx.Module):
    """A network that gives rows: a trunk, and means of pixels through a sigmoid, or real values as they are.

    Attributes:
        last: a linear layer, or what draws an image by convolutions.
    """

    trunk: tuple[Dense, ...]
    last: Linear | Up
    real: bool = eqx.field(static=True)

    @staticmethod
    def init(
        key: PRNGKeyArray, fan_in: int, widths: tuple[int, ...], activation: str, real: bool, bias: np.ndarray | Array,
        conv: tuple[int, ...] = (), shape: tuple[int, ...] = (),
    ) -> Rows:  # fmt: skip
        """Return Glorot weights; where nothing is heard, pixels are at the means `bias`.

        Args:
            conv: channels of convolutions that make an image of this `shape`, from the image upwards; none for none.
        """
        first, second = jax.random.split(key)
        top = (fan_in, *widths)[-1]
        means = np.asarray(bias, np.float64)
        if conv:
            means = means.reshape(-1, channels_of(shape)).mean(axis=0)
        p = np.clip(means, 0.001, 0.999)
        start = jnp.asarray(means if real else np.log(p) - np.log1p(-p), jnp.float32)
        last = (
            Up.init(second, top, (shape[0], shape[1]), channels_of(shape), conv, start)
            if conv
            else Linear.init(second, top, len(start), start)
        )
        return Rows(dense_trunk(first, fan_in, widths, activation), last, real)

    def fields(self, z: Float[Array, "*B d"]) -> Float[Array, "*B D"]:
        """Return what the means are the sigmoid of; of real values, themselves."""
        for block in self.trunk:
            z = _dense(block, z)
        return self.last(z) if isinstance(self.last, Up) else z @ self.last.weight + self.last.bias

    def __call__(self, z: Float[Array, "*B d"]) -> Float[Array, "*B D"]:
        fields = self.fields(z)
        return fields if self.real else jax.nn.sigmoid(fields)

    @property
    def matrices(self) -> tuple[Linear, ...]:
        """All linear maps, those of convolutions too."""
        top = (
            (self.last.first, *(one.linear for one in self.last.layers)) if isinstance(self.last, Up) else (self.last,)
        )
        return (*(block.linear for block in self.trunk), *top)


def channels_of(shape: tuple[int, ...]) -> int:
    """Return how many numbers an image's pixel has."""
    return shape[2] if len(shape) > 2 else 1


def _dense(block: Dense, x: Float[Array, "*B n"]) -> Float[Array, "*B m"]:
    # A whole batch at a time: what draws a batch's dropout in one go is several times faster than row by row.
    return ACTIVATIONS[block.activation](x @ block.linear.weight + block.linear.bias)


class Critic(eqx.Module):
    r"""A discriminator: layers of rectified or maxout units, and the log-odds that a row is one of the data's.

    A maxout unit is the largest of `pieces` linear ones (Goodfellow et al. 2013); with one piece it is rectified.

    Attributes:
        down: convolutions that see the image first; what stands behind its pixels (a class) passes by them.
        dropout: shares of the inputs and of each layer that are left out where a key is given.
    """

    layers: tuple[Linear, ...]
    last: Linear
    pieces: int = eqx.field(static=True)
    dropout: tuple[float, float] = eqx.field(static=True, default=(0.0, 0.0))
    down: Down | None = None

    @staticmethod
    def init(
        key: PRNGKeyArray, fan_in: int, widths: tuple[int, ...], pieces: int = 1,
        dropout: tuple[float, float] = (0.0, 0.0), conv: tuple[int, ...] = (), shape: tuple[int, ...] = (),
    ) -> Critic:  # fmt: skip
        """Return Glorot weights."""
        *keys, last, below = jax.random.split(key, len(widths) + 2)
        down = Down.init(below, (shape[0], shape[1]), channels_of(shape), conv) if conv else None
        features = fan_in if down is None else down.width + fan_in - math.prod(shape)
        sizes = (features, *widths)
        layers = tuple(Linear.init(k, a, b * pieces) for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True))
        return Critic(layers, Linear.init(last, sizes[-1], 1), pieces, dropout, down)

    def __call__(self, x: Float[Array, "*B n"], key: PRNGKeyArray | None = None) -> Float[Array, "*B"]:
        """Return the log-odds of rows."""
        x = self._left(key, 0, x)
        if self.down is not None:
            x = self._left(key, 1, self._features(self.down, x))
        for number, linear in enumerate(self.layers, 2):
            field = x @ linear.weight + linear.bias
            if self.pieces > 1:
                x = field.reshape(*field.shape[:-1], -1, self.pieces).max(axis=-1)
            else:
                x = jax.nn.relu(field)
            x = self._left(key, number, x)
        return (x @ self.last.weight + self.last.bias)[..., 0]

    def _features(self, down: Down, x: Float[Array, "*B n"]) -> Float[Array, "*B m"]:
        pixels = math.prod(down.size) * (down.layers[0].linear.weight.shape[0] // down.layers[0].side ** 2)
        return jnp.concatenate([down(x[..., :pixels]), x[..., pixels:]], axis=-1)

    def _left(self, key: PRNGKeyArray | None, number: int, x: Array) -> Array:
        """Return a layer's inputs, some of them left out and the others that much larger."""
        share = self.dropout[min(number, 1)]
        if key is None or not share:
            return x
        kept = jax.random.bernoulli(jax.random.fold_in(key, number), 1.0 - share, x.shape)
        return jnp.where(kept, x, 0.0) / (1.0 - share)

    @property
    def matrices(self) -> tuple[Linear, ...]:
        """All linear maps, those of convolutions and the last one too."""
        below = () if self.down is None else tuple(one.linear for one in self.down.layers)
        return (*below, *self.layers, self.last)


class Generator(Implicit):
    """An implicit model of standard normal noise, with or without classes.

    Attributes:
        prior: the law of z that the noise is mapped to.
        classes: number of classes it is conditioned on, 0 for none; `given` is then one-hot.
    """

    prior: Prior
    classes: int = eqx.field(static=True)

    @property
    def conditional(self) -> bool:
        """Whether `given` (a one-hot class) is needed."""
        return self.classes > 0

    def draw_prior(self, key: PRNGKeyArray, given: Given = None) -> Float[Array, " n"]:
        r"""Draw :math:`\epsilon \sim \mathcal N(0, I)`."""
        return jax.random.normal(key, (self.prior.noises,))

    def log_prior(self, z: Float[Array, " n"], given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log \mathcal N(\epsilon; 0, I)`."""
        return dist.Normal().expand(z.shape).to_event(1).log_prob(z)

    def latents(self, key: PRNGKeyArray, count: int, given: Given = None) -> Float[Array, "count d"]:
        """Draw so many z, of the classes `given` (count, C)."""
        e = jax.random.normal(key, (count, self.prior.noises))
        return jax.vmap(self.prior, in_axes=(0, None if given is None else 0))(e, given)

    def joined(self, x: Float[Array, "*B n"], given: Given = None) -> Float[Array, "*B m"]:
        """Return x with the classes behind it, x itself without classes."""
        if not self.classes:
            return x
        if given is None:
            raise ReverieError("given: this model is class-conditional; give it a one-hot class")
        return jnp.concatenate([x, given], axis=-1)


def seen(rows: Float[Array, "B D"]) -> tuple[Float[Array, "B D"], Float[Array, " D"]]:
    """Return rows without holes and which columns there are: one that never changes is missing from every row."""
    there = ~jnp.isnan(rows[0])
    return jnp.where(there, rows, 0.0), there.astype(rows.dtype)


def error(
    rows: Float[Array, "B D"], fields: Float[Array, "B D"], there: Float[Array, " D"], real: bool, squared: bool
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return what is minimised of rows given back as `fields`, and their squared error, means of sums over columns.

    The former is the cross-entropy of pixels, or half of the latter for real values and where `squared` asks for it.
    """
    back = fields if real else jax.nn.sigmoid(fields)
    squares = (((rows - back) * there) ** 2).sum(axis=1).mean()
    if real or squared:
        return 0.5 * squares, squares
    return -(bernoulli_log_prob(rows, fields) * there).sum(axis=1).mean(), squares


def uniform_weights(key: PRNGKeyArray, tree: Tree, reach: float, where: Callable[[Tree], tuple[Linear, ...]]) -> Tree:
    r"""Return `tree` with the weights of the linear maps `where` drawn from :math:`U(\pm reach)`."""
    random = host_random(key)
    new = [jnp.asarray(random.uniform(-reach, reach, one.weight.shape), jnp.float32) for one in where(tree)]
    return eqx.tree_at(lambda t: [one.weight for one in where(t)], tree, new)


def classes_of(data: Dataset, conditional: bool) -> int:
    """Return how many classes a model of `data` is told.

    Raises:
        ReverieError: for a conditional model of data without classes.
    """
    if conditional and not data.classes:
        raise ReverieError(f"conditional: the data set {data.name} has no classes; leave it out, or give labels")
    return data.classes if conditional else 0


def check(data: Dataset, name: str, batch: int, layers: dict[str, tuple[int, ...]], /, **numbers: float) -> None:
    """Refuse data and settings that make no sense.

    Raises:
        ReverieError: one line that names what is wrong.
    """
    if data.likelihood not in ("bernoulli", "gaussian"):
        raise ReverieError(
            f"likelihood: {name} draws pixels or real values, not {data.likelihood}; give --likelihood gaussian"
        )
    if data.missing and not data.whole:
        raise ReverieError(f"{data.name}: {name} takes no missing cells; fill them in, or train a vae")
    for which, given in layers.items():
        if not given or min(given) < 1:
            raise ReverieError(f"{which}: {given} are no widths; give one or more, such as 256,256")
    for which, value in numbers.items():
        if not value > 0:
            raise ReverieError(f"{which}: {value} must be positive")
    if not 2 <= batch <= data.size("train"):
        raise ReverieError(f"batch: {batch} rows of {data.size('train')} to train on; give 2 or more, and no more")
