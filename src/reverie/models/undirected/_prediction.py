r"""Multi-prediction: a deep Boltzmann machine learnt as the recurrent nets that mean field makes of it.

For each row a random half of its cells is hidden; mean field infers them together with the hidden layers from the
cells that are left, for a fixed number of rounds, and the loss is the cross-entropy of the hidden cells under what the
last round says of them:

.. math:: J = -\,\mathbb E_{m}\sum_{i: m_i = 0} \log \mathrm{Bern}(v_i; \mu_i^{(T)}), \qquad
          \mu^{(t+1)} = \sigma(\text{fields given } \mu^{(t)}, v_m).

No chains and no pretraining; the one gradient of this family that is taken by automatic differentiation, through the
rounds.  What is learnt answers questions about missing cells well, and is no maximum of the likelihood.

Reference: Goodfellow, Mirza, Courville & Bengio, *Multi-Prediction Deep Boltzmann Machines*, 2013.
"""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.evaluate.energy import validator
from reverie.models.undirected._layered import Boltzmann, Layers
from reverie.nn.laws import bernoulli_log_prob
from reverie.train.draws import minibatch
from reverie.train.optimise import Adam, schedule
from reverie.train.recipe import Brief, Player, Recipe


def predicted(model: Boltzmann, x: Float[Array, " D"], known: Float[Array, " D"], rounds: int) -> Float[Array, " D"]:
    """Return the visible fields after mean field that sees the cells where `known` is 1 alone."""
    start = jax.nn.sigmoid(model.base)
    layers: Layers = {0: known * x + (1.0 - known) * start}
    for layer in range(1, model.depth + 1):
        # As if what is to come from above were what comes from below.
        twice = 2.0 if layer < model.depth else 1.0
        layers[layer] = jax.nn.sigmoid(twice * (layers[layer - 1] @ model.weights[layer - 1]) + model.biases[layer])
    field = model.field(0, layers)
    for _ in range(rounds):
        layers = {**layers, **model.means(model.odd, layers)}
        field = model.field(0, layers)
        above = model.means(range(2, model.depth + 1, 2), layers)
        layers = {**layers, **above, 0: known * x + (1.0 - known) * jax.nn.sigmoid(field)}
    return field


def recipe(brief: Brief, model: Boltzmann, how: Any, rounds: int) -> Recipe:
    """Return the recipe that learns by predicting hidden halves."""

    def objective(
        model: Boltzmann, batch: dict[str, Any], carry: Any, key: PRNGKeyArray
    ) -> tuple[Array, Any, dict[str, Array]]:
        rows = batch["x"]
        known = jax.random.bernoulli(key, 0.5, rows.shape).astype(rows.dtype)
        fields = jax.vmap(lambda x, k: predicted(model, x, k, rounds))(rows, known)
        told = (1.0 - known) * bernoulli_log_prob(rows, fields)
        weights = sum((w**2).sum() for w in model.weights)
        # Twice, as half of the cells are asked for: the scale of a log-likelihood.
        asked = 2.0 * told.sum(axis=1).mean()
        return -asked + 0.5 * how.decay * weights, carry, {"objective": asked}

    falling = schedule(how.schedule, how.rate, brief.steps(how.batch))
    return Recipe(
        draw=minibatch(brief.data, how.batch),
        players=(Player(Adam()(falling), objective, moves=lambda path: path != "base"),),
        batch=how.batch,
        select=how.select,
        validate=validator(),
        valid_every=brief.valid_every(how.valid_every),
    )
