r"""What implicit models are made of: laws of the latent, a generator's network, a discriminator.

Every latent is standard normal noise :math:`\epsilon`, mapped to the law that the generator hears: annealing through
the generator then moves in one smooth space, whatever that law is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.nn.blocks import ACTIVATIONS, Dense, Linear, dense_trunk, host_random
from reverie.nn.laws import bernoulli_log_prob
from reverie.prob.contracts import Given, Implicit

Law = Literal["normal", "uniform", "mixture", "swiss-roll"]
#: Between a mixture's centres and the origin, and the spread of each component along its ray and across it.
_RING, _ALONG, _ACROSS = 1.0, 0.25, 0.05
#: The swiss roll: turns where it begins and ends (radii in units of the reach), and its thickness.
_INNER, _OUTER, _THICK = 0.25, 1.0, 0.02
Tree = TypeVar("Tree")


class Prior(eqx.Module):
    r"""The law of z, as a map of standard normal noise.

    - ``normal``: :math:`z = r \epsilon`.
    - ``uniform``: :math:`z = r\,(2\Phi(\epsilon) - 1)` on :math:`[-r, r]`.
    - ``mixture``: `components` normal laws on a ring of radius r in the first two dimensions, each long towards the
      centre and thin across, the other dimensions normal; which one is the class where it is told, else another
      uniform number decides (Makhzani et al. 2015).
    - ``swiss-roll``: a spiral in the plane, from its middle out to r.

    Attributes:
        width: numbers in z.
        reach: r.
    """

    law: Law = eqx.field(static=True)
    width: int = eqx.field(static=True)
    reach: float = eqx.field(static=True, default=1.0)
    components: int = eqx.field(static=True, default=0)

    def __post_init__(self) -> None:
        if self.width < 1 or not self.reach > 0:
            raise ReverieError(f"latent, spread: {self.width} and {self.reach} must be positive")
        if self.law == "swiss-roll" and self.width != 2:
            raise ReverieError(f"prior: a swiss-roll lies in the plane, and the code has {self.width} numbers; give 2")
        if self.law == "mixture" and (self.width < 2 or self.components < 1):
            raise ReverieError("prior: a mixture lies on a ring; give a code of 2 numbers or more, and a component")

    @property
    def noises(self) -> int:
        """Standard normal numbers that a z is made of."""
        return self.width + (self.law in ("mixture", "swiss-roll"))

    def __call__(self, e: Float[Array, " n"], given: Given = None) -> Float[Array, " d"]:
        """Return z of the noise."""
        if self.law == "normal":
            return self.reach * e
        if self.law == "uniform":
            return self.reach * _symmetric(e)
        if self.law == "swiss-roll":
            return self.reach * _roll(e)
        return self.reach * jnp.concatenate([_petal(e, self._component(e[-1], given)), e[2:-1]])

    def _component(self, e: Float[Array, ""], given: Given) -> Float[Array, ""]:
        """Return the angle of the component of a class, or of the one that the noise decides on."""
        if given is None:
            number = jnp.minimum(jnp.floor((0.5 + 0.5 * _symmetric(e)) * self.components), self.components - 1)
        else:
            number = jnp.argmax(given).astype(e.dtype)
        return 2.0 * math.pi * number / self.components


def _symmetric(e: Float[Array, "*n"]) -> Float[Array, "*n"]:
    # 2 Phi(e) - 1 by the error function, which keeps its digits in both tails.
    return jax.scipy.special.erf(e / math.sqrt(2.0))


def _petal(e: Float[Array, " n"], angle: Float[Array, ""]) -> Float[Array, " 2"]:
    ray = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    across = jnp.stack([-ray[1], ray[0]])
    return (_RING + _ALONG * e[0]) * ray + _ACROSS * e[1] * across


def _roll(e: Float[Array, " 3"]) -> Float[Array, " 2"]:
    # Evenly along the spiral, whose length grows with the square of the radius.
    u = 0.5 + 0.5 * _symmetric(e[2])
    radius = jnp.sqrt(_INNER**2 + (_OUTER**2 - _INNER**2) * u)
    angle = 4.0 * math.pi * radius
    return radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)]) + _THICK * e[:2]


class Rows(eqx.Module):
    """A network that gives rows: a trunk, and means of pixels through a sigmoid, or real values as they are."""

    trunk: tuple[Dense, ...]
    last: Linear
    real: bool = eqx.field(static=True)

    @staticmethod
    def init(
        key: PRNGKeyArray, fan_in: int, widths: tuple[int, ...], activation: str, real: bool, bias: np.ndarray | Array
    ) -> Rows:
        """Return Glorot weights; where nothing is heard, pixels are at the means `bias`."""
        first, second = jax.random.split(key)
        p = np.clip(np.asarray(bias, np.float64), 0.001, 0.999)
        start = np.asarray(bias) if real else np.log(p) - np.log1p(-p)
        last = Linear.init(second, (fan_in, *widths)[-1], len(start), jnp.asarray(start, jnp.float32))
        return Rows(dense_trunk(first, fan_in, widths, activation), last, real)

    def fields(self, z: Float[Array, "*B d"]) -> Float[Array, "*B D"]:
        """Return what the means are the sigmoid of; of real values, themselves."""
        for block in self.trunk:
            z = _dense(block, z)
        return z @ self.last.weight + self.last.bias

    def __call__(self, z: Float[Array, "*B d"]) -> Float[Array, "*B D"]:
        fields = self.fields(z)
        return fields if self.real else jax.nn.sigmoid(fields)


def _dense(block: Dense, x: Float[Array, "*B n"]) -> Float[Array, "*B m"]:
    # A whole batch at a time: what draws a batch's dropout in one go is several times faster than row by row.
    return ACTIVATIONS[block.activation](x @ block.linear.weight + block.linear.bias)


class Critic(eqx.Module):
    r"""A discriminator: layers of rectified or maxout units, and the log-odds that a row is one of the data's.

    A maxout unit is the largest of `pieces` linear ones (Goodfellow et al. 2013); with one piece it is rectified.

    Attributes:
        dropout: shares of the inputs and of each layer that are left out where a key is given.
    """

    layers: tuple[Linear, ...]
    last: Linear
    pieces: int = eqx.field(static=True)
    dropout: tuple[float, float] = eqx.field(static=True, default=(0.0, 0.0))

    @staticmethod
    def init(
        key: PRNGKeyArray, fan_in: int, widths: tuple[int, ...], pieces: int = 1,
        dropout: tuple[float, float] = (0.0, 0.0),
    ) -> Critic:  # fmt: skip
        """Return Glorot weights."""
        keys = jax.random.split(key, len(widths) + 1)
        sizes = (fan_in, *widths)
        layers = tuple(Linear.init(k, a, b * pieces) for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=False))
        return Critic(layers, Linear.init(keys[-1], sizes[-1], 1), pieces, dropout)

    def __call__(self, x: Float[Array, "*B n"], key: PRNGKeyArray | None = None) -> Float[Array, "*B"]:
        """Return the log-odds of rows."""
        for layer, linear in enumerate(self.layers):
            field = self._left(key, layer, x) @ linear.weight + linear.bias
            if self.pieces > 1:
                x = field.reshape(*field.shape[:-1], -1, self.pieces).max(axis=-1)
            else:
                x = jax.nn.relu(field)
        return (self._left(key, len(self.layers), x) @ self.last.weight + self.last.bias)[..., 0]

    def _left(self, key: PRNGKeyArray | None, layer: int, x: Array) -> Array:
        """Return a layer's inputs, some of them left out and the others that much larger."""
        share = self.dropout[min(layer, 1)]
        if key is None or not share:
            return x
        return jnp.where(jax.random.bernoulli(jax.random.fold_in(key, layer), 1.0 - share, x.shape), x, 0) / (1 - share)

    @property
    def matrices(self) -> tuple[Linear, ...]:
        """All layers, the last one too."""
        return (*self.layers, self.last)


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
