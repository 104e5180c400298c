"""What all estimators share: rows in, a run of `reverie.train` out, kept in memory and pickled as bytes.

There is no second loop here: `fit` trains as the command line does, in a temporary folder unless it is told another.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from reverie import training
from reverie.data.splits import cut, permutation
from reverie.errors import Interrupted, ReverieError
from reverie.evaluate.log_z import RAISED, countable
from reverie.prob.contracts import Energy
from reverie.run import Run, train
from reverie.sklearn import keeping

#: Types in which rows are taken.
FLOATS = (np.float64, np.float32)


class Refused(ReverieError, ValueError):
    """What reverie refuses, as scikit-learn's callers expect it: a `ValueError`."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn reverie's errors into those that callers of an estimator know."""
    try:
        yield
    except Interrupted:
        # The folder that could be gone on from is a temporary one.
        raise KeyboardInterrupt from None
    except ReverieError as error:
        raise Refused(str(error)) from error


class Fitted(BaseEstimator):
    """An estimator of one model; its classes are made by `making.estimator`.

    Attributes:
        run_: the run of the last `fit`, a `reverie.run.Run`, for all that estimators have no word for.
    """

    _model: ClassVar[str]
    #: Kinds of rows that the model takes, and the recipe's arguments that it is told.
    _kinds: ClassVar[tuple[str, ...]]
    _recipe: ClassVar[dict[str, Any]]

    # Arguments that every estimator has; the recipe's own stand beside them.
    epochs: float | None
    preset: str | tuple[str, ...] | None
    likelihood: str | None
    binarisation: str | None
    binarize: float | str | None
    validation_fraction: float
    refit: bool
    draws: int | None
    random_state: Any
    path: Any

    def fit(self, X: Any, y: Any = None) -> Fitted:
        """Train the model on rows (n, D); `y` is not looked at."""
        return self._take(validate_data(self, X, dtype=FLOATS, ensure_min_samples=3))

    def _take(self, X: Float[np.ndarray, "n D"], codes: np.ndarray | None = None, names: Any = None) -> Fitted:
        """Train on rows that may have missing cells, and their classes where the model tells classes."""
        self._limits = self._cuts(X)
        rows, seed = self._cells(X), self._seed_of(self.random_state)
        arrays = self._arrays(rows, self._places(len(rows), codes, seed), codes, names)
        with refusing():
            place = keeping.new_folder(self.path, self._model)
            try:
                made = train(
                    self._model, arrays, run=place, seed=seed, epochs=self.epochs, preset=self.preset,
                    likelihood=self._law(rows), binarisation=self.binarisation, refit=self.refit,
                    **self._given(len(arrays["train"]) + self.refit * len(arrays["valid"])),
                )  # fmt: skip
                assert isinstance(made, Run)
                self.run_ = made if self.path is not None else keeping.slim(made)
            finally:
                if self.path is None:
                    shutil.rmtree(place.parent, ignore_errors=True)
        # Rows that log Z of an energy is bracketed with, the same whichever rows are scored first.
        self._anchors = arrays["valid"][:RAISED] if isinstance(self.run_.model, Energy) else None
        return self

    def _given(self, rows: int) -> dict[str, Any]:
        """Return the recipe's arguments that are not left at their defaults, and a batch no larger than `rows`."""
        own = {name: getattr(self, name) for name in self._recipe}
        given = {name: value for name, value in own.items() if not _same(value, self._recipe[name])}
        presets = (self.preset,) if isinstance(self.preset, str) else tuple(self.preset or ())
        plan = training.resolve(self._model, given, presets=presets, epochs=self.epochs, rows=rows)
        few = plan.settings.get("batch", 0) > rows
        return {**given, "batch": rows} if few else given

    def _arrays(self, X: np.ndarray, places: dict[str, np.ndarray], codes: Any, names: Any) -> dict[str, Any]:
        """Return the splits as `reverie.train` takes them; nothing is judged here, and no test rows are held out."""
        arrays: dict[str, Any] = {split: X[index] for split, index in places.items()}
        if codes is not None:
            arrays |= {f"{split}_labels": codes[index] for split, index in places.items()}
            arrays["class_names"] = np.asarray([str(name) for name in names])
        columns = getattr(self, "feature_names_in_", None)
        return arrays if columns is None else {**arrays, "columns": np.asarray(columns, str)}

    def _places(self, n: int, codes: np.ndarray | None, seed: int) -> dict[str, np.ndarray]:
        """Return which rows train and which choose."""
        share = self.validation_fraction
        if not 0.0 < share < 1.0:
            raise Refused(f"validation_fraction: {share!r} is no share; give more than 0 and less than 1")
        held = min(max(1, round(share * n)), n - 1)
        order = permutation(n, seed)
        if codes is not None:
            # The first row of each class trains: a class of one row is learnt, not judged by.
            first = np.unique(codes[order], return_index=True)[1]
            order = np.concatenate([order[first], np.delete(order, first)])
            held = max(1, min(held, n - len(first)))
        parts = cut(order, n - held, held)
        return {"train": np.sort(parts["train"]), "valid": parts["valid"], "test": parts["valid"]}

    def _law(self, X: np.ndarray) -> str:
        if self.likelihood is not None:
            return self.likelihood
        binary = self._kinds == ("binary",) or (
            "binary" in self._kinds and bool(np.isin(X[~np.isnan(X)], (0, 1)).all())
        )
        return "bernoulli" if binary else "gaussian"

    def _cuts(self, X: np.ndarray) -> Float[np.ndarray, " D"] | None:
        """Return the limit of each column above which a binary cell is 1; None where cells are taken as they are."""
        if self._kinds != ("binary",) or self.binarize is None:
            return None
        if self.binarize != "mean":
            return np.full(X.shape[1], self.binarize, np.float64)
        there = ~np.isnan(X)
        known = np.where(there, X, 0.0)
        mean = known.sum(axis=0, dtype=np.float64) / np.maximum(there.sum(axis=0), 1)
        low, high = (edge.reduce(X, axis=0) for edge in (np.fmin, np.fmax))
        # A column that never changes is not cut by how its mean was rounded; one of 0 and 1 stays as it is.
        return np.where(np.isin(known, (0, 1)).all(axis=0), 0.5, np.where(low == high, high, mean))

    def _cells(self, X: np.ndarray) -> np.ndarray:
        """Return rows as the model takes them: where its cells are binary, cut."""
        return X if self._limits is None else np.where(np.isnan(X), X, np.greater(X, self._limits))

    def _rows(self, X: Any) -> Float[np.ndarray, "n D"]:
        """Return new rows as the model takes them, insisting on a fitted model and the columns of training."""
        check_is_fitted(self)
        return self._cells(validate_data(self, X, dtype=FLOATS, reset=False))

    def _known_log_z(self) -> None:
        """Bracket log Z of an energy once, with rows of its own, so that no row's score depends on the others."""
        run = self.run_
        if self._anchors is not None and not countable(run.model) and run.log_z() is None:
            run.score(self._anchors, samples=self.draws)

    @staticmethod
    def _seed_of(state: Any) -> int:
        """Return a seed: the number itself, or one drawn from a generator."""
        if isinstance(state, int | np.integer) and not isinstance(state, bool):
            return int(state)
        return int(check_random_state(state).randint(2**31 - 1))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "run_")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        return {**state, "run_": keeping.packed(state["run_"])} if "run_" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "run_" in state:
            state = {**state, "run_": keeping.unpacked(state["run_"])}
        super().__setstate__(state)


def _same(value: Any, default: Any) -> bool:
    """Say whether an argument was left at its default."""
    return value is default or (type(value) is type(default) and value == default)
