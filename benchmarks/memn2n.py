"""How fast memory networks learn: questions a second in training, and what counting words saves over fetching rows.

    python benchmarks/memn2n.py [--rounds 5] [--quick] [--out results/bench/memn2n.json]

A step is 32 questions for each of ten networks that are trained side by side.  ``ours`` is the engine, ``bare loop``
the same step in a loop of its own, ``rows fetched`` the bare loop with the rows of words fetched from the tables one by
one.  Everything in one process on one thread, in turn within every round; medians over the rounds of processor time a
step.  Small stories made here, and where the files are at hand two bAbI tasks and all of them in one network.
"""

from __future__ import annotations

from typing import Any

import _report

_report.threads(1)

import _loops  # noqa: E402
import jax  # noqa: E402

from reverie import data as data_floor  # noqa: E402
from reverie.models import load_module  # noqa: E402
from reverie.nn import words  # noqa: E402
from reverie.train.engine import Engine  # noqa: E402

BATCH, RESTARTS = 32, 10
JOBS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("tiny-stories", {}), ("babi:1", {}), ("babi:3", {}), ("babi", {"width": 50, "linear_start": 0.5}),
)  # fmt: skip


def speed(name: str, settings: dict[str, Any], rounds: int, seconds: float) -> dict[str, Any]:
    """Return milliseconds a step and questions a second of one data set, for all networks together."""
    data, module = data_floor.load(name), load_module("memn2n")
    model, recipe, feed = _loops.built(module, data, restarts=RESTARTS, batch=BATCH, **settings)
    contenders = {"ours": _loops.steps(Engine(model, recipe, feed, 0)), "bare loop": _loops.bare(model, recipe, feed)}
    largest = words.COUNTED
    words.COUNTED = 0
    try:
        contenders["rows fetched"] = _loops.bare(model, recipe, feed)
        contenders["rows fetched"](1)
    finally:
        words.COUNTED = largest
    turns = _report.in_turn(contenders, _report.counted(contenders, seconds), rounds)
    medians = _report.medians(turns)
    return {
        "job": f"{name}, {RESTARTS} networks: a step of {BATCH} questions, ms of processor time", **medians,
        "ratios": _report.ratios(turns), "questions a second": 1000.0 * BATCH / medians["ours"],
        "questions a second, each network's": 1000.0 * BATCH * RESTARTS / medians["ours"],
    }  # fmt: skip


def main() -> None:
    given = _report.timing(__doc__, rounds=5, seconds=1.0, quick="one round of the small stories").parse_args()
    rounds, seconds = (1, 0.1) if given.quick else (given.rounds, given.seconds)
    here = [job for job in JOBS if (entry := data_floor.entry(job[0])) is not None and entry.here]
    jobs = [lambda job=job: speed(*job, rounds, seconds) for job in (here[:1] if given.quick else here)]
    _report.tell(given, jobs, {"jax": jax.__version__}, quick=given.quick)


if __name__ == "__main__":
    main()
