"""What the benchmarks share: how they are asked, how contenders are timed in turn, and how a report is written.

Nothing here imports numpy or JAX before it is called: `threads` has to set the environment before they look at it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any

#: Does n pieces of work.
Run = Callable[[int], Any]
Clock = Callable[[], float]
#: Of each round, the milliseconds that each contender took for a piece.
Rounds = list[dict[str, float]]


def parser(text: str | None, out: Path | None = None) -> argparse.ArgumentParser:
    """Return what reads the command line: so far where the report goes."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=out)
    return made


def timing(text: str | None, rounds: int, seconds: float | None = None, quick: str | None = None) -> Any:
    """Return the same for a benchmark that times contenders: `rounds` by default, of `seconds` each, or `quick`."""
    made = parser(text)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--note", help="what else should be known of the machine")
    if seconds is not None:
        made.add_argument("--seconds", type=float, default=seconds, help="of work per measurement")
    if quick is not None:
        made.add_argument("--quick", action="store_true", help=f"{quick}, to see that it works")
    return made


def threads(count: int = 1) -> None:
    """Have numpy, and JAX where it is one, use so many threads; to be called before either is imported."""
    if count == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    for name in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{name}_NUM_THREADS"] = str(count)


def keep_memory() -> None:
    """Have memory that was given back stay with the process (with glibc), as within a compiled loop of steps it does.

    Else each call of compiled work gets fresh pages from the system, which can cost as much as the work.
    """
    trim, mapped, arenas, never = -1, -3, -8, 2**31 - 1
    with contextlib.suppress(OSError, AttributeError):
        # One arena: what other threads have of their own is always given back.
        for what, value in ((trim, never), (mapped, never), (arenas, 1)):
            ctypes.CDLL(None).mallopt(what, value)


def cost(run: Run, n: int, clock: Clock = time.process_time) -> float:
    """Return milliseconds for each of n pieces of work."""
    began = clock()
    run(n)
    return 1e3 * (clock() - began) / n


def counted(
    contenders: dict[str, Run], seconds: float, clock: Clock = time.process_time, most: int = 10**6
) -> dict[str, int]:  # fmt: skip
    """Return how many pieces of work of each contender take so many seconds, by a first timing."""
    counts = {}
    for who, run in contenders.items():
        run(2)
        counts[who] = min(most, max(2, int(1e3 * seconds / cost(run, 3, clock))))
    return counts


def in_turn(
    contenders: dict[str, Run], counts: dict[str, int], rounds: int, clock: Clock = time.process_time
) -> Rounds:  # fmt: skip
    """Time every contender in turn, round after round."""
    return [{who: cost(run, counts[who], clock) for who, run in contenders.items()} for _ in range(rounds)]


def medians(rounds: Rounds) -> dict[str, float]:
    return {who: statistics.median(r[who] for r in rounds) for who in rounds[0]}


def ratio(rounds: Rounds, who: str, to: str) -> float:
    """Return the median of the ratios within a round, which what else the machine does disturbs least."""
    return statistics.median(r[who] / r[to] for r in rounds)


def ratios(rounds: Rounds, to: str = "ours") -> dict[str, float]:
    """Return the ratio of each contender to one, by their names."""
    return {f"{who} / {to}": ratio(rounds, who, to) for who in rounds[0]}


def tell(
    given: argparse.Namespace, jobs: Iterable[Callable[[], dict[str, Any]]], libraries: dict[str, str],
    threads: int = 1, **more: Any,
) -> None:  # fmt: skip
    """Do the jobs, saying each on stderr as it is done; then print the report, and write it where it was asked for.

    Args:
        libraries: versions of what was measured, by name.
        more: what else the report says before its jobs.
    """
    from reverie.train.provenance import provenance

    clock = {"clock": "processor" if threads == 1 else "wall"}
    report = {"machine": platform.processor() or platform.machine(), "threads": threads, **libraries, **clock, **more}
    report["jobs"] = []
    report |= {name: provenance()[name] for name in ("commit", "hardware")}
    if given.note:
        report["note"] = given.note
    for job in jobs:
        report["jobs"].append(job())
        print(json.dumps(report["jobs"][-1]), file=sys.stderr)
    print(json.dumps(report, indent=1))
    if given.out:
        write(given.out, report)


def write(out: Path, report: dict[str, Any]) -> None:
    from reverie.files import write_making_folder

    write_making_folder(out, (json.dumps(report, indent=1) + "\n").encode())


def kept(out: Path, *names: str) -> dict[Any, dict[str, Any]]:
    """Return the rows of an earlier report by what stands under one or more names; none where there is no report."""
    key = itemgetter(*names)
    return {key(row): row for row in json.loads(out.read_text())["rows"]} if out.exists() else {}


def finished(folder: Path, model: str, data: str, **how: Any) -> Any:
    """Train a run, or go on with it, or just read it, and return it.

    Raises:
        Interrupted: when it was stopped; the next call goes on.
    """
    import reverie
    from reverie.progress import for_stderr

    if not (folder / "checkpoint.json").exists():
        return reverie.train(model, data, run=folder, progress=for_stderr(), **how)
    run = reverie.load(folder)
    return run if run.record["status"] == "finished" else run.resume(progress=for_stderr())
