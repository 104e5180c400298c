r"""How deep belief nets are learnt: layer by layer, the top machine, and up-down over all of them.

Up-down (the contrastive wake-sleep algorithm) takes, for each row,

1. a wake pass: draws of q(h | v), on which every generative layer learns to predict the layer below it,
   :math:`\nabla_{W_l} = (h^{l-1} - p(h^{l-1} \mid h^l))\, h^{l\top}`;
2. k sweeps of the top machine from there, and its contrastive divergence;
3. a sleep pass: draws of p down from where the sweeps ended, on which every recognition layer learns to predict the
   layer above it, :math:`\nabla_{R_l} = h^{l-1} (h^l - q(h^l \mid h^{l-1}))^\top`.

References: Hinton, Osindero & Teh 2006 (k = 3, 6, 10 in successive thirds).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.energy import validator
from reverie.models.undirected import _learning as learning
from reverie.models.undirected._chains import sweeps_at
from reverie.models.undirected._pretrain import Contrast, Next, Pretrain, contrast, stage
from reverie.models.undirected.rbm import posterior
from reverie.nn.units import Binary
from reverie.train.optimise import Momentum
from reverie.train.recipe import Brief, Gradients, Recipe

#: Rows to which the base law of the top machine is fitted.
_FITTED = 5000


@dataclass(frozen=True)
class UpDown:
    """Up-down: all layers together, once each was learnt.

    Args:
        epochs: 0 leaves it out.
        rate: learning rate, which falls to nothing.
        sweeps: of the top machine, in three successive thirds of the epochs.
    """

    epochs: float = 0.0
    rate: float = 0.01
    sweeps: tuple[int, ...] = (3, 6, 10)

    def check(self) -> None:
        """Refuse numbers that make no sense."""
        if self.epochs < 0 or not self.rate > 0:
            raise ReverieError("updown: epochs is 0 or more, and rate more than 0")
        if not self.sweeps or min(self.sweeps) < 1:
            raise ReverieError(f"updown.sweeps: {self.sweeps} are no numbers of sweeps; give some, such as 3,6,10")


def layers(brief: Brief, model: Any, how: learning.Learning, pretrain: Pretrain, updown: UpDown) -> tuple[Any, Recipe]:
    """Return a net and the recipe of its lowest layer's learning, on which the others follow."""

    def finally_(model: Any, data: Dataset, carry: Any) -> tuple[Any, Recipe]:
        return model, _top(brief, model, how, updown)

    return _layer(model, brief.data, pretrain, how.batch, 1, finally_)


def width_of(model: Any, level: int) -> int:
    """Return the width of hidden layer `level`, 1 the lowest."""
    return model.up_biases[level - 1].size if level < model.depth else model.top.biases[1].size


def put(model: Any, level: int, weights: Array, below: Array, above: Array) -> Any:
    """Return the net with the restricted machine of layers `level` - 1 and `level` set, its both directions tied."""
    if level == model.depth:
        return replace(model, top=replace(model.top, weights=(weights,), biases=(below, above)))
    at = lambda old, new: (*old[: level - 1], jnp.array(new), *old[level:])  # noqa: E731
    return replace(
        model, weights=at(model.weights, weights), up_weights=at(model.up_weights, weights),
        biases=at(model.biases, below), up_biases=at(model.up_biases, above),
    )  # fmt: skip


def started(model: Any, level: int) -> Any:
    """Return the net whose layer `level`, 2 or more, starts as the one below it transposed, where the widths allow."""
    below = model.weights[level - 2]
    if below.shape[0] != width_of(model, level):
        return model
    return put(model, level, below.T, model.up_biases[level - 2], model.biases[level - 2])


def _layer(model: Any, data: Dataset, how: Pretrain, batch: int, level: int, top: Next) -> tuple[Any, Recipe]:
    def following(model: Any, data: Dataset, carry: Any) -> tuple[Any, Recipe]:
        model = started(model, level + 1)
        if level + 1 == model.depth:
            return top(model, data, carry)
        return _layer(model, data, how, batch, level + 1, top)

    mine = {f"{name}.{level - 1}" for name in ("weights", "biases", "up_weights", "up_biases")}
    found = _layer_gradients(how, level, data.size("train") / batch)
    return model, stage(
        data, how, found, name=f"layer {level}", batch=batch, moves=lambda path: path in mine, carry=(),
        following=following,
    )  # fmt: skip


def _layer_gradients(how: Pretrain, level: int, epoch_steps: float) -> Gradients:
    def found(model: Any, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Any, Any, dict[str, Array]]:
        first, second = jax.random.split(key)
        rows = _risen(model, first, batch["x"])[level - 1]
        weights = model.weights[level - 1]
        at = contrast(second, weights, model.biases[level - 1], model.up_biases[level - 1], rows, visible=Binary(),
                      hidden=Binary(), count=sweeps_at(how, batch["step"], epoch_steps))  # fmt: skip
        zero = jax.tree.map(jnp.zeros_like, model)
        # Both directions have the same weights and the same gradient until up-down parts them.
        loss = put(zero, level, how.decay * weights - at.weights, -at.below, -at.above)
        return loss, carry, {"reconstruction_error": at.error, "active": at.active, "loss": at.error}

    return found


def _risen(model: Any, key: PRNGKeyArray, rows: Float[Array, "B D"]) -> list[Array]:
    return jax.vmap(model.up)(jax.random.split(key, len(rows)), rows)


def _top(brief: Brief, model: Any, how: learning.Learning, updown: UpDown) -> Recipe:
    """Return the recipe of the top machine, on draws of what the layers below make of the rows."""
    alone = learning.machine(brief, model.top, posterior, how, mean=np.full(model.top.biases[0].size, 0.5))
    inner = alone.players[0].gradients
    assert inner is not None

    def found(model: Any, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Any, Any, dict[str, Array]]:
        first, second = jax.random.split(key)
        rows = _risen(model, first, batch["x"])[-1]
        loss, carry, shown = inner(model.top, {**batch, "x": rows}, carry, second)
        # Below the top no data set says what the mean of a layer is.
        seen = carry.offsets[0] + learning.FOLLOW * (rows.mean(axis=0) - carry.offsets[0])
        carry = carry._replace(offsets=(seen, *carry.offsets[1:]))
        return replace(jax.tree.map(jnp.zeros_like, model), top=loss), carry, shown

    def following(model: Any, data: Dataset, carry: Any) -> tuple[Any, Recipe]:
        return model, _updown(brief, updown, how)

    player = replace(alone.players[0], gradients=found, moves=lambda p: p.startswith("top.") and p != "top.base")
    return replace(
        alone, players=(player,), finish=fitted, name="top", next=following if updown.epochs else None
    )  # fmt: skip


def fitted(model: Any, data: Dataset, key: PRNGKeyArray) -> Any:
    """Return the net whose top machine's base law has the means of what the layers below make of some rows."""
    rows = data.rows("train", 0, _FITTED)
    mean = np.asarray(_mean_lifted(model, key, jnp.asarray(rows)))
    base = jnp.asarray(model.top.visible.fitted_field(mean, len(rows)), model.top.base.dtype)
    return replace(model, top=replace(model.top, base=base))


@eqx.filter_jit
def _mean_lifted(model: Any, key: PRNGKeyArray, rows: Array) -> Array:
    return _risen(model, key, rows)[-1].mean(axis=0)


def _updown(brief: Brief, how: UpDown, learnt: learning.Learning) -> Recipe:
    data, batch = brief.data, learnt.batch
    steps = max(1, round(how.epochs * data.size("train") / batch))
    plain = Pretrain(epochs=how.epochs, rate=how.rate)
    made = stage(
        data, plain, updown_gradients(how.sweeps, steps), name="up-down", batch=batch,
        moves=lambda p: p != "top.base", carry=(), following=None, momentum=Momentum(0.5, 0.5),
    )  # fmt: skip
    return replace(
        made, finish=fitted, select=learnt.select, validate=validator(),
        valid_every=replace(brief, epochs=how.epochs).valid_every(learnt.valid_every),
    )  # fmt: skip


def updown_gradients(sweeps: tuple[int, ...], steps: int) -> Gradients:
    """Return the gradients of contrastive wake-sleep; `sweeps` in successive parts of so many steps."""

    def found(model: Any, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Any, Any, dict[str, Array]]:
        wake, middle, sleep = jax.random.split(key, 3)
        part = jnp.minimum(batch["step"] * len(sweeps) // steps, len(sweeps) - 1)
        risen = _risen(model, wake, batch["x"])
        at, fallen = _through(model, middle, sleep, risen[-1], jnp.asarray(sweeps)[part])
        count = len(batch["x"])

        def told(sources: Array, targets: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
            """Return the slopes, downhill, of the cross-entropy of `targets` predicted from `sources`."""
            gap = jax.nn.sigmoid(sources @ weight + bias) - targets
            return sources.T @ gap / count, gap.mean(axis=0)

        # Layers of the wake pass predict those below, layers of the sleep pass those above.
        down = [told(risen[n + 1], risen[n], model.weights[n].T, model.biases[n]) for n in range(model.depth - 1)]
        up = [told(fallen[n], fallen[n + 1], model.up_weights[n], model.up_biases[n]) for n in range(model.depth - 1)]
        loss = replace(
            jax.tree.map(jnp.zeros_like, model),
            top=replace(jax.tree.map(jnp.zeros_like, model.top), weights=(-at.weights,), biases=(-at.below, -at.above)),
            weights=tuple(w.T for w, _ in down), biases=tuple(b for _, b in down),
            up_weights=tuple(w for w, _ in up), up_biases=tuple(b for _, b in up),
        )  # fmt: skip
        return loss, carry, {"reconstruction_error": at.error, "active": at.active, "loss": at.error}

    return found


def _through(
    model: Any, middle: PRNGKeyArray, sleep: PRNGKeyArray, start: Array, count: Array
) -> tuple[Contrast, list[Array]]:
    """Return the top machine's contrast from `start`, and the layers drawn down from where it ended, data first."""
    top = model.top
    at = contrast(middle, top.weights[0], top.biases[0], top.biases[1], start, visible=Binary(), hidden=Binary(),
                  count=count)  # fmt: skip
    fallen = jax.vmap(model.down)(jax.random.split(sleep, len(start)), at.ended)
    return at, fallen[::-1]
