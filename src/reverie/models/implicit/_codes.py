r"""The autoencoder on whose codes moments are matched: sigmoids up and down, learnt before the generator.

.. math:: a^l = \sigma(a^{l-1} W_l + c_l), \qquad \tilde a^{l-1} = \sigma(\tilde a^l V_l + b_{l-1}),

the code :math:`a^L` too, so that it lies in [0, 1].  While it learns, shares of each encoder layer's inputs are left
out and the others are that much larger.

References: Li, Swersky & Zemel, *Generative Moment Matching Networks*, 2015 (their code).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.models.implicit import _play as play
from reverie.models.implicit._nets import error, seen
from reverie.nn.blocks import Linear
from reverie.train.draws import minibatch
from reverie.train.optimise import Adam, steepest
from reverie.train.optimise import schedule as falling
from reverie.train.recipe import Player, Recipe

#: The published descent: the largest norm of a gradient, and momenta from the steps named on.
_CLIP, _MOMENTA = 10.0, ((50, 0.5), (200, 0.9))


@dataclass(frozen=True)
class Autoencoder:
    """How the autoencoder is learnt.

    Args:
        epochs: of all layers together.
        greedy: epochs of each layer alone before; 0 leaves it out.
        rate: learning rate.
        optimiser: Adam, or gradient descent whose momentum grows (the published code).
        dropout: shares left out of the inputs of the encoder's layers, from the data upwards.
        batch: rows per step.
    """

    epochs: float = 100.0
    greedy: float = 0.0
    rate: float = 2e-3
    optimiser: play.Optimiser = "adam"
    dropout: tuple[float, ...] = ()
    batch: int = 50


class Coder(eqx.Module):
    """Layers of sigmoids up to a code and down again; see the module's page.

    Attributes:
        up, down: from the data upwards, both.
        real: whether rows are real values rather than means of pixels.
    """

    up: tuple[Linear, ...]
    down: tuple[Linear, ...]
    real: bool = eqx.field(static=True)

    @staticmethod
    def init(key: PRNGKeyArray, widths: tuple[int, ...], real: bool, mean: np.ndarray) -> Coder:
        """Return Glorot weights, the lowest bias at the data's means."""
        keys = jax.random.split(key, 2 * len(widths))
        p = np.clip(np.asarray(mean, np.float64), 0.001, 0.999)
        start = jnp.asarray(mean if real else np.log(p) - np.log1p(-p), jnp.float32)
        up = tuple(Linear.init(k, a, b) for k, (a, b) in zip(keys[::2], pairwise(widths), strict=False))
        down = tuple(
            Linear.init(k, b, a, None if layer else start)
            for layer, (k, (a, b)) in enumerate(zip(keys[1::2], pairwise(widths), strict=False))
        )
        return Coder(up, down, real)

    def lifted(self, a: Float[Array, "*B n"], first: int, last: int) -> Float[Array, "*B m"]:
        """Return layer `last` from layer `first`, the data being layer 0."""
        for linear in self.up[first:last]:
            a = jax.nn.sigmoid(a @ linear.weight + linear.bias)
        return a

    def encode(self, rows: Float[Array, "*B D"]) -> Float[Array, "*B d"]:
        """Return codes."""
        return self.lifted(rows, 0, len(self.up))

    def fields(self, a: Float[Array, "*B d"], first: int, last: int) -> Float[Array, "*B D"]:
        """Return what layer `first` is the sigmoid of, going down from layer `last`."""
        for layer in range(last - 1, first, -1):
            a = jax.nn.sigmoid(a @ self.down[layer].weight + self.down[layer].bias)
        return a @ self.down[first].weight + self.down[first].bias

    def decode(self, code: Float[Array, "*B d"]) -> Float[Array, "*B D"]:
        """Return rows of codes."""
        fields = self.fields(code, 0, len(self.down))
        return fields if self.real else jax.nn.sigmoid(fields)


def reconstructing(first: int, last: int, dropout: tuple[float, ...]) -> Any:
    """Return the objective of giving back layer `first` through layer `last`."""

    def objective(model: Any, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
        coder, (rows, there) = model.coder, seen(batch["x"])
        rows = jax.lax.stop_gradient(coder.lifted(rows, 0, first))
        a = rows
        for layer in range(first, last):
            a = coder.lifted(_left(jax.random.fold_in(key, layer), dropout[layer], a), layer, layer + 1)
        fields = coder.fields(a, first, last)
        there = there if first == 0 else jnp.ones(rows.shape[1])
        loss, squares = error(rows, fields, there, coder.real and first == 0, squared=False)
        return loss, carry, {"squared_error": squares}

    return objective


def _left(key: PRNGKeyArray, share: float, a: Float[Array, "B n"]) -> Float[Array, "B n"]:
    return jnp.where(jax.random.bernoulli(key, 1.0 - share, a.shape), a, 0.0) / (1.0 - share) if share else a


def stages(model: Any, data: Dataset, how: Autoencoder, main: Callable[[], Recipe]) -> Recipe:
    """Return the recipe of the first stage of `model.coder`'s learning; the last is followed by `main`."""
    depth = len(model.coder.up)
    spans = [(layer, layer + 1) for layer in range(depth if how.greedy else 0)] + [(0, depth)]
    return _stage(data, how, how.dropout or (0.0,) * depth, spans, main)


def _stage(
    data: Dataset, how: Autoencoder, dropout: tuple[float, ...], spans: list[tuple[int, int]],
    main: Callable[[], Recipe],
) -> Recipe:  # fmt: skip
    (first, last), *rest = spans
    batch = min(how.batch, data.size("train"))
    epochs = how.epochs if not rest else how.greedy
    steps = max(1, round(epochs * data.size("train") / batch))
    mine = tuple(f"coder.{part}.{layer}." for part in ("up", "down") for layer in range(first, last))

    def following(model: Any, data: Dataset, carry: Any) -> tuple[Any, Recipe]:
        return model, _stage(data, how, dropout, rest, main) if rest else main()

    return Recipe(
        draw=minibatch(data, batch), batch=batch, next=following, epochs=epochs,
        players=(Player(_optimiser(how, steps, alone=bool(rest)), reconstructing(first, last, dropout),
                        moves=lambda path: path.startswith(mine)),),
        name=f"layer {first + 1}" if rest else "autoencoder",
    )  # fmt: skip


def _optimiser(how: Autoencoder, steps: int, alone: bool) -> optax.GradientTransformation:
    if how.optimiser == "adam":
        return Adam()(falling("cosine", how.rate, steps))

    def momentum(step: Array) -> Array:
        found = jnp.full((), 0.5 if alone else 0.0)
        for begins, value in () if alone else _MOMENTA:
            found = jnp.where(step >= begins, value, found)
        return found

    return steepest(lambda step: how.rate, momentum, 1.0, _CLIP)


def check(how: Autoencoder, code: tuple[int, ...], data: Dataset) -> None:
    """Refuse widths and numbers that make no sense."""
    if any(width < 1 for width in code):
        raise ReverieError(f"code: {code} are no widths; give one or more, such as 1024,32, or none")
    if how.dropout and len(how.dropout) != len(code):
        raise ReverieError(f"autoencoder.dropout: {how.dropout} for {len(code)} layers; give one share each, or none")
    play.check_shares(**{"autoencoder.dropout": max(how.dropout, default=0.0)})
    if not (how.epochs > 0 and how.rate > 0 and how.greedy >= 0 and how.batch > 0):
        raise ReverieError("autoencoder: epochs, rate and batch must be positive, and greedy 0 or more")
