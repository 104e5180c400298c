"""How fast Boltzmann machines learn and are annealed, beside their matrix products alone and scikit-learn's RBM.

    python benchmarks/boltzmann.py [--rounds 5] [--seconds 1] [--quick] [--out results/bench/boltzmann.json]

All in one process on one thread, in turn within every round; medians over the rounds of milliseconds of processor time
and of the ratios within a round.  Jobs: steps of CD-1 and PCD-1 of 784-500 at batch 100 through the engine; parallel
tempering, 10 replicas of 100 chains, with its swaps; one temperature of annealing 1,000 chains; and what 64-20 machines
reach on digits, exactly, in so many seconds of learning, ours and scikit-learn's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import _report
from _report import Run

_report.threads(1)

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from _loops import Kind, binary, built, products, steps  # noqa: E402
from sklearn.neural_network import BernoulliRBM  # noqa: E402

from reverie.data import load  # noqa: E402
from reverie.data.dataset import Dataset  # noqa: E402
from reverie.models.undirected import _chains, rbm  # noqa: E402
from reverie.prob import partition  # noqa: E402
from reverie.train.engine import Engine  # noqa: E402

VISIBLE, HIDDEN, BATCH, CHAINS, REPLICAS = 784, 500, 100, 1000, 10
#: Upwards and downwards in turn, then the statistics of data and chains.
STEP: tuple[Kind, ...] = ("forward", "back", "forward", "weights", "weights")


def engine(data: Dataset, epochs: float = 100.0, **settings: Any) -> Engine:
    return Engine(*built(rbm, data, epochs, **settings), 0)


def memory(of: Engine) -> dict[str, int]:
    """Return the bytes of an engine's compiled loop."""
    arrays, of._static = eqx.partition(of.init(), eqx.is_array)
    feed, of._feed_static = eqx.partition(of.feed, eqx.is_array)
    plan = of._loop.lower(arrays, feed, of.key, 1).compile().memory_analysis()
    # What is aliased is given up to the result: weights, steps under way and chains live in one place.
    return {
        "state": plan.output_size_in_bytes,
        "in_place": plan.alias_size_in_bytes,
        "temporary": plan.temp_size_in_bytes,
    }


def peer_steps(data: Dataset) -> Run:
    """Return a function that runs n steps of scikit-learn's (persistent chains, its own minibatch update)."""
    rows = data.rows("train", 0, 10_000).astype(np.float32)
    model = BernoulliRBM(HIDDEN, batch_size=BATCH, learning_rate=0.05, random_state=0)
    # Begun by `fit`, which takes on the rows' float32; begun by `partial_fit` its weights are float64.
    model.set_params(n_iter=1).fit(rows[:BATCH])
    assert model.components_.dtype == np.float32

    def run(n: int) -> None:
        for step in range(n):
            model.partial_fit(rows[step * BATCH % 9900 :][:BATCH])

    return run


def machine() -> rbm.RBM:
    return engine(binary(200), hidden=HIDDEN, batch=BATCH).init().model


def annealed() -> Run:
    """Return a function that takes 1,000 chains through n temperatures."""
    model, key = machine(), jax.random.key(1)
    betas, begun = jnp.linspace(0.0, 1.0, 1001), partition.start(machine(), key, CHAINS)
    return lambda n: jax.block_until_ready(
        partition.piece(model, begun, key, betas, jnp.asarray(0), jnp.asarray(n)).total
    )


def tempered() -> Run:
    """Return a function that sweeps and swaps 10 replicas of 100 chains n times."""
    model, how = machine(), _chains.Tempering(replicas=REPLICAS)
    draws = jax.vmap(model.draw_base)(jax.random.split(jax.random.key(0), REPLICAS * BATCH))
    states = jax.tree.map(lambda s: s.reshape(REPLICAS, BATCH, -1), draws)

    @jax.jit
    def run(n: int, states: Any) -> Any:
        key = jax.random.key(2)
        accepted = jnp.zeros(REPLICAS - 1)

        def body(i: Any, s: Any) -> Any:
            kept = _chains.Kept(s, accepted, ())
            return _chains._swapped(model, jax.random.fold_in(key, i), kept, how.rising(), 1, i)[0]

        return jax.lax.fori_loop(0, n, body, states)

    return lambda n: jax.block_until_ready(run(n, states))


def measure(name: str, contenders: dict[str, Run], given: argparse.Namespace, most: int = 10**6) -> dict[str, Any]:
    """Measure contenders in turn, round after round."""
    rounds = _report.in_turn(contenders, _report.counted(contenders, given.seconds, most=most), given.rounds)
    return {"job": name, "ms": _report.medians(rounds), "ratios": _report.ratios(rounds)}


def quality(seconds: float) -> dict[str, Any]:
    """Learn digits for so many seconds with 64-20 machines, compiled beforehand; the exact test log-likelihood."""
    data = load("digits")
    rows, test = data.rows("train", 0, data.size("train")), data.rows("test", 0, data.size("test"))
    per_epoch = data.size("train") / 50
    settings = {"hidden": 20, "batch": 50, "rate": 0.1}
    timed = steps(engine(data, **settings))
    timed(10), timed(10)
    began = time.process_time()
    timed(2000)
    epochs = seconds / ((time.process_time() - began) / 2000) / per_epoch
    ours = engine(data, epochs, **settings)
    state = ours.advance(ours.advance(ours.init(), 1), 2)
    began = time.process_time()
    model = jax.block_until_ready(ours.advance(state, int(epochs * per_epoch)).model)
    spent = {"ours": time.process_time() - began}
    theirs, began, passes = BernoulliRBM(20, batch_size=50, learning_rate=0.1, random_state=0), time.process_time(), 0
    theirs.set_params(n_iter=1).fit(rows[:50].astype(np.float32))
    rows = rows.astype(np.float32)
    while (spent_there := time.process_time() - began) < seconds:
        # Its rate does not fall by itself; it is given the same plan.
        theirs.learning_rate = 0.1 * max(0.0, 1.0 - spent_there / seconds)
        for at in range(0, len(rows), 50):
            theirs.partial_fit(rows[at : at + 50])
        passes += 1
    spent["scikit-learn"] = spent_there
    biases = (jnp.asarray(theirs.intercept_visible_), jnp.asarray(theirs.intercept_hidden_))
    other = replace(model, weights=(jnp.asarray(theirs.components_.T),), biases=biases)

    def exact(of: Any) -> float:
        return float(jax.vmap(of.log_unnormalised)(jnp.asarray(test)).mean()) - partition.enumerated(of)

    return {"job": "digits 64-20, exact test log-likelihood", "seconds": spent,
            "epochs": {"ours": epochs, "scikit-learn": passes},
            "nats": {"ours": exact(model), "scikit-learn": exact(other)}}  # fmt: skip


def jobs(given: argparse.Namespace) -> list[Callable[[], dict[str, Any]]]:
    data = binary()

    def training(chain: str) -> dict[str, Any]:
        of = engine(data, hidden=HIDDEN, batch=BATCH, chain=chain)
        contenders = {"ours": steps(of), "products": products([(STEP, BATCH, VISIBLE, HIDDEN)]),
                      "scikit-learn": peer_steps(data)}  # fmt: skip
        return {**measure(f"rbm 784-500 {chain}-1, batch 100, a step", contenders, given), "bytes": memory(of)}

    def many(name: str, run: Run, most: int) -> dict[str, Any]:
        sweep = products([(("back", "forward"), CHAINS, VISIBLE, HIDDEN)])
        return measure(name, {"ours": run, "products": sweep}, given, most)

    return [
        lambda: training("cd"),
        lambda: training("pcd"),
        lambda: many("ais 784-500, 1,000 chains, a temperature", annealed(), 1000),
        lambda: many("tempering 784-500, 10 replicas of 100 chains, a sweep with swaps", tempered(), 10**6),
        lambda: quality(1.0 if given.quick else 5.0),
    ]


def main() -> None:
    given = _report.timing(__doc__, rounds=5, seconds=1.0, quick="two short rounds").parse_args()
    if given.quick:
        given.rounds, given.seconds = 2, 0.2
    _report.tell(given, jobs(given), {"jax": jax.__version__}, quick=given.quick)


if __name__ == "__main__":
    main()
