"""What a classifier is set beside: scikit-learn's methods on the same rows, chosen on the same validation rows.

Each is fitted to training rows, its few settings chosen by the errors on the validation rows, and scored once on the
test rows; or before that fitted again, to training and validation rows together (`Problem.refit`).  Settings that are
dear to choose are chosen on a part of the training rows, which the record says.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from reverie.errors import ReverieError, nearest
from reverie.estimate import Estimate
from reverie.evaluate.classification import interval_words, wilson

#: ``watch(done, **numbers)``; raises where somebody asked to stop.
Watch = Callable[..., None]
#: Rows on which settings are chosen, and on which a support vector machine is fitted at most.
CHOOSING = {"logistic": 10_000, "svm": 5_000, "features": 10_000}
MOST_SVM = 50_000
_EPOCHS, _PATIENCE = 200, 10
#: What a method counts up to while it is fitted.
PARTS = 8


@dataclass(frozen=True)
class Problem:
    """Labelled rows in three splits, and what the methods are told besides.

    Attributes:
        x, y: ``train``, ``valid`` and ``test`` to rows (n, D) and classes (n,).
        hidden: widths of the neural net.
        seed: of all that is random.
        codes: the same rows as the run's codes, asked for when they are needed; None without.
        watch: told now and then.
        refit: what was chosen is fitted again to training and validation rows together.
    """

    x: dict[str, Float[np.ndarray, "n D"]]
    y: dict[str, Int[np.ndarray, " n"]]
    hidden: tuple[int, ...]
    seed: int = 0
    codes: Callable[[], dict[str, Float[np.ndarray, "n d"]]] | None = None
    watch: Watch = lambda done, **numbers: None
    refit: bool = False

    def all(self) -> Problem:
        """Return the problem with the validation rows among those that train."""
        x, y = ({**part, "train": np.concatenate([part["train"], part["valid"]])} for part in (self.x, self.y))
        return replace(self, x=x, y=y, refit=False)

    def some(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return at most `count` training rows, drawn by the seed, and their classes."""
        n = len(self.y["train"])
        if n <= count:
            return self.x["train"], self.y["train"]
        # Every class among them, as no method learns from one alone.
        index = np.sort(np.random.default_rng([self.seed, n, count]).permutation(n)[:count])
        return self.x["train"][index], self.y["train"][index]

    def error(self, fitted: Any, split: str) -> float:
        """Return the share of a split's rows that a fitted method tells wrongly."""
        return float(np.mean(fitted.predict(self.x[split]) != self.y[split]))


#: ``fit(problem) -> (fitted, validation error, words that say what was chosen, rows fitted to)``.
Fit = Callable[[Problem], tuple[Any, float, str, int]]


def names(asked: str) -> tuple[str, ...]:
    """Return the methods of ``all``, ``none`` or a list such as ``knn,svm``.

    Raises:
        ReverieError: naming the nearest.
    """
    if asked in ("all", "none"):
        return tuple(METHODS) if asked == "all" else ()
    wanted = tuple(part.strip() for part in asked.split(",") if part.strip())
    for name in wanted:
        if name not in METHODS:
            raise ReverieError(
                f"baselines: {name!r} is not one of all, none, {', '.join(METHODS)}{nearest(name, METHODS)}"
            )
    return wanted


def run(name: str, problem: Problem) -> dict[str, Any]:
    """Fit one method, choose its settings on validation rows, score it on test rows, and return its record.

    Returns:
        ``title``, ``test`` (an `Estimate` of the share of rows told wrongly), ``low`` and ``high`` (95 %, Wilson),
        ``valid`` (the share of validation rows), ``chosen``, ``fitted_rows`` and ``seconds``.
    """
    began = time.monotonic()
    if name == "features":
        if problem.codes is None:
            raise ReverieError("baselines: features need a run that encodes; leave them out")
        problem = replace(problem, x=problem.codes())
    with warnings.catch_warnings():
        # A method that was stopped at its most iterations is chosen by its errors all the same.
        warnings.filterwarnings("ignore", module="sklearn")
        title, fit = METHODS[name]
        fitted, valid, chosen, rows = fit(problem)
        wrong = fitted.predict(problem.x["test"]) != problem.y["test"]
    return {**scored(wrong, name), "title": title, "valid": valid, "chosen": chosen, "fitted_rows": rows,
            "seconds": round(time.monotonic() - began, 2)}  # fmt: skip


def scored(wrong: np.ndarray, name: str) -> dict[str, Any]:
    """Return the record of the rows told wrongly and their interval."""
    low, high = wilson(int(wrong.sum()), len(wrong))
    record = Estimate.of_rows(wrong, kind="exact", estimator=name, unit="fraction", split="test",
                              note=interval_words(wrong))  # fmt: skip
    return {"test": record, "low": low, "high": high}


def _choose(problem: Problem, makers: Sequence[tuple[str, Callable[[], Any]]], rows: int) -> tuple[int, float, Any]:
    """Return which maker's method tells the fewest validation rows wrongly, that share, and what was fitted."""
    x, y = problem.some(rows)
    errors, kept = [], []
    for number, (_, make) in enumerate(makers):
        kept.append(make().fit(x, y))
        errors.append(problem.error(kept[-1], "valid"))
        problem.watch(number + 1, valid_error=min(errors))
    best = int(np.argmin(errors))
    return best, errors[best], kept[best]


def _chosen_then_fitted(
    problem: Problem, makers: Sequence[tuple[str, Callable[[], Any]]], choosing: int, most: int | None = None
) -> tuple[Any, float, str, int]:
    """Choose on `choosing` training rows, then fit the chosen one to all (at most `most`)."""
    best, error, fitted = _choose(problem, makers, choosing)
    words, make = makers[best]
    chosen_on = min(choosing, len(problem.y["train"]))
    whole = problem.all() if problem.refit else problem
    n = len(whole.y["train"])
    size = n if most is None else min(n, most)
    if size > chosen_on:
        x, y = whole.some(size)
        fitted = make().fit(x, y)
        # Of rows that were learnt from there is no error worth telling.
        error = error if problem.refit else problem.error(fitted, "valid")
        words = f"{words}, chosen on {chosen_on:,} rows"
    if size < n:
        words = f"{words}, fitted to {size:,}"
    return fitted, error, words, size


def _logistic(problem: Problem, key: str = "logistic") -> tuple[Any, float, str, int]:
    from sklearn.linear_model import LogisticRegression

    makers = [(f"C {c:g}", lambda c=c: LogisticRegression(C=c, max_iter=300, tol=1e-3)) for c in (0.01, 0.1, 1.0, 10.0)]
    return _chosen_then_fitted(problem, makers, CHOOSING[key])


def _features(problem: Problem) -> tuple[Any, float, str, int]:
    return _logistic(problem, "features")


def _knn(problem: Problem) -> tuple[Any, float, str, int]:
    from sklearn.neighbors import KNeighborsClassifier

    n = len(problem.y["train"])
    makers = [(f"k {k}", lambda k=k: KNeighborsClassifier(k, algorithm="brute")) for k in (1, 3, 5) if k <= n]
    return _chosen_then_fitted(problem, makers, n)


def _svm(problem: Problem) -> tuple[Any, float, str, int]:
    from sklearn.svm import SVC

    spread = float(problem.x["train"].var()) * problem.x["train"].shape[1]
    base = 1.0 / spread if spread > 0 else 1.0
    makers = [
        (f"C {c:g}, gamma {g:.3g}", lambda c=c, g=g: SVC(C=c, gamma=g, cache_size=1000))
        for c in (1.0, 10.0)
        for g in (0.5 * base, base, 2.0 * base)
    ]
    return _chosen_then_fitted(problem, makers, CHOOSING["svm"], MOST_SVM)


def _mlp(problem: Problem) -> tuple[Any, float, str, int]:
    """Fit scikit-learn's network of the same widths, an epoch at a time; the best epoch on validation rows counts."""
    from sklearn.neural_network import MLPClassifier

    x, y = problem.x["train"], problem.y["train"]
    classes = np.arange(int(max(v.max() for v in problem.y.values())) + 1)

    def fresh(rows: int) -> Any:
        return MLPClassifier(problem.hidden, batch_size=min(100, rows), random_state=problem.seed)

    net = fresh(len(x))
    # Few rows make short epochs: as many steps as two hundred thousand rows give are allowed.
    most = max(_EPOCHS, 200_000 // len(x))
    best, at, kept = np.inf, 0, None
    for epoch in range(1, most + 1):
        net.partial_fit(x, y, classes=classes)
        error = problem.error(net, "valid")
        if error < best:
            best, at, kept = error, epoch, ([w.copy() for w in net.coefs_], [b.copy() for b in net.intercepts_])
        problem.watch(PARTS * epoch / most, valid_error=best)
        if epoch - at >= max(_PATIENCE, most // 20):
            break
    assert kept is not None
    net.coefs_, net.intercepts_ = kept
    words = f"{'-'.join(map(str, problem.hidden))} relu, Adam, epoch {at}"
    if problem.refit:
        whole = problem.all()
        x, y = whole.x["train"], whole.y["train"]
        net = fresh(len(x))
        for epoch in range(1, at + 1):
            net.partial_fit(x, y, classes=classes)
            problem.watch(PARTS * epoch / at, valid_error=best)
    return net, float(best), words, len(x)


#: In the order of the table: how each is called, and how it is fitted.
METHODS: dict[str, tuple[str, Fit]] = {
    "logistic": ("logistic regression", _logistic),
    "knn": ("k nearest neighbours", _knn),
    "svm": ("support vectors (RBF)", _svm),
    "mlp": ("neural net", _mlp),
    "features": ("logistic regression on codes", _features),
}
