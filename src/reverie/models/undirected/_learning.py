r"""How Boltzmann machines are trained: statistics of the data against statistics of the model's own chains.

.. math:: \nabla_{W_l} = \langle t_l\, t_{l+1}^\top\rangle_{data} - \langle t_l\, t_{l+1}^\top\rangle_{model}, \qquad
          \nabla_{b_l} = \langle t_l\rangle_{data} - \langle t_l\rangle_{model}

No autograd: the gradient is known.  The last hidden layer of either average is its expectation rather than a draw,
which takes variance away and no exactness.  Where the model's average comes from is `_chains`.

Centring (Montavon & Müller 2012; Cho et al. 2011) is a change of the search direction alone: with offsets o,

.. math:: \nabla_{W_l} = \langle (t_l - o_l)(t_{l+1} - o_{l+1})^\top\rangle_{data} - \langle\cdot\rangle_{model}, \qquad
          \nabla_{b_l} = \langle t_l\rangle_{data} - \langle t_l\rangle_{model}
                         - \nabla_{W_l} o_{l+1} - \nabla_{W_{l-1}}^\top o_{l-1},

which makes learning indifferent to which of two values a unit calls 1.  The visible offset is the data's mean, the
hidden ones follow the data's averages.

Real-valued visible units of variance :math:`s^2` have gradients of the order of :math:`1/s`, or :math:`1/s^2` where
they are far from their optimum.  What adds to a visible unit's mean is therefore moved along :math:`s^2 \nabla`
(`Units.natural`): uphill as before, and the same step for the same error whatever the variance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.data.rows import Absent
from reverie.errors import ReverieError
from reverie.evaluate.energy import validator
from reverie.models.undirected import _chains
from reverie.models.undirected._chains import Fast, RealChain, Tempering
from reverie.models.undirected._langevin import Langevin
from reverie.models.undirected._layered import Boltzmann, Layers, State, initial
from reverie.nn.units import Binary, Gaussian, Units
from reverie.train.draws import minibatch
from reverie.train.optimise import Momentum, schedule, steepest
from reverie.train.recipe import Brief, Gradients, Player, Recipe

Schedule = Literal["constant", "linear", "cosine", "inverse"]
Select = Literal["best", "last", "average"]
#: From a machine, rows and a key to the rows' layers (means above the data) and a state each.
Posterior = Callable[[Any, Float[Array, "B D"], PRNGKeyArray], tuple[Layers, State]]
M = TypeVar("M", bound=Boltzmann)
#: How fast the hidden offsets follow the data's averages.
FOLLOW = 0.01
#: Rows that are reconstructed for what is shown of a step, and how many steps apart: it costs products of its own.
SHOWN, APART = 16, 10
#: Variances of real-valued columns do not fall below this, in units of the training rows' own.
LEAST = 1e-4


@dataclass(frozen=True)
class Sparsity:
    """Hidden units that are seldom on.

    Args:
        target: mean activity of hidden units aimed at.
        cost: how much that counts.
    """

    target: float = 0.1
    cost: float = 0.0


@dataclass(frozen=True)
class Learning:
    """How one machine learns; the recipes tell what each of these is."""

    chain: RealChain = "pcd"
    sweeps: int = 1
    grow: float = 0.0
    chains: int = 100
    tempering: Tempering = field(default_factory=Tempering)
    fast: Fast = field(default_factory=Fast)
    centred: bool = True
    decay: float = 2e-4
    sparsity: Sparsity = field(default_factory=Sparsity)
    batch: int = 100
    rate: float = 0.05
    schedule: Schedule = "linear"
    momentum: Momentum = field(default_factory=Momentum)
    clip: float = 0.0
    select: Select = "best"
    valid_every: float | None = None
    langevin: Langevin = field(default_factory=Langevin)
    #: Leaves that are not learnt, besides the base law: where annealing starts.
    fixed: tuple[str, ...] = ()

    def check(self, hidden: tuple[int, ...]) -> None:
        """Refuse numbers that make no sense."""
        for name, value in (("sweeps", self.sweeps), ("chains", self.chains), ("batch", self.batch)):
            require(name, value, 1)
        for width in hidden:
            require("hidden", width, 1)
        require("grow", self.grow, 0)
        self.tempering.check()
        self.langevin.check()


class Carry(NamedTuple):
    """What training a machine keeps besides its weights.

    Attributes:
        negative: the model's chains, and what their sampler keeps.
        offsets: of every layer; the visible one's in units of the data.
        looked: what was last shown of reconstructions.
    """

    negative: _chains.Kept
    offsets: tuple[Float[Array, " _"], ...]
    looked: dict[str, Float[Array, ""]]


def average_gradient(
    model: Boltzmann, data: Layers, chains: Layers, offsets: tuple[Array, ...], centred: bool
) -> Boltzmann:
    """Return the gradient of the mean log-likelihood from layers of the data and of the chains, rows in front.

    What adds to the visible fields is measured by the visible units, centred or not (see the page).  Leaves that are
    not learned have a gradient of zero.
    """
    statistic = lambda layers: [  # noqa: E731
        jax.vmap(model.visible.statistic)(layers[0]),
        *(layers[layer] for layer in range(1, model.depth + 1)),
    ]
    plus, minus = statistic(data), statistic(chains)
    at = offsets if centred else tuple(jnp.zeros_like(o) for o in offsets)
    at = (model.visible.statistic(at[0]), *at[1:])
    gaps = [p.mean(axis=0) - m.mean(axis=0) for p, m in zip(plus, minus, strict=True)]
    measured = lambda layer, up: up if layer else model.visible.natural(up)  # noqa: E731

    def product(stats: list[Array], layer: int) -> Array:
        return (stats[layer] - at[layer]).T @ (stats[layer + 1] - at[layer + 1]) / len(stats[layer])

    weights = tuple(measured(layer, product(plus, layer) - product(minus, layer)) for layer in range(model.depth))
    biases = []
    for layer, gap in enumerate(gaps):
        above = weights[layer] @ at[layer + 1] if layer < model.depth else 0.0
        # The vector in front: else the compiler lays out the transpose of all weights' gradient, every step.
        below = at[layer - 1] @ weights[layer - 1] if layer else 0.0
        biases.append(measured(layer, gap) - above - below)

    def own(layers: Layers) -> Any:
        fields = model.biases[0] + layers[1] @ model.weights[0].T
        slopes = jax.vmap(model.visible.own_gradient)(layers[0], fields)
        return jax.tree.map(lambda s: s.mean(axis=0), slopes)

    visible = jax.tree.map(jnp.subtract, own(data), own(chains))
    return replace(
        model, weights=weights, biases=tuple(biases), visible=visible, base=jnp.zeros_like(model.base)
    )  # fmt: skip


def gradients(posterior: Posterior, how: Learning, epoch_steps: float) -> Gradients:
    """Return what a player needs: ``(model, batch, carry, key) -> (gradients of the loss, carry, what is logged)``.

    Args:
        posterior: from rows to their layers (means above the data) and a draw of their state.
        epoch_steps: steps of an epoch, by which sweeps grow.
    """
    target, cost = how.sparsity.target, how.sparsity.cost

    def found(
        model: Boltzmann, batch: dict[str, Any], carry: Carry, key: PRNGKeyArray
    ) -> tuple[Boltzmann, Carry, dict[str, Array]]:
        first, second, third = jax.random.split(key, 3)
        rows = jax.vmap(model.visible.cells)(batch["x"])
        data, start = posterior(model, rows, first)
        sweeps = _chains.sweeps_at(how, batch["step"], epoch_steps)
        chains, kept = _chains.negative_phase(how, model, second, start, carry.negative, sweeps, batch["step"])
        up = average_gradient(model, data, chains, carry.offsets, how.centred)
        if how.chain == "fpcd":
            kept = kept._replace(fast=how.fast.moved(kept.fast, up, how.rate))
        activity = [data[layer].mean(axis=0) for layer in range(1, model.depth + 1)]
        on = [isinstance(model.units(layer), Binary) for layer in range(1, model.depth + 1)]
        pull = [cost * (target - a) if cost and is_on else 0.0 for a, is_on in zip(activity, on, strict=True)]
        loss = replace(
            up,
            weights=tuple(how.decay * w - g for w, g in zip(model.weights, up.weights, strict=True)),
            biases=(-up.biases[0], *(-(g + p) for g, p in zip(up.biases[1:], pull, strict=True))),
            visible=jax.tree.map(jnp.negative, up.visible),
        )
        follow = lambda old, new: old + FOLLOW * (new - old)  # noqa: E731
        offsets = (carry.offsets[0], *map(follow, carry.offsets[1:], activity))
        look = lambda: _looked(model, third, rows[:SHOWN], data[1][:SHOWN])  # noqa: E731
        looked = jax.lax.cond(batch["step"] % APART == 0, look, lambda: carry.looked)
        # At fixed states its gradient is the step's; large and growing, the chains have lost the model.
        energy = jax.vmap(model.energy)
        shown = {"active": data[1].mean(), "loss": energy(data).mean() - energy(chains).mean(), **looked}
        if how.chain in ("pt", "tempered"):
            shown["accepted"] = kept.accepted.mean()
        return loss, Carry(kept, offsets, looked), shown

    return found


def _looked(model: Boltzmann, key: PRNGKeyArray, rows: Array, hidden: Array) -> dict[str, Array]:
    """Return what is shown of a few rows and their hidden means; an epoch's steps see many.

    None of it is the likelihood, and only validation chooses by one.
    """
    back = jax.vmap(lambda h: model.visible.mean(model.field(0, {1: h})))(hidden)
    shown = {"reconstruction_error": ((rows - back) ** 2).sum(axis=1).mean()}
    if model.depth == 1 and isinstance(model.visible, Binary):
        shown["pseudo_likelihood"] = pseudo_likelihood(model, key, rows).mean()
    return shown


def unseen(model: Boltzmann) -> dict[str, Float[Array, ""]]:
    """Return zeros for what `Carry.looked` holds; the first step looks."""
    row, hidden = model.biases[0][None], model.biases[1][None]
    return jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype),
        jax.eval_shape(lambda: _looked(model, jax.random.key(0), row, hidden)),
    )


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


def binary_rows(data: Dataset, model: str) -> None:
    """Refuse data that a machine of binary units cannot take; `model` with its article."""
    if data.likelihood != "bernoulli":
        raise ReverieError(
            f"likelihood: {model} needs binary data, not {data.likelihood}; give --likelihood bernoulli for values of "
            "0 to 1, or train a gaussian-rbm or a dbm, which take real ones"
        )
    whole_rows(data, model)


def visible_units(data: Dataset, model: str) -> Units:
    """Return the visible units that binary or real-valued rows call for; `model` with its article."""
    if data.likelihood == "gaussian":
        real_rows(data, model)
        return real_units(data, LEAST)
    binary_rows(data, model)
    return Binary()


def real_rows(data: Dataset, model: str) -> None:
    """Refuse data that a machine of real visible units cannot take; `model` with its article."""
    if data.likelihood != "gaussian":
        raise ReverieError(
            f"likelihood: {model} needs real-valued data, not {data.likelihood}; give --likelihood gaussian"
        )
    whole_rows(data, model)


def real_units(data: Dataset, least: float = 0.0, fitted: bool = True) -> Gaussian:
    """Return visible units for real-valued rows; columns that never change by their scale are no part of them.

    Args:
        least: no variance falls below it.
        fitted: start at the columns' own variances, as if one row more lay a unit from the mean; else at 1.
    """
    seen = jnp.asarray(~data.constant) if data.constant.any() else None
    variance = _variances(data) if fitted else np.ones(data.width)
    return Gaussian(jnp.asarray(np.log(np.maximum(variance - least, 1e-8)), jnp.float32), seen, least)


def _variances(data: Dataset) -> Float[np.ndarray, " D"]:
    total, n = np.ones(data.width), data.size("train")
    if isinstance(data.splits["train"].x, Absent):
        # As with the mean: a model that is opened without its data takes every weight from its file.
        return total
    for rows, _ in data.blocks("train", 1000):
        total += np.nansum((rows - data.mean) ** 2, axis=0, dtype=np.float64)
    return total / (n + 1.0)


def whole_rows(data: Dataset, model: str) -> None:
    """Refuse data with missing cells, unless they are those of columns that never change."""
    if data.missing and not data.whole:
        raise ReverieError(
            f"{data.name}: {model} takes no missing cells; fill them in, or train a vae, which leaves them out"
        )


def untrained(
    brief: Brief, kind: type[M], hidden: tuple[int, ...], visible: Units, scale: float = 0.01
) -> M:  # fmt: skip
    """Return a machine of small random weights, its base law fitted to the data.

    Args:
        scale: standard deviation of the weights, in units of the standard deviation of real-valued columns.
    """
    data = brief.data
    widths = (data.width, *hidden)
    model = kind(**initial(jax.random.fold_in(brief.key, 0), widths, visible, data.mean, data.size("train"), scale))
    spread = jnp.sqrt(visible.natural(jnp.ones((data.width, 1))))
    return replace(model, weights=(spread * model.weights[0], *model.weights[1:]))


def machine(
    brief: Brief, model: Boltzmann, posterior: Posterior, how: Learning, mean: np.ndarray | None = None
) -> Recipe:
    """Return the recipe by which one player learns all of a machine's weights.

    Args:
        mean: of its visible layer, which is centred by it (default: the data's).
    """
    data = brief.data
    kept = _chains.starting(how, model, jax.random.fold_in(brief.key, 1))
    seen = data.mean if mean is None else mean
    offsets = (jnp.asarray(seen, jnp.float32), *(jnp.full(b.size, 0.5) for b in model.biases[1:]))
    epoch_steps = data.size("train") / how.batch
    still = {"base", *how.fixed}
    moved = lambda path: path not in still  # noqa: E731
    optimiser = steepest(schedule(how.schedule, how.rate, brief.steps(how.batch)), how.momentum, epoch_steps, how.clip)
    return Recipe(
        draw=minibatch(data, how.batch),
        players=(Player(optimiser, gradients=gradients(posterior, how, epoch_steps), moves=moved),),
        batch=how.batch,
        carry=Carry(kept, offsets, unseen(model)),
        select=how.select,
        validate=validator(),
        valid_every=brief.valid_every(how.valid_every),
    )


def require(name: str, value: float, least: float) -> None:
    """Refuse a number below its least."""
    if value < least:
        raise ReverieError(f"{name}: {value} is too little; give {least:g} or more")
