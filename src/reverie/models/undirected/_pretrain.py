r"""Layers learnt one by one, each a restricted Boltzmann machine on what the one below makes of the data.

A layer of a deep Boltzmann machine hears both its neighbours, a machine that is learnt alone only one: it must do the
absent one's part too.  With a share s of each layer's implicit prior replaced by the layer above, the machine between
layers l - 1 and l is learnt with its inputs multiplied (Salakhutdinov & Hinton 2009, where s = 1/2 and both are 2),

.. math:: q(h_l \mid h_{l-1}) = \sigma\Big(\tfrac{1}{1-s}(h_{l-1} W_l + c_l)\Big), \qquad
          p(h_{l-1} \mid h_l) = \sigma\Big(\tfrac{1}{s}(W_l h_l + d_{l-1})\Big),

without the first factor at the top and the second at the data.  Composed, every layer has the weights once, and the
two biases it was learnt with add up.  Hinton & Salakhutdinov (2012) give the second layer a larger share; s = 2/3 is
what is known here of their recipe, whose scaling was not read in the paper.

References: Salakhutdinov & Hinton, *Deep Boltzmann Machines*, 2009; Hinton & Salakhutdinov, *A Better Way to Pretrain
Deep Boltzmann Machines*, 2012; Hinton, Osindero & Teh 2006 (all factors 1: deep belief nets).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.models.undirected._chains import sweeps_at
from reverie.models.undirected._layered import Boltzmann
from reverie.models.undirected._learning import average_gradient
from reverie.nn.units import Binary, Gaussian, Units
from reverie.train.draws import minibatch
from reverie.train.optimise import Momentum, schedule, steepest
from reverie.train.recipe import Gradients, Player, Recipe

#: (model, data, what the last stage carried) -> the following stage.
Next = Callable[[Any, Dataset, Any], tuple[Any, Recipe]]
M = TypeVar("M", bound=Boltzmann)
#: The rate of real-valued rows beside that of bits, whose means cannot run away.
REAL = 0.2


@dataclass(frozen=True)
class Pretrain:
    """Layers learnt one by one, before all of them together.

    Args:
        epochs: of each layer; 0 leaves it out.
        rate: learning rate, which falls to nothing over each layer's epochs; real-valued rows take a fifth of it.
        sweeps: of contrastive divergence.
        grow: epochs after which it takes one sweep more; 0 is never.
        decay: of the weights.
        share: of a layer's implicit prior that the layer above replaces (dbm; 2009: 0.5).
    """

    epochs: float = 0.0
    rate: float = 0.05
    sweeps: int = 1
    grow: float = 0.0
    decay: float = 2e-4
    share: float = 0.5

    def check(self) -> None:
        """Refuse numbers that make no sense."""
        if self.epochs < 0 or self.grow < 0:
            raise ReverieError("pretrain: epochs and grow are numbers of epochs; give 0 or more")
        if self.sweeps < 1:
            raise ReverieError(f"pretrain.sweeps: {self.sweeps} is too little; give 1 or more")
        if not 0 < self.share < 1:
            raise ReverieError(f"pretrain.share: {self.share:g} is no share; give one between 0 and 1, such as 0.5")

    def factors(self, layer: int, depth: int) -> tuple[float, float]:
        """Return what the inputs of the machine below layer 1, ..., depth are multiplied by, upwards and downwards."""
        return 1.0 / (1.0 - self.share) if layer < depth else 1.0, 1.0 / self.share if layer > 1 else 1.0


class Contrast(NamedTuple):
    """A restricted machine's gradient by contrastive divergence.

    Attributes:
        weights, below, above: of the mean log-likelihood, uphill.
        error, active: of the reconstruction, and the mean activity above.
        ended: the lower layer where the sweeps ended.
    """

    weights: Float[Array, "D F"]
    below: Float[Array, " D"]
    above: Float[Array, " F"]
    error: Float[Array, ""]
    active: Float[Array, ""]
    ended: Float[Array, "B D"]


def contrast(
    key: PRNGKeyArray,
    weights: Float[Array, "D F"],
    below: Float[Array, " D"],
    above: Float[Array, " F"],
    rows: Float[Array, "B D"],
    *,
    visible: Units,
    hidden: Units,
    count: int | Int[Array, ""] = 1,
    up: float = 1.0,
    down: float = 1.0,
) -> Contrast:
    """Return what `count` sweeps from the data say of a restricted machine.

    Args:
        below, above: biases of its two layers.
        rows: of its lower layer.
        visible, hidden: what the layers are made of.
        up, down: multiply the inputs of the upper and of the lower layer.
    """
    lift = lambda x: up * (jax.vmap(visible.statistic)(x) @ weights + above)  # noqa: E731
    drop = lambda h: down * (h @ weights.T + below)  # noqa: E731

    def drawn(own: PRNGKeyArray, units: Units, fields: Array) -> Array:
        return jax.vmap(units.sample)(jax.random.split(own, len(fields)), fields)

    def sweep(i: Array, x: Array) -> Array:
        first, second = jax.random.split(jax.random.fold_in(key, i))
        return drawn(second, visible, drop(drawn(first, hidden, lift(x))))

    after = jax.lax.fori_loop(0, count, sweep, rows)
    plus, minus = (jax.vmap(hidden.mean)(lift(x)) for x in (rows, after))
    before, then = (jax.vmap(visible.statistic)(x) for x in (rows, after))
    back = jax.vmap(visible.mean)(drop(plus))
    return Contrast(
        (before.T @ plus - then.T @ minus) / len(rows), before.mean(0) - then.mean(0), plus.mean(0) - minus.mean(0),
        ((rows - back) ** 2).sum(axis=1).mean(), plus.mean(), after,
    )  # fmt: skip


def stage(
    data: Dataset, how: Pretrain, gradients: Gradients, *, name: str, batch: int, moves: Callable[[str], bool],
    carry: Any, following: Next | None, momentum: Momentum | None = None, rate: float | None = None,
) -> Recipe:  # fmt: skip
    """Return the recipe of one layer's learning, which hands on to `following`, if anything follows."""
    epoch_steps = data.size("train") / batch
    falling = schedule("linear", how.rate if rate is None else rate, max(1, round(how.epochs * epoch_steps)))
    optimiser = steepest(falling, momentum or Momentum(0.5, 0.9, 5.0), epoch_steps)
    return Recipe(
        draw=minibatch(data, batch), players=(Player(optimiser, gradients=gradients, moves=moves),), batch=batch,
        carry=carry, next=following, epochs=how.epochs, name=name,
    )  # fmt: skip


def layers(model: M, data: Dataset, how: Pretrain, batch: int, joint: Next) -> tuple[M, Recipe]:
    """Return a deep machine and the recipe of its first layer's learning; `joint` follows the last layer's."""
    return _layer(model, data, how, batch, 1, (), joint)


def _layer(
    model: M, data: Dataset, how: Pretrain, batch: int, layer: int, biases: tuple[Array, ...], joint: Next
) -> tuple[M, Recipe]:
    """`biases`: those that the hidden layers below `layer` were learnt with as the upper ones of their machines."""

    def following(model: Boltzmann, data: Dataset, carry: tuple[Array, ...]) -> tuple[Any, Recipe]:
        if layer == model.depth:
            return joint(model, data, carry)
        return _layer(model, data, how, batch, layer + 1, (*carry, model.biases[layer]), joint)

    mine = {f"weights.{layer - 1}", f"biases.{layer - 1}", f"biases.{layer}"}
    if layer == 1:
        mine |= {"visible.log_variance"}
    return model, stage(
        data, how, _layer_gradients(how, layer, data.size("train") / batch), name=f"layer {layer}", batch=batch,
        moves=lambda path: path in mine, carry=biases, following=following,
        rate=how.rate * (REAL if layer == 1 and isinstance(model.visible, Gaussian) else 1.0),
    )  # fmt: skip


def _of_real_rows(model: Boltzmann, rows: Float[Array, "B D"], ended: Float[Array, "B D"], up: float) -> Boltzmann:
    """Return the lowest machine's gradient as machines learn alone: centred, in the columns' units, variances too.

    With variances that stay the columns' own, whatever the features add would be too much.
    """

    def layers(x: Array) -> dict[int, Array]:
        seen = jax.vmap(model.visible.statistic)(x)
        return {0: x, 1: jax.nn.sigmoid(up * (seen @ model.weights[0] + model.biases[1]))}

    data, zero = layers(rows), jax.tree.map(jnp.zeros_like, model)
    lowest = replace(model, weights=model.weights[:1], biases=model.biases[:2])
    found = average_gradient(lowest, data, layers(ended), (data[0].mean(axis=0), data[1].mean(axis=0)), True)
    return replace(
        found, weights=(*found.weights, *zero.weights[1:]), biases=(*found.biases, *zero.biases[2:])
    )  # fmt: skip


def _layer_gradients(how: Pretrain, layer: int, epoch_steps: float) -> Gradients:
    def found(
        model: Boltzmann, batch: dict[str, Any], carry: tuple[Array, ...], key: PRNGKeyArray
    ) -> tuple[Boltzmann, tuple[Array, ...], dict[str, Array]]:
        rows, first, second = batch["x"], *jax.random.split(key)
        for below in range(1, layer):
            up, _ = how.factors(below, model.depth)
            seen = jax.vmap(model.units(below - 1).statistic)(rows)
            field = up * (seen @ model.weights[below - 1] + carry[below - 1])
            rows = jax.random.bernoulli(jax.random.fold_in(first, below), jax.nn.sigmoid(field)).astype(field.dtype)
        up, down = how.factors(layer, model.depth)
        weights, visible = model.weights[layer - 1], model.units(layer - 1)
        own = model.biases[layer - 1] - (carry[layer - 2] if layer > 1 else 0.0)
        at = contrast(second, weights, own, model.biases[layer], rows, visible=visible, hidden=Binary(),
                      count=sweeps_at(how, batch["step"], epoch_steps), up=up, down=down)  # fmt: skip
        zero = jax.tree.map(jnp.zeros_like, model)
        put = lambda old, n, new: (*old[:n], new, *old[n + 1 :])  # noqa: E731
        loss = replace(
            zero,
            weights=put(zero.weights, layer - 1, how.decay * weights - at.weights),
            biases=put(put(zero.biases, layer - 1, -at.below), layer, -at.above),
        )
        if isinstance(visible, Gaussian):
            loss = jax.tree.map(jnp.negative, _of_real_rows(model, rows, at.ended, up))
            loss = replace(loss, weights=(how.decay * weights + loss.weights[0], *loss.weights[1:]))
        return loss, carry, {"reconstruction_error": at.error, "active": at.active, "loss": at.error}

    return found
