r"""Chains of an energy that are watched: draws from it, completions of a row, and whether the chains mix.

A draw is the end of a chain of its own, so that n draws are independent however slowly each chain moves; what slow
chains cost is that they still remember where they began.  The trace of their free energy shows it: its integrated
autocorrelation time (Sokal's window)

.. math:: \tau = 1 + 2 \sum_{t \ge 1} \rho_t, \qquad
          \rho_t \propto \sum_c \sum_i (F_{c,i} - \bar F)(F_{c,i+t} - \bar F),

is taken about the mean over all chains, so that chains that sit in different modes count as ones that do not mix.

Some cells held fixed, the same sweeps draw the others from :math:`p(x_{miss} \mid x_{known})`.

References: Geyer, *Practical Markov Chain Monte Carlo*, 1992; Sokal, *Monte Carlo Methods in Statistical Mechanics*,
1997; Salakhutdinov & Hinton, *Deep Boltzmann Machines*, 2009 (completion); Desjardins et al. 2010 (tempering).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from reverie.errors import ReverieError, an
from reverie.evaluate.rows import as_rows, checked_seed, on_device, row_key, row_words
from reverie.prob.chains import swap_neighbours
from reverie.prob.contracts import Coloured, Energy

Start = Literal["base", "data"]
#: Sweeps of a chain, points of its trace, chains at a time, and sweeps that lead from a row to its hidden layers.
SWEEPS, POINTS, BLOCK, _UP = 1000, 1000, 500, 20
#: A chain that forgets more slowly than this part of its length has not forgotten its beginning.
FORGETS = 0.05


@dataclass(frozen=True)
class Chain:
    """How draws are come by.

    Attributes:
        sweeps: Gibbs sweeps from the start to the draw.
        start: ``base``, the law that annealing starts from, or ``data``, a row.
        replicas: temperatures between the base law and the model whose neighbours are swapped; 1 does without.
    """

    sweeps: int = SWEEPS
    start: Start = "base"
    replicas: int = 1

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise ReverieError(f"sweeps: {self.sweeps} is not a number of sweeps; give 1 or more")
        if self.start not in ("base", "data"):
            raise ReverieError(f"start: {self.start!r} is not one of base, data")
        if self.replicas < 1:
            raise ReverieError(f"tempered: {self.replicas} is not a number of replicas; give 2 or more")

    @property
    def betas(self) -> Float[np.ndarray, " R"]:
        """Inverse temperatures, the model's (1) last."""
        return np.linspace(0.0, 1.0, self.replicas) if self.replicas > 1 else np.ones(1)


class Mixing(NamedTuple):
    """What a trace of chains says.

    Attributes:
        time: integrated autocorrelation time, in sweeps.
        sweeps: how many the chains made.
        swaps: how often each pair of neighbouring replicas was swapped, shape ``(R - 1,)``; empty without tempering.
    """

    time: float
    sweeps: int
    swaps: Float[np.ndarray, " R1"]

    @property
    def forgets(self) -> bool:
        """Whether the chains have forgotten where they began."""
        return self.time <= FORGETS * self.sweeps

    @property
    def effective(self) -> float:
        """How many independent draws the second half of one chain is worth."""
        return max(self.sweeps / 2 / self.time, 1.0)

    def __str__(self) -> str:
        text = (
            f"chains: autocorrelation time of the free energy {self.time:.3g} of {self.sweeps:,} sweeps; the second "
            f"half of a chain is worth {self.effective:.3g} draws"
        )
        if self.swaps.size:
            text += f"; neighbours swapped {self.swaps.min():.0%} to {self.swaps.max():.0%} of the time"
        return text if self.forgets else f"{text}; they do not mix: give more --sweeps, or --tempered REPLICAS"


class Drawn(NamedTuple):
    """The ends of chains, and what was seen on the way.

    Attributes:
        means: E[v | state], shape ``(n, D)``.
        draws: v, shape ``(n, D)``.
        mixing: whether the chains mix.
        frames: means after the sweeps asked for, shape ``(f, n, D)``.
        free_energy: of every chain at evenly spaced sweeps, shape ``(n, points)``.
    """

    means: Float[np.ndarray, "n D"]
    draws: Float[np.ndarray, "n D"]
    mixing: Mixing
    frames: Float[np.ndarray, "f n D"]
    free_energy: Float[np.ndarray, "n points"]


def draw(
    model: Energy,
    n: int,
    chain: Chain | None = None,
    *,
    seed: int = 0,
    rows: Float[np.ndarray, "m D"] | None = None,
    frames: Sequence[int] = (),
    watch: Callable[[int], None] | None = None,
) -> Drawn:
    """Return the ends of n chains; that of chain i depends on (seed, i) and its start alone.

    Args:
        rows: where chains begin with ``start="data"``: chain i at row i modulo their number, whose hidden layers are
            drawn given it.
        frames: numbers of sweeps (rising, 0 the start) after which to keep the chains' means.
        watch: told of the sweeps done, of all blocks of chains.

    Raises:
        ReverieError: for no draw, or for chains that cannot begin there.
    """
    chain = chain or Chain()
    if n < 1:
        raise ReverieError(f"n: {n} is not a number of samples; give 1 or more")
    if chain.start == "data" and (rows is None or not isinstance(model, Coloured)):
        raise ReverieError(f"start: chains of {an(type(model).__name__)} cannot begin at data; give base")
    block, parts = min(BLOCK, 1 << (n - 1).bit_length()), []
    for first in range(0, n, block):
        number = np.minimum(np.arange(first, first + block), n - 1)
        own = None if rows is None else jnp.asarray(as_rows(rows)[number % len(rows)])
        told = None if watch is None else (lambda done, at=first // block: watch(at * chain.sweeps + done))
        found = _block(on_device(model), number, own, chain, seed, frames, told)
        parts.append(tuple(np.moveaxis(np.moveaxis(part, axis, 0)[: n - first], 0, axis)
                           for part, axis in zip(found, (0, 0, 1, 0, 0), strict=True)))  # fmt: skip
    means, draws, seen, trace, swaps = (
        np.concatenate(part, axis=axis) for part, axis in zip(zip(*parts, strict=True), (0, 0, 1, 0, 0), strict=True)
    )
    stride = -(-chain.sweeps // POINTS)
    time = stride * autocorrelation_time(trace[:, trace.shape[1] // 2 :])
    return Drawn(means, draws, Mixing(time, chain.sweeps, swaps.mean(axis=0)), seen, trace)


def _block(
    model: Any,
    number: np.ndarray,
    rows: Array | None,
    chain: Chain,
    seed: int,
    frames: Sequence[int],
    watch: Callable[[int], None] | None,
) -> tuple[np.ndarray, ...]:
    # A counter stands for the row: its "content" is the number of the draw.
    words = jnp.asarray(row_words(number.astype(np.float32)[:, None]))
    own, betas = jnp.asarray(np.uint32(checked_seed(seed))), jnp.asarray(chain.betas, jnp.float32)
    states = _begun(model, words, own, rows if chain.start == "data" else None, chain.replicas)
    stride = -(-chain.sweeps // POINTS)
    at = Under(states, jnp.zeros((len(number), chain.sweeps // stride)), jnp.zeros((len(number), len(betas) - 1)))
    stops = sorted({t for t in frames if 0 <= t <= chain.sweeps} | {chain.sweeps})
    seen, done = [], 0
    for until in stops:
        for stop in [*range(done + _piece(chain), until, _piece(chain)), until]:
            at = _go(model, words, own, at, betas, jnp.int32(done), jnp.int32(stop), jnp.int32(stride))
            done = stop
            if watch is not None:
                jax.block_until_ready(at)
                watch(done)
        if until in set(frames):
            seen.append(np.asarray(_end(model, words, own, at.states)[0]))
    means, draws = _end(model, words, own, at.states)
    pictures = np.stack(seen) if seen else np.empty((0, *means.shape), np.float32)
    return np.asarray(means), np.asarray(draws), pictures, np.asarray(at.trace), 2.0 * np.asarray(at.swaps) / done


def _piece(chain: Chain) -> int:
    """Return how many sweeps are done between two looks at whether to stop."""
    return max(1, 200 // chain.replicas)


class Under(NamedTuple):
    """Chains under way: states (chains, replicas, ...), their trace, and how often neighbours were swapped."""

    states: PyTree
    trace: Array
    swaps: Array


@eqx.filter_jit
def _begun(model: Any, words: Array, seed: Array, rows: Array | None, replicas: int) -> PyTree:
    def one(own: Array, x: Array | None) -> PyTree:
        keys = jax.random.split(jax.random.fold_in(row_key(seed, own), 0), replicas)
        if x is None:
            return jax.vmap(model.draw_base)(keys)
        known = jnp.ones(x.shape, bool)
        return jax.vmap(lambda k: held(model, k, model.draw_base(k), x, known, _UP))(keys)

    return jax.vmap(one, in_axes=(0, None if rows is None else 0))(words, rows)


def held(model: Any, key: PRNGKeyArray, state: PyTree, x: Array, known: Array, sweeps: int) -> PyTree:
    """Return a state after so many sweeps with the `known` cells of v held at x."""
    body = lambda i, now: clamped_sweep(model, jax.random.fold_in(key, i), now, x, known)  # noqa: E731
    return jax.lax.fori_loop(0, sweeps, body, state)


def clamped_sweep(model: Coloured, key: PRNGKeyArray, state: PyTree, x: Array, known: Array) -> PyTree:
    r"""Draw all but the `known` cells of v, colour by colour: it leaves :math:`p(\cdot \mid x_{known})` invariant."""
    first, second = jax.random.split(key)
    even = model.draw(first, model.even, model.layers(state))
    even[0] = jnp.where(known, x, even[0])
    return model.state(model.draw(second, model.odd, even))


@eqx.filter_jit
def _go(
    model: Any, words: Array, seed: Array, at: Under, betas: Array, first: Array, last: Array, stride: Array
) -> Under:
    """Lead all chains from sweep `first` to `last`; one executable for every piece."""

    def one(i: Array, own: Array, states: PyTree) -> tuple[PyTree, Array]:
        return tempered_sweep(model, jax.random.fold_in(row_key(seed, own), i + 1), states, betas, i % 2)

    def body(i: Array, now: Under) -> Under:
        states, taken = jax.vmap(lambda own, s: one(i, own, s))(words, now.states)

        def noted() -> Array:
            free = -jax.vmap(lambda s: model.log_marginal(jax.tree.map(lambda leaf: leaf[-1], s)))(states)
            return now.trace.at[:, (i + 1) // stride - 1].set(free.astype(now.trace.dtype))

        trace = jax.lax.cond((i + 1) % stride == 0, noted, lambda: now.trace)
        return Under(states, trace, now.swaps + taken.astype(now.swaps.dtype))

    return jax.lax.fori_loop(first, last, body, at)


def tempered_sweep(
    model: Energy, key: PRNGKeyArray, states: PyTree, betas: Array, parity: int | Array = 0
) -> tuple[PyTree, Array]:
    """Sweep each replica of one chain, then swap every second pair of neighbours; return which pairs were swapped."""
    move, swap = jax.random.split(key)
    if betas.shape[0] == 1:
        alone = model.sweep(move, jax.tree.map(lambda s: s[0], states))
        return jax.tree.map(lambda s: s[None], alone), jnp.zeros(0)
    moved = jax.vmap(model.sweep)(jax.random.split(move, betas.shape[0]), states, betas)
    lone, taken = swap_neighbours(model, swap, jax.tree.map(lambda s: s[:, None], moved), betas, parity)
    return jax.tree.map(lambda s: s[:, 0], lone), taken


@eqx.filter_jit
def _end(model: Any, words: Array, seed: Array, states: PyTree) -> tuple[Array, Array]:
    def one(own: Array, replicas: PyTree) -> tuple[Array, Array]:
        state = jax.tree.map(lambda leaf: leaf[-1], replicas)
        key = jax.random.fold_in(row_key(seed, own), np.uint32(2**32 - 1))
        return model.mean(state), model.draw_visible(key, state)

    return jax.vmap(one)(words, states)


def autocorrelation_time(trace: Float[np.ndarray, "n T"], window: float = 5.0) -> float:
    r"""Return :math:`\tau` of the chains of a trace, in its own steps: 1 for independent values.

    The sum goes to the least W with :math:`W \ge 5 \tau(W)`, or to the end where there is none; a trace that never
    moves has no end of memory, and gives the length of the trace.
    """
    values = np.asarray(trace, np.float64)
    length = values.shape[1]
    gaps = values - values.mean()
    if length < 2:
        return 1.0
    size = 1 << (2 * length - 1).bit_length()
    power = np.abs(np.fft.rfft(gaps, size, axis=1)) ** 2
    # Divided by how many products there are at each lag, so that slow chains are not flattered.
    found = np.fft.irfft(power, size, axis=1)[:, :length].mean(axis=0) / np.arange(length, 0, -1)
    if found[0] <= 0:
        return float(length)
    times = 2.0 * np.cumsum(found / found[0]) - 1.0
    enough = np.flatnonzero(np.arange(length) >= window * times)
    return float(np.clip(times[enough[0]] if enough.size else length, 1.0, length))
