r"""The model's side of learning: chains that start at the data, go on from step to step, or are tempered.

``cd``
    k sweeps from the data (Hinton 2002): cheap, and blind to what the model likes far from any row.
``pcd``
    the chains go on from step to step (Younes 1999; Tieleman 2008).
``fpcd``
    as ``pcd``, with weights of their own on top of the model's, which learn fast and forget fast,
    :math:`W_f \leftarrow 0.95\, W_f + \epsilon_f \nabla_W`, and so drive the chains on (Tieleman & Hinton 2009).
``pt``
    replicas at several temperatures, whose neighbours swap (Desjardins et al. 2010; Cho et al. 2010).
``tempered``
    as ``pcd``, and now and then up to a hotter law and back (Neal 1996; Salakhutdinov 2009).
``langevin``
    Gibbs-Langevin from noise, of real-valued rows alone (`_langevin`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.models.undirected import _langevin
from reverie.models.undirected._langevin import Langevin
from reverie.models.undirected._layered import Boltzmann, Layers, State
from reverie.prob.chains import exchanged, flat, swaps, sweeps, tempered_transition

Chain = Literal["cd", "pcd", "fpcd", "pt", "tempered"]
RealChain = Literal["cd", "pcd", "fpcd", "pt", "tempered", "langevin"]
#: Weights and biases that are added to a model's.
Added = tuple[tuple[Array, ...], tuple[Array, ...]]
#: How fast the shown acceptance follows.
_FOLLOW = 0.05


@dataclass(frozen=True)
class Tempering:
    """Temperatures of ``pt`` and ``tempered``.

    Args:
        replicas: temperatures, the model's among them.
        hottest: the least inverse temperature [default: 0 of pt, the base law; 0.9 of tempered].
        every: steps between two tempered transitions.
    """

    replicas: int = 10
    hottest: float | None = None
    every: int = 100

    def check(self) -> None:
        """Refuse numbers that make no sense."""
        if self.replicas < 2:
            raise ReverieError(f"tempering.replicas: {self.replicas} is too little; give 2 or more")
        if self.every < 1:
            raise ReverieError(f"tempering.every: {self.every} is no number of steps; give 1 or more")
        if self.hottest is not None and not 0 <= self.hottest < 1:
            raise ReverieError(f"tempering.hottest: {self.hottest:g} is no inverse temperature from 0 to below 1")

    def rising(self) -> Float[Array, " R"]:
        """Return the replicas' inverse temperatures, from the hottest to 1."""
        return jnp.linspace(self.hottest or 0.0, 1.0, self.replicas)

    def falling(self) -> Float[Array, " R"]:
        """Return those of a tempered transition, from 1 to the hottest."""
        return jnp.linspace(1.0, 0.9 if self.hottest is None else self.hottest, self.replicas)


@dataclass(frozen=True)
class Fast:
    """Fast weights of ``fpcd``.

    Args:
        rate: their learning rate, which does not fall [default: the rate].
        keep: what is kept of them at each step.
    """

    rate: float | None = None
    keep: float = 0.95

    def moved(self, old: Added, up: Boltzmann, slow: float) -> Added:
        """Return the fast weights after a step along the gradient `up`."""
        rate = slow if self.rate is None else self.rate
        return jax.tree.map(lambda f, g: self.keep * f + rate * g, old, (up.weights, up.biases))


@runtime_checkable
class How(Protocol):
    """What must be known of the learning (`_learning.Learning` does)."""

    @property
    def chain(self) -> RealChain: ...

    @property
    def chains(self) -> int: ...

    @property
    def tempering(self) -> Tempering: ...

    @property
    def langevin(self) -> Langevin: ...


@runtime_checkable
class Growing(Protocol):
    """Whose sweeps may grow (`_learning.Learning`, `_pretrain.Pretrain` and `_replicated.Counting` do)."""

    @property
    def sweeps(self) -> int: ...

    @property
    def grow(self) -> float: ...


def sweeps_at(how: Growing, step: Array, epoch_steps: float) -> int | Int[Array, ""]:
    """Return how many sweeps a step takes: one more every `grow` epochs, if they grow."""
    return how.sweeps + (step / (how.grow * epoch_steps)).astype(jnp.int32) if how.grow else how.sweeps


class Kept(NamedTuple):
    """What the model's side keeps from step to step.

    Attributes:
        states: of the chains, chains in front (``pt``: replicas, then chains; the last replica is the model's;
            ``langevin``: v, of chains that go on).
        accepted: share of moves between temperatures that were accepted, of late: of each pair, or one number.
        fast: weights and biases of ``fpcd``, else nothing.
    """

    states: State
    accepted: Float[Array, " R1"]
    fast: Any


def starting(how: How, model: Boltzmann, key: PRNGKeyArray) -> Kept:
    """Return chains at draws of the base law."""
    draw = jax.vmap(model.draw_base)
    none, nothing = jnp.zeros(0), ()
    if how.chain == "cd":
        return Kept(jax.tree.map(lambda s: s[:0], draw(jax.random.split(key, 1))), none, nothing)
    if how.chain == "langevin":
        rows = _langevin.noise(model, key, how.chains if how.langevin.persistent else 0)
        return Kept((rows,), none, nothing)
    if how.chain == "pt":
        replicas = how.tempering.replicas
        flat = draw(jax.random.split(key, replicas * how.chains))
        states = jax.tree.map(lambda s: s.reshape(replicas, how.chains, *s.shape[1:]), flat)
        return Kept(states, jnp.full(replicas - 1, 0.5), nothing)
    states = draw(jax.random.split(key, how.chains))
    if how.chain == "fpcd":
        return Kept(states, none, jax.tree.map(jnp.zeros_like, (model.weights, model.biases)))
    return Kept(states, jnp.full(1, 0.5) if how.chain == "tempered" else none, nothing)


def negative_phase(
    how: How, model: Boltzmann, key: PRNGKeyArray, start: State, kept: Kept, count: int | Int[Array, ""], step: Array
) -> tuple[Layers, Kept]:
    """Return the layers of the model's chains, the odd ones as means, and what is kept for the next step.

    Args:
        start: states drawn given the data, where ``cd`` starts.
        count: sweeps.
        step: of the training.
    """
    first, second = jax.random.split(key)
    if how.chain == "cd":
        return negative(model, second, start, count)[0], kept
    if how.chain == "langevin":
        rows = kept.states[0] if how.langevin.persistent else _langevin.noise(model, first, how.chains)
        rows = _langevin.walked(model, second, rows, count, how.langevin)
        means = jax.vmap(lambda v: model.means(model.odd, {0: v}))(rows)
        return {0: rows, **means}, kept._replace(states=(rows,)) if how.langevin.persistent else kept
    if how.chain == "pt":
        states, accepted = _swapped(model, first, kept, how.tempering.rising(), count, step)
        layers, last = negative(model, second, jax.tree.map(lambda s: s[-1], states), 1)
        states = jax.tree.map(lambda s, new: s.at[-1].set(new), states, last)
        return layers, Kept(states, accepted, kept.fast)
    if how.chain == "tempered":
        states, accepted = jax.lax.cond(
            step % how.tempering.every == how.tempering.every - 1,
            lambda: _tempered(model, first, kept.states, how.tempering.falling()),
            lambda: (kept.states, kept.accepted),
        )
        layers, states = negative(model, second, states, count)
        return layers, Kept(states, accepted, kept.fast)
    layers, states = negative(quickened(model, kept.fast), second, kept.states, count)
    return layers, kept._replace(states=states)


def quickened(model: Boltzmann, fast: Any) -> Boltzmann:
    """Return the model with fast weights added, if there are any."""
    if not fast:
        return model
    weights, biases = jax.tree.map(jnp.add, (model.weights, model.biases), fast)
    return replace(model, weights=weights, biases=biases)


def negative(model: Boltzmann, key: PRNGKeyArray, states: State, count: int | Int[Array, ""]) -> tuple[Layers, State]:
    """Return the layers of the chains after `count` sweeps, the odd ones as means, and their states."""
    chains = states[0].shape[0]
    # All keys by one hash: beside a small product each takes its time.
    keys = jax.random.split(key, 2 * chains + 1)
    states = sweeps(model, keys[-1], states, 0, count - 1)
    even = jax.vmap(lambda k, s: model.draw(k, model.even, model.layers(s)))(keys[:chains], states)
    means = jax.vmap(lambda layers: model.means(model.odd, layers))(even)
    states = jax.vmap(lambda k, layers: model.state(model.draw(k, model.odd, layers)))(keys[chains:-1], even)
    return {**even, **means}, states


def _swapped(
    model: Boltzmann, key: PRNGKeyArray, kept: Kept, betas: Float[Array, " R"], count: int | Int[Array, ""], step: Array
) -> tuple[State, Float[Array, " R1"]]:
    """Return the replicas after a swap of every second pair and `count` sweeps each, and their running acceptance."""
    swap, first, rest = jax.random.split(key, 3)
    # Even and odd pairs take turns, which carries states through the temperatures faster than chance.
    parity = step % 2
    taken = swaps(model, swap, kept.states, betas, parity)
    # The first sweep takes a state where it lies, at the temperature that it has been given, and carries it over only
    # then: swap and sweep share the visible fields, a third of their products.
    given = exchanged(jnp.broadcast_to(betas[:, None], kept.states[0].shape[:2]), taken)
    swept = jax.vmap(model.sweep)(jax.random.split(first, given.size), flat(kept.states), given.ravel())
    moved = exchanged(jax.tree.map(lambda s: s.reshape(*given.shape, *s.shape[1:]), swept), taken)
    keys = jax.random.split(rest, betas.shape[0])
    moved = jax.vmap(lambda k, s, beta: sweeps(model, k, s, 1, count, beta))(keys, moved, betas)
    tried, rate = jnp.arange(taken.shape[0]) % 2 == parity, taken.mean(axis=1, dtype=kept.accepted.dtype)
    return moved, kept.accepted + _FOLLOW * jnp.where(tried, rate - kept.accepted, 0.0)


def _tempered(
    model: Boltzmann, key: PRNGKeyArray, states: State, betas: Float[Array, " R"]
) -> tuple[State, Float[Array, " one"]]:
    keys = jax.random.split(key, states[0].shape[0])
    moved, taken = jax.vmap(lambda k, s: tempered_transition(model, k, s, betas))(keys, states)
    return moved, taken.mean()[None].astype(states[0].dtype)
