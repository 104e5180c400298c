"""How fast a GAN and a generative auto encoder (GAE) learn, and where the time of a GAE's step goes.

    python benchmarks/implicit.py [--rounds 5] [--seconds 0.5] [--quick] [--out results/bench/implicit.json]

All in one process on one thread, in turn within every round; medians over the rounds of milliseconds of processor time
and of the ratios within a round.  Jobs: a step of a `gan` of its default sizes on rows of 784 cells, beside the same
two updates in a loop written by hand and its matrix products alone; steps of a `gae` of its default sizes on 1,000 to
60,000 rows, in rows a second, and how they grow with the rows; what its `refresh` costs a row; and the parts of its
step at the most rows, each compiled and timed by itself, so that they add up to the step but roughly.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import _report

_report.threads(1)
_report.keep_memory()

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from _loops import FIRST, INNER, Layer, bare, binary, built, grey, products, steps  # noqa: E402

from reverie.models.directed import _exemplar_learning as learning  # noqa: E402
from reverie.models.directed import _exemplars as exemplars  # noqa: E402
from reverie.models.directed import gae  # noqa: E402
from reverie.models.implicit import gan  # noqa: E402
from reverie.train.engine import Engine, moved  # noqa: E402

#: Rows to train on, as few and as many as there are; and fewer, to see that it works.
SIZES, QUICK = (1_000, 4_000, 16_000, 60_000), (1_000, 3_000)
BATCH, SAMPLES, NEIGHBOURS, DRAWN, REFRESH = 100, 5, 10, 2000, 200


def gan_products(batch: int) -> list[Layer]:
    """Return the products of a GAN's step: the discriminator's turn with its slope penalty, then the generator's."""
    up, down = [(784, 256), (256, 256)], [(16, 256), (256, 256), (256, 784)]
    found: list[Layer] = [(("forward",), batch, *size) for size in down]
    found += [(INNER if i else FIRST, 2 * batch, *size) for i, size in enumerate(up)]
    # The slope goes back through each layer, and its square is learnt from through it again.
    found += [(("back", "forward", "weights"), batch, *size) for size in up]
    found += [(("forward", "back"), batch, *size) for size in up]
    return found + [(INNER if i else FIRST, batch, *size) for i, size in enumerate(down)]


def gan_step(given: argparse.Namespace) -> dict[str, Any]:
    model, recipe, feed = built(gan, grey(binarisation="means"), batch=BATCH)
    contenders = {
        "ours": steps(Engine(model, recipe, feed, 0)),
        "ours, no average kept": steps(Engine(model, replace(recipe, select="last"), feed, 0)),
        "bare loop": bare(model, recipe, feed),
        "products": products(gan_products(BATCH)),
    }
    rounds = _report.in_turn(contenders, _report.counted(contenders, given.seconds), given.rounds)
    overhead = statistics.median(r["ours, no average kept"] - r["bare loop"] for r in rounds)
    return {"job": "gan 16-256-256-784, discriminator 784-256-256-1, batch 100, a step of both",
            "ms_per_step": _report.medians(rounds), "ratios": _report.ratios(rounds),
            "engine_overhead_us": 1e3 * overhead}  # fmt: skip


class Learner:
    """A GAE of default sizes on n rows, and what its training is made of."""

    def __init__(self, size: int) -> None:
        self.size, self.how = size, "exact" if size <= 2000 else "strat"
        data = binary(size)
        self.prepare = data.prepare
        self.model, self.recipe, self.feed = built(
            gae, data, batch=BATCH, samples=SAMPLES, neighbours=NEIGHBOURS, drawn_rows=DRAWN, refresh=REFRESH,
            prior=self.how,
        )  # fmt: skip
        self.key = jax.random.key(2)
        again = exemplars.refresher(data.prepare)
        self.renewed = jax.jit(lambda model, feed, key: again(model, feed, None, key))

    def steps(self) -> _report.Run:
        """Return a function that takes n steps, refreshing only before the first: what that costs is told apart."""
        every = self.recipe.every and (10**9, self.recipe.every[1])
        return steps(Engine(self.model, replace(self.recipe, every=every), self.feed, 0))

    def refreshes(self) -> _report.Run:
        return _each(self.renewed, self.model, self.feed, self.key)


def _each(work: Callable[..., Any], *given: Any) -> _report.Run:
    """Return a function that does compiled work n times, to its end each time."""

    def run(n: int) -> None:
        for _ in range(n):
            jax.block_until_ready(work(*given))

    return run


def growth(given: argparse.Namespace, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Measure steps and refreshes at every number of rows, in turn."""
    learners = {size: Learner(size) for size in sizes}
    runs = {f"{size}": learner.steps() for size, learner in learners.items()}
    again = {f"refresh {size}": learner.refreshes() for size, learner in learners.items()}
    contenders = {**runs, **again}
    rounds = _report.in_turn(contenders, _report.counted(contenders, given.seconds), given.rounds)
    ms, rows = _report.medians(rounds), []
    for size, learner in learners.items():
        step, refresh = ms[f"{size}"], ms[f"refresh {size}"]
        # Where all rows are encoded at a step, there is nothing to refresh.
        whole = step + (refresh / REFRESH if learner.how == "strat" else 0.0)
        rows.append({
            "n": size, "prior": learner.how, "ms_per_step": step, "rows_per_second": 1e3 * BATCH / step,
            "refresh_ms": refresh, "refresh_us_per_row": 1e3 * refresh / size, "ms_per_step_with_refresh": whole,
            "rows_per_second_with_refresh": 1e3 * BATCH / whole,
        })  # fmt: skip
    sampled = [size for size in sizes if learners[size].how == "strat"]
    found = {"job": "gae 784-500-50, batch 100, 5 samples: a step by the rows to train on", "sizes": rows}
    return found | {"growth": {f"{a} to {b}": _between(rounds, a, b) for a, b in pairwise(sampled)}}


def _between(rounds: _report.Rounds, few: int, many: int) -> dict[str, float]:
    """Return what rows more cost at a step, and the power of n with which its time grows between."""
    more = statistics.median(r[f"{many}"] - r[f"{few}"] for r in rounds)
    power = math.log(_report.ratio(rounds, f"{many}", f"{few}")) / math.log(many / few)
    return {"ms_per_1000_rows_more": 1e3 * more / (many - few), "power_of_n": power}


def parts(given: argparse.Namespace, size: int) -> dict[str, Any]:
    """Measure a step at so many rows, its three turns and their parts, each by itself."""
    learner = Learner(size)
    turns, within = pieces(learner)
    contenders = {"step": learner.steps(), **turns, **within}
    rounds = _report.in_turn(contenders, _report.counted(contenders, given.seconds), given.rounds)
    ms = _report.medians(rounds)
    return {
        "job": f"gae: where the time of a step goes at {size:,} rows",
        "ms": {who: ms[who] for who in ("step", *turns)},
        "parts_ms": {who: ms[who] for who in within},
        "shares_of_the_step": {who: _report.ratio(rounds, who, "step") for who in ms if who != "step"},
    }


def pieces(learner: Learner) -> tuple[dict[str, _report.Run], dict[str, _report.Run]]:
    """Return the three turns of a step, and the parts of the first two, each on what a step would give it."""
    model, feed, key = learner.model, learner.feed, learner.key
    draw, player = learner.recipe.draw, learner.recipe.players[0]
    carry = learner.renewed(model, feed, key)
    batch = jax.jit(lambda feed, carry: draw(key, jnp.asarray(0), feed, model, carry)[0])(feed, carry)
    moving, still = eqx.partition(model, moved(player, model))

    def slopes(loss: Callable[..., Any]) -> _report.Run:
        """Return the gradient of what a model with the moving weights makes of a batch."""
        step = jax.jit(jax.grad(lambda moving, batch: loss(eqx.combine(moving, still), batch)))
        return _each(step, moving, batch)

    def updated(moving: Any, state: Any) -> Any:
        updates, state = player.optimiser.update(moving, state, moving)
        return optax.apply_updates(moving, updates), state

    turns = {
        "draw": _each(jax.jit(lambda feed, carry: draw(key, jnp.asarray(0), feed, model, carry)[0]), feed, carry),
        "gradients": slopes(lambda model, batch: player.objective(model, batch, carry, key)[0]),
        "optimiser": _each(jax.jit(updated), moving, player.optimiser.init(moving)),
    }
    return turns, searching(learner, carry, batch) | {
        "encoding neighbours and own rows": slopes(encoding), **summing(learner, batch), "decoder": slopes(decoding)
    }  # fmt: skip


def searching(learner: Learner, carry: Any, batch: Any) -> dict[str, _report.Run]:
    """Return what a draw does: search all rows for neighbours, and fetch those and the rows of the tail."""
    prepare, key = learner.prepare, learner.key
    search = exemplars.Near(carry["means"], carry["metric"], carry["squares"])
    codes = carry["means"][batch["index"]]
    far = search.distances(codes)

    def gathered(feed: Any, carry: Any, chosen: Any, some: Any) -> Any:
        return prepare(key, feed.source.take(chosen)[0]), carry["means"][some], carry["log_scales"][some]

    return {
        "distances to all rows": _each(jax.jit(lambda search, codes: search.distances(codes)), search, codes),
        "top_k of them": _each(jax.jit(lambda far: jax.lax.top_k(-far, NEIGHBOURS + 1)[1]), far),
        "gather": _each(jax.jit(gathered), learner.feed, carry, batch["candidates"][BATCH:], batch["tail"][0]),
    }


def encoding(model: Any, batch: Any) -> Any:
    """Return a number whose gradient goes back through the components of a step."""
    found = exemplars.encoded(model, jnp.concatenate([batch["x"], batch["rows"]]))
    return sum((part**2).sum() for part in found)


def decoding(model: Any, batch: Any) -> Any:
    """Return a number whose gradient goes back through the decoder at a step's codes, and to them."""
    z = jax.random.normal(jax.random.key(3), (SAMPLES, BATCH, model.exemplars.means.shape[1]))
    # The encoder's bias stands in for the codes: their gradient is asked for too.
    z += model.q.head.mean.bias
    return jax.vmap(jax.vmap(model.log_likelihood), in_axes=(None, 0))(batch["x"], z).sum()


def summing(learner: Learner, batch: Any) -> dict[str, _report.Run]:
    """Return what a step does with its candidates: neighbours among them, the proposal, and the mixture's sum."""
    model, key, objective = learner.model, learner.key, learner.recipe.players[0].objective
    own = exemplars.encoded(model, batch["x"])
    candidates = objective._candidates(model, batch, own)
    near = candidates.nearest(own[0], batch["index"], NEIGHBOURS)
    z = learning.propose(key, own, near, model.share, SAMPLES)

    def mixture(parts: Any, batch: Any) -> Any:
        z, candidates = parts
        rest = (learner.size, True, batch["tail"])
        return exemplars.log_mixture(learner.how, z, batch["index"], candidates, *rest).sum()

    def proposal(parts: Any) -> Any:
        return learning.log_proposal(*parts, model.share).sum()

    def among(candidates: Any, own: Any, index: Any) -> Any:
        first = exemplars.once(candidates.index)
        return first, candidates.nearest(own, index, NEIGHBOURS)

    slopes = lambda of: eqx.filter_jit(eqx.filter_grad(of))  # noqa: E731
    return {
        "neighbours among candidates": _each(jax.jit(among), candidates, own[0], batch["index"]),
        "sums over candidates and tail": _each(slopes(mixture), (z, candidates), batch),
        "the proposal's density": _each(slopes(proposal), (z, own, near)),
    }


def main() -> None:
    given = _report.timing(__doc__, rounds=5, seconds=0.5, quick="two short rounds of few rows").parse_args()
    if given.quick:
        given.rounds, given.seconds = 2, 0.1
    sizes = QUICK if given.quick else SIZES
    jobs = [partial(gan_step, given), partial(growth, given, sizes), partial(parts, given, sizes[-1])]
    _report.tell(given, jobs, {"jax": jax.__version__}, quick=given.quick)


if __name__ == "__main__":
    main()
