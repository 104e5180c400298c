"""How fast Parzen windows are, beside the matrix product alone and scikit-learn's KernelDensity, and how right.

    python benchmarks/parzen.py [--rounds 5] [--quick] [--out results/bench/parzen.json]

10,000 rows under 10,000 windows of 784 cells, all in one process on one thread, in turn within every round; medians
over the rounds of processor time a row and of the ratios within a round.  scikit-learn, whose time grows with the
rows alone, does few of them.  MNIST where it is at hand, else rows of its size; the values of both at the published
bandwidth (0.17) and at the grid's ends are set beside float64, computed from differences.  Memory is the most that
numpy and Python held above the rows themselves, at one and at four times as many rows and windows.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import _report

_report.threads(1)

import numpy as np  # noqa: E402
import sklearn  # noqa: E402
from scipy.special import logsumexp  # noqa: E402
from sklearn.neighbors import KernelDensity  # noqa: E402

from reverie.data import load  # noqa: E402
from reverie.errors import ReverieError  # noqa: E402
from reverie.evaluate.parzen import GRID  # noqa: E402
from reverie.evaluate.windows import Windows, log_density  # noqa: E402

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


def speed(rows: np.ndarray, means: np.ndarray, rounds: int, few: int) -> dict[str, Any]:
    peer = KernelDensity(bandwidth=0.17).fit(means)
    product = np.empty((len(rows), len(means)), np.float32)
    # A piece of work is a row.
    contenders: dict[str, _report.Run] = {
        "ours": lambda n: log_density(rows[:n], means, np.array([0.17])),
        "product": lambda n: np.matmul(rows[:n], means.T, out=product[:n]),
        "ours, ten bandwidths": lambda n: log_density(rows[:n], means, GRID),
        "scikit-learn": lambda n: peer.score_samples(rows[:n]),
    }
    product.fill(0.0)  # its pages are there before it is timed
    counts = {**dict.fromkeys(contenders, len(rows)), "scikit-learn": few}
    found = _report.in_turn(contenders, counts, rounds)
    return {
        "job": f"{len(rows):,} rows, {len(means):,} windows, 784 cells: a row",
        "ms": _report.medians(found),
        "ratios": {
            "ours / product": _report.ratio(found, "ours", "product"),
            "ten bandwidths / product": _report.ratio(found, "ours, ten bandwidths", "product"),
            "scikit-learn / ours": _report.ratio(found, "scikit-learn", "ours"),
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
    given = _report.timing(__doc__, rounds=5, quick="two rounds of few rows").parse_args()
    n, few, rounds = (1000, 20, 2) if given.quick else (10_000, 100, given.rounds)
    name, rows, means = rows_and_means(n)
    jobs = (
        lambda: speed(rows, means, rounds, few),
        lambda: values(rows, means, few),
        lambda: memory(rows, means),
    )
    libraries = {"numpy": np.__version__, "scikit-learn": sklearn.__version__}
    _report.tell(given, jobs, libraries, quick=given.quick, data=name)


if __name__ == "__main__":
    main()
