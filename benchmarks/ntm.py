"""How fast a Neural Turing Machine learns to copy: processor time of an update, of compiling it, and how both grow.

    python benchmarks/ntm.py [--rounds 5] [--quick] [--out results/bench/ntm.json]

One update is the gradient of the cost of 16 sequences of length 10 (21 steps) and RMSprop's step; 100 units, one head
that reads and one that writes, 128 slots of 20 numbers.  Everything in one process on one thread, in turn within every
round; medians over the rounds of processor time an update.  The other jobs are the same at other lengths and memories.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import _report

_report.threads(1)

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from reverie import data as data_floor  # noqa: E402
from reverie.models import load_module  # noqa: E402
from reverie.train.recipe import Brief  # noqa: E402

BATCH = 16
#: Length of the sequences and slots of the memory.
SIZES = ((10, 128), (5, 128), (20, 128), (10, 32), (10, 512))


def updates(length: int, slots: int, controller: str) -> tuple[Callable[[int], None], float]:
    """Return what does n updates, compiled, and the seconds of processor time that compiling took."""
    data = data_floor.load(f"copy:{length}")
    module = load_module("ntm")
    model, recipe = module.recipe(Brief(data, jax.random.key(0), 1.0), batch=BATCH, slots=slots, controller=controller)
    player, x = recipe.players[0], jnp.asarray(data.rows("train", 0, BATCH))
    state = player.optimiser.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def update(model: Any, state: Any) -> tuple[Any, Any]:
        cost = lambda m: player.objective(m, {"x": x}, recipe.carry, jax.random.key(0))[0]  # noqa: E731
        gradients = eqx.filter_grad(cost)(model)
        moves, state = player.optimiser.update(gradients, state)
        return eqx.apply_updates(model, moves), state

    began = time.process_time()
    jax.block_until_ready(update(model, state))
    compiling = time.process_time() - began

    def run(n: int) -> None:
        held = (model, state)
        for _ in range(n):
            held = update(*held)
        jax.block_until_ready(held)

    return run, compiling


def speed(controller: str, rounds: int, seconds: float, sizes: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    """Return milliseconds an update, seconds to compile, and sequences a second at the first of the sizes."""
    made = {f"length {n}, {slots} slots": updates(n, slots, controller) for n, slots in sizes}
    contenders = {name: run for name, (run, _) in made.items()}
    counts = _report.counted(contenders, seconds)
    medians = _report.medians(_report.in_turn(contenders, counts, rounds))
    first = next(iter(medians.values()))
    return {
        "job": f"copy, {controller}: an update of {BATCH} sequences, ms of processor time", **medians,
        "sequences a second": 1000.0 * BATCH / first,
        "seconds to compile": max(compiling for _, compiling in made.values()),
    }  # fmt: skip


def main() -> None:
    given = _report.timing(__doc__, rounds=5, seconds=1.0, quick="one round of two sizes").parse_args()
    sizes, rounds, seconds = (SIZES[:2], 1, 0.1) if given.quick else (SIZES, given.rounds, given.seconds)
    kinds = ("feedforward",) if given.quick else ("feedforward", "lstm")
    jobs = [lambda kind=kind: speed(kind, rounds, seconds, sizes) for kind in kinds]
    _report.tell(given, jobs, {"jax": jax.__version__}, quick=given.quick)


if __name__ == "__main__":
    main()
