r"""How Boltzmann machines are trained: statistics of the data against statistics of the model's own chains.

.. math:: \nabla_{W_l} = \langle t_l\, t_{l+1}^\top\rangle_{data} - \langle t_l\, t_{l+1}^\top\rangle_{model}, \qquad
          \nabla_{b_l} = \langle t_l\rangle_{data} - \langle t_l\rangle_{model}

No autograd: the gradient is known.  The model's average comes from k sweeps of chains that start at the data
(contrastive divergence), go on from step to step (``pcd``; Younes 1999, Tieleman 2008), or are swapped among replicas
at several temperatures (``pt``; Desjardins et al. 2010).  The last hidden layer of either average is its expectation
rather than a draw, which takes variance away and no exactness.

Centring (Montavon & Müller 2012; Cho et al. 2011) is a change of the search direction alone: with offsets o,

.. math:: \nabla_{W_l} = \langle (t_l - o_l)(t_{l+1} - o_{l+1})^\top\rangle_{data} - \langle\cdot\rangle_{model}, \qquad
          \nabla_{b_l} = \langle t_l\rangle_{data} - \langle t_l\rangle_{model}
                         - \nabla_{W_l} o_{l+1} - \nabla_{W_{l-1}}^\top o_{l-1},

which makes learning indifferent to which of two values a unit calls 1.  The visible offset is the data's mean, the
hidden ones follow the data's averages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.energy import validator
from reverie.models.undirected._layered import Boltzmann, Layers, State, base_field, initial
from reverie.nn.units import Binary, Gaussian
from reverie.prob.tempering import swap_neighbours
from reverie.train.draws import minibatch
from reverie.train.optimise import schedule
from reverie.train.recipe import Brief, Player, Recipe

Chain = Literal["cd", "pcd", "pt"]
#: From a machine, rows and a key to the rows' layers (means above the data) and a state each.
Posterior = Callable[[Any, Float[Array, "B D"], PRNGKeyArray], tuple[Layers, State]]
M = TypeVar("M", bound=Boltzmann)
#: How fast the hidden offsets follow the data's averages.
_FOLLOW = 0.01


class Carry(NamedTuple):
    """What training a machine keeps besides its weights.

    Attributes:
        states: of the chains, chains in front (for ``pt``: replicas, then chains; the last replica is the model's).
        offsets: of every layer.
        swaps: how many of the last swaps of each pair of neighbours were accepted, as a running mean.
    """

    states: State
    offsets: tuple[Float[Array, " _"], ...]
    swaps: Float[Array, " R1"]


def average_gradient(
    model: Boltzmann, data: Layers, chains: Layers, offsets: tuple[Array, ...], centred: bool
) -> Boltzmann:
    """Return the gradient of the mean log-likelihood from layers of the data and of the chains, rows in front.

    Leaves that are not learned have a gradient of zero.
    """
    statistic = lambda layers: [  # noqa: E731
        jax.vmap(model.visible.statistic)(layers[0]),
        *(layers[layer] for layer in range(1, model.depth + 1)),
    ]
    plus, minus = statistic(data), statistic(chains)
    at = offsets if centred else tuple(jnp.zeros_like(o) for o in offsets)
    gaps = [p.mean(axis=0) - m.mean(axis=0) for p, m in zip(plus, minus, strict=True)]

    def product(stats: list[Array], layer: int) -> Array:
        return (stats[layer] - at[layer]).T @ (stats[layer + 1] - at[layer + 1]) / len(stats[layer])

    weights = tuple(product(plus, layer) - product(minus, layer) for layer in range(model.depth))
    biases = []
    for layer, gap in enumerate(gaps):
        above = weights[layer] @ at[layer + 1] if layer < model.depth else 0.0
        below = weights[layer - 1].T @ at[layer - 1] if layer else 0.0
        biases.append(gap - above - below)
    return replace(
        model,
        weights=weights,
        biases=tuple(biases),
        visible=_variance_gradient(model, data, chains),
        base=jnp.zeros_like(model.base),
    )


def _variance_gradient(model: Boltzmann, data: Layers, chains: Layers) -> Any:
    """Return the gradient of log variances, d log p / dz = <v^2/2s^2 - t(v) f>_data - <.>_model."""
    units = model.visible
    if not isinstance(units, Gaussian):
        return units

    def slope(layers: Layers) -> Array:
        stats = jax.vmap(units.statistic)(layers[0])
        fields = model.biases[0] + layers[1] @ model.weights[0].T
        return (0.5 * layers[0] * stats - stats * fields).mean(axis=0)

    return replace(units, log_variance=slope(data) - slope(chains))


def batched_sweeps(model: Boltzmann, key: PRNGKeyArray, states: State, sweeps: int, beta: Any = 1.0) -> State:
    """Return all chains after so many sweeps."""
    count = states[0].shape[0]

    def sweep(_: Any, at: tuple[Array, State]) -> tuple[Array, State]:
        key, now = at
        key, own = jax.random.split(key)
        return key, jax.vmap(lambda k, s: model.sweep(k, s, beta))(jax.random.split(own, count), now)

    return jax.lax.fori_loop(0, sweeps, sweep, (key, states))[1]


def negative(model: Boltzmann, key: PRNGKeyArray, states: State, sweeps: int) -> tuple[Layers, State]:
    """Return the layers of the chains after `sweeps` sweeps, the odd ones as means, and their states."""
    before, last, draw = jax.random.split(key, 3)
    states = batched_sweeps(model, before, states, sweeps - 1)
    count = states[0].shape[0]
    even = jax.vmap(lambda k, s: model.draw(k, model.even, model.layers(s)))(jax.random.split(last, count), states)
    means = jax.vmap(lambda layers: model.means(model.odd, layers))(even)
    keys = jax.random.split(draw, count)
    states = jax.vmap(lambda k, layers: model.state(model.draw(k, model.odd, layers)))(keys, even)
    return {**even, **means}, states


def gradients(
    posterior: Posterior,
    *,
    chain: Chain,
    sweeps: int,
    centred: bool,
    betas: Float[np.ndarray, " R"] | None = None,
    decay: float = 0.0,
    sparsity: float = 0.0,
    sparsity_cost: float = 0.0,
) -> Callable[..., tuple[Boltzmann, Carry, dict[str, Array]]]:
    """Return what a player needs: ``(model, batch, carry, key) -> (gradients of the loss, carry, what is logged)``.

    Args:
        posterior: from rows to their layers (means above the data) and a draw of their state.
        betas: of the replicas, rising to 1 (``pt``).
        decay: pulls weights, not biases, towards zero.
        sparsity: mean activity aimed at; `sparsity_cost` weighs how far hidden units are from it.
    """

    def found(
        model: Boltzmann, batch: dict[str, Any], carry: Carry, key: PRNGKeyArray
    ) -> tuple[Boltzmann, Carry, dict[str, Array]]:
        first, second, third, fourth = jax.random.split(key, 4)
        rows = batch["x"]
        data, start = posterior(model, rows, first)
        swaps = carry.swaps
        if chain == "pt":
            states, taken = _tempered(model, second, carry.states, jnp.asarray(betas), sweeps, batch["step"])
            chains, last = negative(model, third, jax.tree.map(lambda s: s[-1], states), 1)
            states = jax.tree.map(lambda s, new: s.at[-1].set(new), states, last)
            swaps = swaps + 0.05 * (jnp.where(taken > 0, taken, swaps) - swaps)
        else:
            chains, states = negative(model, third, start if chain == "cd" else carry.states, sweeps)
        up = average_gradient(model, data, chains, carry.offsets, centred)
        activity = [data[layer].mean(axis=0) for layer in range(1, model.depth + 1)]
        pull = [sparsity_cost * (sparsity - a) if sparsity_cost else 0.0 for a in activity]
        loss = replace(
            up,
            weights=tuple(decay * w - g for w, g in zip(model.weights, up.weights, strict=True)),
            biases=(-up.biases[0], *(-(g + p) for g, p in zip(up.biases[1:], pull, strict=True))),
            visible=jax.tree.map(jnp.negative, up.visible),
        )
        follow = lambda old, new: old + _FOLLOW * (new - old)  # noqa: E731
        offsets = (carry.offsets[0], *map(follow, carry.offsets[1:], activity))
        kept = carry.states if chain == "cd" else states
        return loss, Carry(kept, offsets, swaps), _logged(model, fourth, rows, data, chains)

    return found


def _tempered(
    model: Boltzmann, key: PRNGKeyArray, states: State, betas: Float[Array, " R"], sweeps: int, step: Array
) -> tuple[State, Float[Array, " R1"]]:
    move, swap = jax.random.split(key)
    keys = jax.random.split(move, betas.shape[0])
    moved = jax.vmap(lambda k, s, beta: batched_sweeps(model, k, s, sweeps, beta))(keys, states, betas)
    even, odd = jax.random.split(swap)
    moved, first = swap_neighbours(model, even, moved, betas, 0)
    moved, second = swap_neighbours(model, odd, moved, betas, 1)
    return moved, first + second


def _logged(model: Boltzmann, key: PRNGKeyArray, rows: Array, data: Layers, chains: Layers) -> dict[str, Array]:
    """Return what is shown of a step: none of it is the likelihood, and only validation chooses by one."""
    back = jax.vmap(lambda h: model.visible.mean(model.field(0, {1: h})))(data[1])
    energy = jax.vmap(model.energy)
    shown = {
        "reconstruction_error": ((rows - back) ** 2).sum(axis=1).mean(),
        "active": data[1].mean(),
        # Its gradient at fixed states is the step's; large and growing, the chains have lost the model.
        "loss": energy(data).mean() - energy(chains).mean(),
    }
    if model.depth == 1 and isinstance(model.visible, Binary):
        shown["pseudo_likelihood"] = pseudo_likelihood(model, key, rows).mean()
    return shown


def pseudo_likelihood(model: Boltzmann, key: PRNGKeyArray, rows: Float[Array, "B D"]) -> Float[Array, " B"]:
    r"""Return :math:`D \log p(v_i \mid v_{-i})` at one column i of each row, drawn at random: unbiased for the sum.

    Flipping a column changes the hidden fields by a row of W, so it costs no matrix product.
    """

    def one(own: PRNGKeyArray, x: Array) -> Array:
        i = jax.random.randint(own, (), 0, x.size)
        turn = 1.0 - 2.0 * x[i]
        field = model.field(1, {0: x})
        hidden = jax.nn.softplus(field + turn * model.weights[0][i]) - jax.nn.softplus(field)
        return -x.size * jax.nn.softplus(turn * model.biases[0][i] + hidden.sum())

    return jax.vmap(one)(jax.random.split(key, len(rows)), rows)


def starting_chains(
    model: Boltzmann, key: PRNGKeyArray, chain: Chain, chains: int, replicas: int
) -> tuple[State, Float[Array, " R1"]]:
    """Return chains at draws of the base law, and no swaps yet."""
    draw = jax.vmap(model.draw_base)
    if chain == "cd":
        return jax.tree.map(lambda s: s[:0], draw(jax.random.split(key, 1))), jnp.zeros(0)
    if chain == "pcd":
        return draw(jax.random.split(key, chains)), jnp.zeros(0)
    keys = jax.random.split(key, replicas * chains)
    states = jax.tree.map(lambda s: s.reshape(replicas, chains, *s.shape[1:]), draw(keys))
    return states, jnp.full(replicas - 1, 0.5)


def binary_rows(data: Dataset, model: str) -> None:
    """Refuse data that a machine of binary units cannot take; `model` with its article."""
    if data.likelihood != "bernoulli":
        raise ReverieError(f"likelihood: {model} needs binary data, not {data.likelihood}; give --likelihood bernoulli")
    if data.missing:
        raise ReverieError(
            f"{data.name}: {model} takes no missing cells; fill them in, or train a vae, which leaves them out"
        )


def machine(
    brief: Brief,
    kind: type[M],
    hidden: tuple[int, ...],
    posterior: Posterior,
    *,
    chain: Chain,
    sweeps: int,
    chains: int,
    replicas: int,
    centred: bool,
    decay: float,
    sparsity: float,
    sparsity_cost: float,
    batch: int,
    rate: float,
    schedule_name: str,
    momentum: float,
    select: str,
    valid_every: float | None,
) -> tuple[M, Recipe]:
    """Return an untrained machine of binary units and the recipe of its one player, as the models' recipes ask."""
    for name, value in (("sweeps", sweeps), ("chains", chains), ("batch", batch), *(("hidden", n) for n in hidden)):
        require(name, value, 1)
    require("replicas", replicas, 2)
    data = brief.data
    weights_key, chains_key = jax.random.split(brief.key)
    base = base_field("binary", data.mean, data.size("train"))
    model = kind(**initial(weights_key, (data.width, *hidden), base, Binary(), 0.01))
    states, swaps = starting_chains(model, chains_key, chain, chains, replicas)
    offsets = (jnp.asarray(data.mean, jnp.float32), *(jnp.full(n, 0.5) for n in hidden))
    found = gradients(
        posterior, chain=chain, sweeps=sweeps, centred=centred, betas=np.linspace(0.0, 1.0, replicas), decay=decay,
        sparsity=sparsity, sparsity_cost=sparsity_cost,
    )  # fmt: skip
    optimiser = steepest(schedule(schedule_name, rate, brief.steps(batch)), momentum)
    return model, Recipe(
        draw=minibatch(data, batch),
        # The base law is where annealing starts, and nothing to be learnt.
        players=(Player(optimiser, gradients=found, moves=lambda path: path != "base"),),
        batch=batch,
        carry=Carry(states, offsets, swaps),
        select=select,  # type: ignore[arg-type]
        validate=validator(),
        valid_every=valid_every or max(1.0, round(brief.epochs / 10)),
    )


def steepest(rate: optax.Schedule, momentum: float, clip: float = 0.0) -> optax.GradientTransformation:
    """Return gradient descent with momentum, ``step = m step - rate gradient`` (Hinton 2010)."""
    clips = [optax.clip_by_global_norm(clip)] if clip else []
    # The rate inside the momentum, as in the published codes: a falling rate leaves the steps under way alone.
    return optax.chain(*clips, optax.scale_by_learning_rate(rate), optax.trace(decay=momentum))


def require(name: str, value: float, least: float) -> None:
    """Refuse a number below its least."""
    if value < least:
        raise ReverieError(f"{name}: {value} is too little; give {least:g} or more")
