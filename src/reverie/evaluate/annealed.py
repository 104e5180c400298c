r"""Annealed importance sampling of every row of a set, and its two-sided gap on data simulated from the model.

On real rows the result is a stochastic lower bound of :math:`\log p(x)`, tighter than importance sampling where the
encoder is poor.  How far it may fall short is diagnosed on simulated rows, where a chain run backwards from the true h
gives an upper bound too (bidirectional Monte Carlo).  The estimators are in `prob.ais`.

References: Neal, *Annealed importance sampling*, 2001; Wu, Burda, Salakhutdinov & Grosse, *On the Quantitative
Analysis of Decoder-Based Generative Models*, 2017.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate.classes import classes_of, conditioning, result_of
from reverie.evaluate.likelihood import BUDGET, footprint, maybe
from reverie.evaluate.rows import RowResult, Sweep, Watch, as_rows, checked_seed, fingerprint, on_device, row_key
from reverie.prob import ais
from reverie.prob.contracts import Latent

#: A path is walked in so many calls, so that a signal is noticed in between.
_PIECES = 20
_MOST_ROWS = 32


def annealed(
    model: Latent,
    rows: Float[np.ndarray, "n D"],
    *,
    seed: int = 0,
    block: int | None = None,
    minutes: float | None = None,
    given: Float[np.ndarray, "n C"] | None = None,
    class_prior: Float[np.ndarray, " C"] | None = None,
    resume: Path | None = None,
    progress: Watch | None = None,
    **plan: Any,
) -> RowResult:
    r"""Return :math:`\log\frac1k\sum_i w_i` of k annealed chains for each row, a stochastic lower bound, in nats.

    Args:
        plan: attributes of `prob.ais.Plan`: chains, temperatures, leapfrog, start (here ``posterior`` by default,
            which needs about ten times fewer temperatures), step_size, pilot.

    The other arguments are those of `likelihood.importance`.  `RowResult.info` has each row's ``acceptance``.
    """
    settings = plan_of(plan)
    rows, model = as_rows(rows), on_device(model)
    given, prior = conditioning(model, len(rows), given, class_prior)
    number = jnp.asarray(np.uint32(checked_seed(seed)))

    def score(x: np.ndarray, y: np.ndarray | None, words: np.ndarray) -> dict[str, np.ndarray]:
        with jax.default_matmul_precision("highest"):
            found = _walk(settings, model, jnp.asarray(x), maybe(y), jnp.asarray(words), number)
        return {name: np.asarray(a) for name, a in found.items()}

    estimator = f"ais-{settings.chains}x{settings.temperatures}"
    sweep = Sweep(
        score, rows, given, _fitting(model, rows.shape[1], settings) if block is None else block, seed,
        fingerprint(model, rows, estimator, settings, seed, given), resume, minutes, progress, classes_of(model) if
        prior is not None else 0,
    )  # fmt: skip
    return result_of(sweep, prior, settings.chains, estimator)


def plan_of(plan: dict[str, Any]) -> ais.Plan:
    """Return the plan, refusing what it does not know."""
    try:
        return ais.Plan(**{"start": "posterior", **plan})
    except TypeError as error:
        raise ReverieError(f"annealing: {str(error).split('__init__() ')[-1]}") from None


def _fitting(model: Latent, width: int, plan: ais.Plan) -> int:
    # Leapfrog steps differentiate through the decoder: the forward activations and as much again.
    return int(np.clip(BUDGET // (8 * footprint(model, width) * plan.chains), 1, _MOST_ROWS))


def _walk(
    plan: ais.Plan, model: Latent, rows: Array, given: Array | None, words: Array, seed: Array
) -> dict[str, Array]:
    state = _begin(plan, model, rows, given, words, seed)
    for piece in range(1, _PIECES + 1):
        upto = jnp.asarray(-(-plan.temperatures * piece // _PIECES), jnp.int32)
        state = jax.block_until_ready(_go_on(plan, model, state, rows, given, words, seed, upto))
    return _end(state)


@eqx.filter_jit
def _begin(plan: ais.Plan, model: Latent, rows: Array, given: Array | None, words: Array, seed: Array) -> Any:
    one = lambda x, y, own: ais.ais_init(plan, model, row_key(seed, own), x, y)  # noqa: E731
    axes = (0, None if given is None else 0, 0)
    return jax.vmap(one, in_axes=axes, out_axes=ais.AISState.axes())(rows, given, words)


@eqx.filter_jit
def _go_on(
    plan: ais.Plan, model: Latent, state: Any, rows: Array, given: Array | None, words: Array, seed: Array,
    upto: Int[Array, ""],
) -> Any:  # fmt: skip
    def one(own_state: Any, x: Array, y: Array | None, own: Array) -> Any:
        return ais.ais_advance(plan, model, own_state, row_key(seed, own), x, y, upto=upto)

    axes = ais.AISState.axes()
    return jax.vmap(one, in_axes=(axes, 0, None if given is None else 0, 0), out_axes=axes)(state, rows, given, words)


@eqx.filter_jit
def _end(state: Any) -> dict[str, Array]:
    values, info = jax.vmap(ais.ais_result, in_axes=(ais.AISState.axes(),))(state)
    return {"values": values, "variances": info["variance"], "ess": info["effective_sample_size"],
            "acceptance": info["acceptance"]}  # fmt: skip


def simulated_gap(
    model: Latent,
    *,
    n: int = 16,
    seed: int = 0,
    class_prior: Float[np.ndarray, " C"] | None = None,
    progress: Watch | None = None,
    **plan: Any,
) -> dict[str, Estimate]:
    """Return what annealing gives, forwards and backwards, on rows simulated from the model, in the model's units.

    Args:
        n: rows simulated.
        class_prior: p(y), from which a class-conditional model's classes are drawn (default: uniform).
        plan: as for `annealed`.

    Returns:
        ``bracket``: mean log p(x) of the simulated rows between its bounds; ``gap``: their mean difference, which is
        how far annealing may fall short on data like the model's own.  A diagnosis, no guarantee for real rows.

    Raises:
        ReverieError: for fewer than two rows.
    """
    if n < 2:
        raise ReverieError(f"n: {n} simulated rows have no spread; give 2 or more")
    settings, model = plan_of(plan), on_device(model)
    _, prior = conditioning(model, n, None, class_prior)
    key = jax.random.key(checked_seed(seed))
    labels = None if prior is None else np.random.default_rng(seed).choice(len(prior), n, p=prior)
    given = None if labels is None or prior is None else np.eye(len(prior), dtype=np.float32)[labels]
    bounds = []
    for i in range(n):
        own = maybe(None if given is None else given[i : i + 1])
        with jax.default_matmul_precision("highest"):
            bounds.append(_both(settings, model, jax.random.fold_in(key, i), own))
        if progress is not None:
            progress(i + 1)
    low, high = np.asarray(bounds, np.float64).reshape(n, 2).T
    return _bracket(low, high, settings, seed)


def _bracket(low: np.ndarray, high: np.ndarray, plan: ais.Plan, seed: int) -> dict[str, Estimate]:
    how: dict[str, Any] = {"estimator": f"bdmc-{plan.chains}x{plan.temperatures}", "seed": seed}
    middle = Estimate.of_rows((low + high) / 2, kind="bracket", low=float(low.mean()), high=float(high.mean()),
                              note="rows simulated from the model", **how)  # fmt: skip
    gap = Estimate.of_rows(high - low, kind="upper_bound", note="of what annealing misses on simulated rows", **how)
    return {"bracket": middle, "gap": gap}


@eqx.filter_jit
def _both(plan: ais.Plan, model: Latent, key: Array, given: Array | None) -> Array:
    settings = {name: getattr(plan, name) for name in plan.__dataclass_fields__}
    return jnp.concatenate(ais.bdmc_gap(model, key, given, 1, **settings))
