r"""Chains of an energy led along a path between its base law and itself, forwards and back, and what they say of log Z.

Forwards gives a stochastic lower bound of log Z, RAISE from rows and annealing backwards from the model's states what
lies above it; `prob.partition` has the formulas, `log_z` joins the sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from reverie.errors import ReverieError, an
from reverie.evaluate.mapped import PerRow, over_rows
from reverie.evaluate.rows import Watch, checked_seed, on_device
from reverie.prob import partition
from reverie.prob.anneal import Annealed
from reverie.prob.contracts import Bounded, Energy, Marginal, Topped

#: Chains a row of RAISE, and chains forwards and backwards.
PER_ROW, CHAINS = 10, 100
#: Hidden units above a row whose states are counted for it, and sweeps of the chains that are annealed backwards.
COUNTED, SETTLED = 12, 1000
#: Draws of q a row, where a net has directed layers.
DRAWS = 20
#: Units of a state up to which exact draws are made.
DRAWABLE = 12
_PIECE = 250


@dataclass(frozen=True)
class Plan:
    """How log Z is bracketed.

    Attributes:
        chains: annealed each way.
        temperatures: of the first path; doubled from there.
        most: temperatures at which doubling ends.
        tolerance: ends this close (nats) are close enough.
    """

    chains: int = CHAINS
    temperatures: int = 1000
    most: int = 16_000
    tolerance: float = 0.2

    def __post_init__(self) -> None:
        for name, least in (("chains", 2), ("temperatures", 1), ("most", 1)):
            if getattr(self, name) < least:
                raise ReverieError(f"{name}: {getattr(self, name)} is too few; give at least {least}")
        if not self.tolerance > 0:
            raise ReverieError(f"tolerance: {self.tolerance:g} nats is not positive; 0.2 is the usual")


@dataclass(frozen=True)
class End:
    """One side's log Z.

    Attributes:
        name: ``forward``, ``raise`` or ``reverse``.
        kind: what the value is to log Z in expectation: ``lower_bound``, ``upper_bound`` or ``estimate``.
        value, error: in nats, with its Monte Carlo standard error.
    """

    name: str
    kind: str
    value: float
    error: float


class Annealing:
    """Chains led along linear paths of a model, forwards from the base law and backwards from given states."""

    def __init__(self, model: Energy, plan: Plan, seed: int, watch: Watch | None = None) -> None:
        self.model, self.plan, self.watch = on_device(model), plan, watch
        self.key = jax.random.key(checked_seed(seed))
        with jax.default_matmul_precision("highest"):
            self.log_z0 = float(self.model.base_log_partition())
        self.done = 0

    def lead(self, chains: Annealed, number: int, temperatures: int, *, back: bool = False) -> Annealed:
        """Lead chains along a whole path, in pieces between which a wish to stop is heard."""
        # Padded to one length, so that every path runs on one executable.
        betas = partition.linear_path(temperatures)[:: -1 if back else 1]
        padded = jnp.asarray(np.concatenate([betas, np.full(self.plan.most + 1 - len(betas), betas[-1])]), jnp.float32)
        key = jax.random.fold_in(self.key, number)
        with jax.default_matmul_precision("highest"):
            for first in range(0, temperatures, _PIECE):
                last = min(first + _PIECE, temperatures)
                chains = partition.piece(self.model, chains, key, padded, jnp.int32(first), jnp.int32(last))
                self.done += last - first
                if self.watch is not None:
                    jax.block_until_ready(chains)
                    self.watch(self.done)
        return chains

    def forwards(self, temperatures: int) -> tuple[End, dict[str, Any], Any]:
        """Return what forward chains say of log Z, how sure of it they are, and where they ended."""
        begin = partition.start(self.model, jax.random.fold_in(self.key, 0), self.plan.chains)
        done = self.lead(begin, 1, temperatures)
        found = partition.certain(np.asarray(done.log_weight()))
        return End("forward", "lower_bound", self.log_z0 + found["value"], found["error"]), found, done.position

    def backwards(self, states: Any, temperatures: int, settled: int = SETTLED) -> End:
        """Return what chains led back say of log Z.

        They begin at exact draws of the model where there are few enough states, else at `states`, the forward
        chains' ends, after `settled` sweeps of the model's own.
        """
        exact = partition.state_units(self.model) <= DRAWABLE
        if exact:
            at = _exact_draws(self.model, jax.random.fold_in(self.key, 4), self.plan.chains)
        else:
            at = partition.swept(self.model, jax.random.fold_in(self.key, 4), states, jnp.int32(0), jnp.int32(settled))
        done = self.lead(jax.vmap(Annealed.start)(at), 5, temperatures, back=True)
        found = partition.certain(np.asarray(done.log_weight()))
        kind = "upper_bound" if exact else "estimate"
        return End("reverse", kind, self.log_z0 - found["value"], found["error"])

    def raised(
        self, rows: Float[np.ndarray, "n D"], temperatures: int, per_row: int = PER_ROW
    ) -> Float[np.ndarray, " n"]:
        """Return RAISE's log p of each row, conservative."""
        model = self.model
        keys = jax.random.split(jax.random.fold_in(self.key, 2), len(rows) * per_row)
        tiled = jnp.repeat(jnp.asarray(rows), per_row, axis=0)
        states = _drawn(model, keys, tiled)
        done = self.lead(jax.vmap(Annealed.start)(states), 3, temperatures, back=True)
        weights = np.asarray(done.log_weight(), np.float64).reshape(len(rows), per_row)
        return unnormalised(model, rows)[0] - self.log_z0 + np.logaddexp.reduce(weights, axis=1) - np.log(per_row)

    def raised_end(self, rows: Float[np.ndarray, "n D"], temperatures: int, per_row: int = PER_ROW) -> End:
        """Return RAISE's log Z: log p* less its log p, on average over the rows; its p is too small, so Z too large."""
        gaps = unnormalised(self.model, rows)[0] - self.raised(rows, temperatures, per_row)
        error = float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else 0.0
        return End("raise", "upper_bound", float(gaps.mean()), error)


@eqx.filter_jit
def _drawn(model: Any, keys: Array, rows: Array) -> Any:
    return jax.vmap(model.draw_state)(keys, rows)


@eqx.filter_jit
def _exact_draws(model: Any, key: PRNGKeyArray, n: int) -> PyTree:
    """Return exact draws of the model's states by counting them all."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(model.draw_base, key))
    units, ends = sum(leaf.size for leaf in leaves), np.cumsum([leaf.size for leaf in leaves])[:-1]
    bits = ((jnp.arange(1 << units)[:, None] >> jnp.arange(units)) & 1).astype(leaves[0].dtype)
    every = jax.tree.unflatten(tree, jnp.split(bits, ends, axis=1))
    chosen = jax.random.categorical(key, jax.vmap(model.log_marginal)(every), shape=(n,))
    return jax.tree.map(lambda leaf: leaf[chosen], every)


def _log_unnormalised(model: Any, key: Array, x: Array, given: Array | None) -> Array:
    return model.log_unnormalised(x)


def _log_counted(model: Any, key: Array, x: Array, given: Array | None) -> Array:
    return model.log_counted(x)


def _log_bound(model: Any, key: Array, x: Array, given: Array | None) -> Array:
    return model.log_bound(x)


@lru_cache
def _weighed(draws: int, log_mean: bool) -> PerRow:
    def one(model: Any, key: Array, x: Array, given: Array | None) -> tuple[Array, Array]:
        found = jax.vmap(lambda own: model.log_weight(own, x))(jax.random.split(key, draws))
        if not log_mean:
            return found.mean(), found.var(ddof=1) / draws
        weights = jnp.exp(found - found.max())
        # Of the logarithm of a mean, by the delta method.
        return found.max() + jnp.log(weights.mean()), weights.var(ddof=1) / draws / weights.mean() ** 2

    return one


def weighed(
    model: Any, rows: Float[np.ndarray, "n D"], draws: int, log_mean: bool, seed: int = 0
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    r"""Return a lower bound of :math:`\log p^*(v)` from draws of q, and its Monte Carlo variance, row by row.

    Args:
        model: `Topped`.
        draws: of q for each row.
        log_mean: the logarithm of the mean weight, which is tighter, rather than the mean of the logarithms.
    """
    with jax.default_matmul_precision("highest"):
        values, variances = over_rows(_weighed(draws, log_mean), model, rows, None, seed, fixed=True)
    return np.asarray(values, np.float64), np.asarray(variances, np.float64)


def _lift(model: Any, key: Array, x: Array, given: Array | None) -> Array:
    return model.lift(key, x)


def annealed_part(model: Any, rows: Float[np.ndarray, "n D"], seed: int = 0) -> tuple[Any, Float[np.ndarray, "n d"]]:
    """Return what of a model is annealed, and rows of its visible layer: itself, but for a net with directed layers."""
    if not isinstance(model, Topped):
        return model, rows
    return model.annealed, np.asarray(over_rows(_lift, model, rows, None, seed))


def unnormalised(model: Any, rows: Float[np.ndarray, "n D"]) -> tuple[Float[np.ndarray, " n"], bool]:
    r"""Return :math:`\log p^*(v)` of every row, in float64, and whether that is itself or a bound of it.

    Raises:
        ReverieError: for a model that has neither.
    """
    if isinstance(model, Topped):
        return weighed(model, rows, DRAWS, log_mean=False)[0], False
    if isinstance(model, Marginal):
        how = _log_unnormalised
    elif isinstance(model, Bounded):
        how = _log_counted if model.countable_units <= COUNTED else _log_bound
    else:
        raise ReverieError(f"evaluate: {an(type(model).__name__)} has no density of a row")
    with jax.default_matmul_precision("highest"):
        found = np.asarray(over_rows(how, model, rows, fixed=True), np.float64)
    return found, how is not _log_bound
