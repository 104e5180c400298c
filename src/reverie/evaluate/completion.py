r"""Pattern completion by an energy: the known cells held, Gibbs sweeps draw the rest.

A sweep draws the even layers given the odd ones, puts the known cells back into v, and draws the odd layers given
that; it leaves :math:`p(x_{miss}, h \mid x_{known})` invariant.  The answer is the mean of the conditional means
:math:`\mathbb E[x_{miss} \mid h]` over the second half of the sweeps, whose expectation is
:math:`\mathbb E[x_{miss} \mid x_{known}]`; until then a sweep's own conditional mean stands for it.

A model that gives missing cells their law given any known ones (`abilities.Completes`) sweeps nothing: it says it at
once, by a formula or by particles: means of the cells, or one draw of all of them together.

References: Salakhutdinov & Hinton, *Deep Boltzmann Machines*, 2009; Smolensky 1986 (completion by harmony).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from reverie.evaluate.chains import clamped_sweep
from reverie.evaluate.rows import row_key
from reverie.prob.abilities import Completes

#: Rows whose missing cells are filled in together.
_TOGETHER = 20


class Fixed(NamedTuple):
    """What stays the same over the iterations of a block."""

    truth: Any
    known: Any
    mask: Any
    words: Any
    given: Any


class Completion(NamedTuple):
    """The sweeps of one block of rows, stopped where a picture is wanted; the arguments are those of a guess's walk."""

    model: Any
    seed: Array
    iterations: int
    stops: list[int]
    levels: int
    centre: np.ndarray | None

    def __call__(
        self, truth: np.ndarray, known: np.ndarray, mask: np.ndarray, words: np.ndarray, given: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        fixed = Fixed(*(None if a is None else jnp.asarray(a) for a in (truth, known, mask, words, given)))
        states = _first(self.model, fixed, self.seed)
        now = (states, jnp.zeros(known.shape), jnp.zeros(known.shape), jnp.zeros(self.iterations))
        done, pictures = 0, []
        for until in self.stops:
            ends = (jnp.int32(done), jnp.int32(until), jnp.int32(self.iterations // 2))
            now = _sweep(self.model, fixed, self.seed, now, *ends)
            pictures.append(self._seen(np.asarray(now[2]), mask))
            done = until
        return np.stack(pictures), np.asarray(now[3], np.float64)

    def _seen(self, answer: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return an answer without the columns that the model has never seen."""
        return answer if self.centre is None else np.where(~mask & np.isnan(self.centre), np.nan, answer)


class Told(NamedTuple):
    """The missing cells of one block as a model that `Completes` has them, in the one iteration that they take."""

    model: Completes
    seed: Array
    draw: bool

    def __call__(
        self, truth: np.ndarray, known: np.ndarray, mask: np.ndarray, words: np.ndarray, given: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        fixed = Fixed(*(None if a is None else jnp.asarray(a) for a in (truth, known, mask, words, given)))
        now = np.asarray(_told(self.model, fixed, self.seed, self.draw))
        wrong = np.where(mask | np.isnan(truth), 0.0, (np.nan_to_num(truth) - now) ** 2)
        return now[None], np.asarray([wrong.sum(dtype=np.float64)])


@eqx.filter_jit
def _told(model: Any, fixed: Fixed, seed: Array, draw: bool) -> Array:
    def one(row: tuple[Array, Array, Array, Array | None]) -> Array:
        x, known, own, y = row
        fill = model.draw_missing if draw else model.complete
        return fill(row_key(seed, own), x, known, y)

    # Some at once: a model may have hundreds of particles for each.
    return jax.lax.map(one, (fixed.known, fixed.mask, fixed.words, fixed.given), batch_size=_TOGETHER)


@eqx.filter_jit
def _first(model: Any, fixed: Fixed, seed: Array) -> PyTree:
    return jax.vmap(lambda own: model.draw_base(jax.random.fold_in(row_key(seed, own), 0)))(fixed.words)


@eqx.filter_jit
def _sweep(
    model: Any, fixed: Fixed, seed: Array, now: tuple[PyTree, Array, Array, Array], first: Array, last: Array,
    half: Array,
) -> tuple[PyTree, Array, Array, Array]:  # fmt: skip
    """Return states, the sum of the second half's means, the answer so far and the errors after sweeps up to `last`."""
    counted = ~fixed.mask & ~jnp.isnan(fixed.truth)

    def one(t: Array, own: Array, state: PyTree, x: Array, known: Array) -> tuple[PyTree, Array]:
        after = clamped_sweep(model, jax.random.fold_in(row_key(seed, own), t + 1), state, x, known)
        return after, model.mean(after)

    def step(t: Array, now: tuple[PyTree, Array, Array, Array]) -> tuple[PyTree, Array, Array, Array]:
        states, total, _, errors = now
        states, means = jax.vmap(one, in_axes=(None, 0, 0, 0, 0))(t, fixed.words, states, fixed.known, fixed.mask)
        total = jnp.where(t >= half, total + means, total)
        answer = jnp.where(t >= half, total / jnp.maximum(t + 1 - half, 1), means)
        answer = jnp.where(fixed.mask, fixed.known, answer)
        wrong = jnp.where(counted, (jnp.nan_to_num(fixed.truth) - answer) ** 2, 0.0)
        return states, total, answer, errors.at[t].set(wrong.sum())

    return jax.lax.fori_loop(first, last, step, now)
