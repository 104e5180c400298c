"""How fast Parzen windows are, beside the matrix product alone and scikit-learn's KernelDensity, and how right.

    python benchmarks/parzen.py [--rounds 5] [--quick] [--out results/bench/parzen.json]

10,000 rows under 10,000 windows of 784 cells, all in one process on one thread, in turn within every round; medians
over the rounds of processor time a row and of the ratios within a round.  scikit-learn, whose time grows with the
rows alone, does few of them.  MNIST where it is at hand, else rows of its size; the values of both at the published
bandwidth (0.17) and at the grid's ends are set beside float64, computed from differences.  Memory is the most that
numpy and Python held above the rows themselves, at one and at four times as many rows and windows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{name}_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
import sklearn  # noqa: E402
from scipy.special import logsumexp  # noqa: E402
from sklearn.neighbors import KernelDensity  # noqa: E402

from reverie.data import load  # noqa: E402
from reverie.errors import ReverieError  # noqa: E402
from reverie.evaluate.parzen import GRID  # noqa: E402
from reverie.evaluate.windows import Windows, log_density  # noqa: E402
from reverie.train.provenance import provenance  # noqa: E402

BANDWIDTHS = (0.1, 0.17, 1.0)


def rows_and_means(n: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Return n test rows, and as many training rows with a little noise in place of what a generator makes."""
    rng = np.random.default_rng(0)
    try:
        data = load("mnist", binarisation="means")
        name, rows, train = "mnist", data.rows("test", 0, n), data.rows("train", 0, n)
    except ReverieError:
        basis = rng.random((50, 784)) ** 6
        mixed = [np.clip(3 * rng.dirichlet(np.ones(50), n) @ basis, 0, 1) for _ in range(2)]
        name, rows, train = "mixtures", *mixed
    means = np.clip(train + 0.05 * rng.standard_normal(train.shape), 0, 1)
    return name, rows.astype(np.float32), means.astype(np.float32)


def exact(rows: np.ndarray, means: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return the log-densities in float64, from differences."""
    wide = means.astype(np.float64)
    squares = np.stack([((row - wide) ** 2).sum(axis=1) for row in rows.astype(np.float64)])
    scale = np.log(len(wide)) + wide.shape[1] * np.log(bandwidth * np.sqrt(2 * np.pi))
    return logsumexp(-squares / (2 * bandwidth**2), axis=1) - scale


def cost(run: Callable[[], Any], rows: int) -> float:
    """Return milliseconds of processor time a row."""
    began = time.process_time()
    run()
    return 1e3 * (time.process_time() - began) / rows


def speed(rows: np.ndarray, means: np.ndarray, rounds: int, few: int) -> dict[str, Any]:
    peer = KernelDensity(bandwidth=0.17).fit(means)
    product = np.empty((len(rows), len(means)), np.float32)
    contenders: dict[str, tuple[Callable[[], Any], int]] = {
        "ours": (lambda: log_density(rows, means, np.array([0.17])), len(rows)),
        "product": (lambda: np.matmul(rows, means.T, out=product), len(rows)),
        "ours, ten bandwidths": (lambda: log_density(rows, means, GRID), len(rows)),
        "scikit-learn": (lambda: peer.score_samples(rows[:few]), few),
    }
    product.fill(0.0)  # its pages are there before it is timed
    found = [{who: cost(run, n) for who, (run, n) in contenders.items()} for _ in range(rounds)]
    return {
        "job": f"{len(rows):,} rows, {len(means):,} windows, 784 cells: a row",
        "ms": {who: statistics.median(r[who] for r in found) for who in contenders},
        "ratios": {
            "ours / product": statistics.median(r["ours"] / r["product"] for r in found),
            "ten bandwidths / product": statistics.median(r["ours, ten bandwidths"] / r["product"] for r in found),
            "scikit-learn / ours": statistics.median(r["scikit-learn"] / r["ours"] for r in found),
        },
        "rows_of_scikit_learn": few,
    }


def values(rows: np.ndarray, means: np.ndarray, few: int) -> dict[str, Any]:
    """Return how far both are from float64 on few rows, in nats."""
    report: dict[str, Any] = {"job": f"values of {few} rows beside float64, nats"}
    for s in BANDWIDTHS:
        truth = exact(rows[:few], means, s)
        ours = log_density(rows[:few], means, np.array([s]))[:, 0]
        theirs = KernelDensity(bandwidth=s).fit(means).score_samples(rows[:few])
        report[f"bandwidth {s:g}"] = {
            "float64, mean": float(truth.mean()), "ours, mean": float(ours.mean()),
            "scikit-learn, mean": float(theirs.mean()), "ours, worst row": float(abs(ours - truth).max()),
            "scikit-learn, worst row": float(abs(theirs - truth).max()),
        }  # fmt: skip
    return report


def memory(rows: np.ndarray, means: np.ndarray) -> dict[str, Any]:
    """Return the most bytes held besides the rows, windows being made a block at a time."""

    def peak(n: int) -> int:
        some = np.resize(rows, (n, rows.shape[1]))
        tracemalloc.start()
        windows = Windows(some, np.array([0.17]))
        for _ in range(0, n, 5000):
            windows.add(means[:5000])
        windows.log_density()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    n = min(5000, len(rows))
    return {"job": "memory besides the rows, bytes", f"{n:,}": peak(n), f"{4 * n:,}": peak(4 * n)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds of few rows, to see that it works")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    n, few, rounds = (1000, 20, 2) if given.quick else (10_000, 100, given.rounds)
    name, rows, means = rows_and_means(n)
    report = {"machine": platform.processor() or platform.machine(), "threads": 1, "numpy": np.__version__,
              "scikit-learn": sklearn.__version__, "clock": "processor", "quick": given.quick, "data": name, "jobs": [],
              **{key: provenance()[key] for key in ("commit", "hardware")}}  # fmt: skip
    for job in (
        lambda: speed(rows, means, rounds, few),
        lambda: values(rows, means, few),
        lambda: memory(rows, means),
    ):
        report["jobs"].append(job())
        print(json.dumps(report["jobs"][-1]), file=sys.stderr)
    text = json.dumps(report, indent=1)
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
