"""Layers of an autoencoder learnt one by one, each as a restricted Boltzmann machine or as a shallow autoencoder.

A layer learns on the means that the layers below make of the data.  A machine's own biases are those of the way up and
of the way down; its weights go both ways.  A shallow autoencoder may be a plain one, a denoising one (``dae``), which
gives back the clean means from corrupted ones, or a contractive one (``cae``).

References: Hinton & Salakhutdinov 2006; Bengio, Lamblin, Popovici & Larochelle 2007; Vincent et al. 2010; Rifai et al.
2011.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.models.reconstructing._net import ENDS, SLOPES, Net, contraction
from reverie.models.undirected import _pretrain as layerwise
from reverie.nn.blocks import ACTIVATIONS
from reverie.nn.laws import bernoulli_log_prob
from reverie.nn.units import Binary, Gaussian, Units
from reverie.train.draws import minibatch
from reverie.train.optimise import Adam
from reverie.train.optimise import schedule as falling
from reverie.train.recipe import Player, Recipe

How = Literal["rbm", "ae", "dae", "cae", "none"]


@dataclass(frozen=True)
class Stack:
    """Layers learnt one by one.

    Args:
        epochs: of each layer.
        rate: of a machine of binary units; it falls to nothing over the layer's epochs.
        linear_rate: of a machine one of whose layers is linear.
        sweeps: of contrastive divergence.
        decay: of the machines' weights.
    """

    epochs: float = 10.0
    rate: float = 0.1
    linear_rate: float = 0.001
    sweeps: int = 1
    decay: float = 2e-4

    def check(self) -> None:
        """Refuse numbers that make no sense."""
        for name, value in (("epochs", self.epochs), ("rate", self.rate), ("linear_rate", self.linear_rate)):
            if not value > 0:
                raise ReverieError(f"stack.{name}: {value} must be positive; --pretrain none leaves the stack out")
        if self.sweeps < 1:
            raise ReverieError(f"stack.sweeps: {self.sweeps} is too little; give 1 or more")


def loss_of(rows: Float[Array, "B n"], fields: Float[Array, "B n"], real: bool) -> Float[Array, ""]:
    """Return the mean over rows of the cross-entropy, or of half the squared error of real values, summed over cells.

    Missing cells count for nothing.
    """
    there = ~jnp.isnan(rows)
    x = jnp.where(there, rows, 0.0)
    each = 0.5 * (x - fields) ** 2 if real else -bernoulli_log_prob(x, fields)
    return jnp.where(there, each, 0.0).sum(axis=1).mean()


def below(model: Net, rows: Float[Array, "B D"], layer: int) -> Float[Array, "B n"]:
    """Return the means of layer `layer` of rows, the data being layer 0."""
    a = jnp.where(jnp.isnan(rows), 0.0, rows)
    for lower in range(layer):
        a = jax.vmap(lambda one, lower=lower: model.lifted(one, lower))(a)
    return a


def units_of(model: Net, layer: int) -> Units:
    """Return what a layer of the stack is made of while it is learnt."""
    linear = model.real if layer == 0 else model.units_at(layer) == "linear"
    width = model.up[layer].shape[0] if layer < model.depth else model.code_width
    return Gaussian(jnp.zeros(width)) if linear else Binary()


def machine_gradients(stack: Stack, layer: int) -> Any:
    """Return the gradients of the machine between layers `layer` and `layer` + 1."""

    def found(model: Net, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Net, Any, dict[str, Array]]:
        weights = model.up[layer]
        at = layerwise.contrast(
            key, weights, model.down_biases[layer], model.up_biases[layer], below(model, batch["x"], layer),
            visible=units_of(model, layer), hidden=units_of(model, layer + 1), count=stack.sweeps,
        )  # fmt: skip
        put = lambda old, new: (*old[:layer], new, *old[layer + 1 :])  # noqa: E731
        zero = jax.tree.map(jnp.zeros_like, model)
        loss = replace(
            zero,
            up=put(zero.up, stack.decay * weights - at.weights),
            up_biases=put(zero.up_biases, -at.above),
            down_biases=put(zero.down_biases, -at.below),
        )
        return loss, carry, {"reconstruction_error": at.error, "loss": at.error}

    return found


def shallow(layer: int, how: How = "ae", cost: float = 0.0) -> Any:
    """Return the objective of the autoencoder between layers `layer` and `layer` + 1; `cost` of the contraction."""

    def found(model: Net, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict[str, Array]]:
        rows = jax.lax.stop_gradient(below(model, batch["x"], layer))
        kind = model.units_at(layer) if layer else ""
        seen = model.corruption(key, rows, ENDS.get(kind, (0.0, 1.0))) if how == "dae" else rows
        above = jax.vmap(lambda a: model.lifted(a, layer))(seen)
        fields = above @ model.decoder[layer] + model.down_biases[layer]
        linear = model.real if layer == 0 else kind != "sigmoid"
        loss = loss_of(rows, ACTIVATIONS[kind](fields) if layer and linear else fields, linear)
        if how == "cae":
            slopes = SLOPES[model.units_at(layer + 1)](above)
            loss += cost * jax.vmap(lambda s: contraction([model.up[layer]], [s]))(slopes).mean()
        return loss, carry, {}

    return found


def stage_of(model: Net, data: Dataset, how: How, stack: Stack, rate: float, batch: int, layer: int,
             main: Callable[[], Recipe], cost: float = 0.0) -> Recipe:  # fmt: skip
    """Return the recipe of one layer's learning, the following layers' after it, and `main` after the last's."""

    def following(model: Net, data: Dataset, carry: Any) -> tuple[Net, Recipe]:
        if layer + 1 < model.depth:
            return model, stage_of(model, data, how, stack, rate, batch, layer + 1, main, cost)
        return (model.unrolled() if how == "rbm" else model), main()

    mine = {f"{part}.{layer}" for part in ("up", "up_biases", "down_biases")}
    if how != "rbm":
        steps = max(1, round(stack.epochs * data.size("train") / batch))
        player = Player(Adam()(falling("cosine", rate, steps)), shallow(layer, how, cost),
                        moves=lambda path: path in mine | {f"down.{layer}"})  # fmt: skip
        return Recipe(draw=minibatch(data, batch), players=(player,), batch=batch, next=following,
                      epochs=stack.epochs, name=f"layer {layer + 1}")  # fmt: skip
    linear = any(isinstance(units_of(model, at), Gaussian) for at in (layer, layer + 1))
    return layerwise.stage(
        data, layerwise.Pretrain(epochs=stack.epochs), machine_gradients(stack, layer), name=f"layer {layer + 1}",
        batch=batch, moves=lambda path: path in mine, carry=None, following=following,
        rate=stack.linear_rate if linear else stack.rate,
    )  # fmt: skip
