"""Two uses of a density model: missing cells filled in, and odd rows found."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, OutlierMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from reverie.sklearn.fitting import FLOATS, Fitted, Refused, refusing


class Wrapper(BaseEstimator):
    """An estimator that asks another one, a clone of `estimator`.

    Attributes:
        estimator_: fitted, of these rows.
    """

    estimator: Fitted
    random_state: Any

    def _begin(self, X: Float[np.ndarray, "n D"]) -> None:
        """Fit a clone of the estimator to rows that were looked at here."""
        if not isinstance(self.estimator, Fitted):
            what = type(self.estimator).__name__
            raise Refused(f"estimator: {what} is none of reverie.sklearn; give one, such as VAE()")
        self.estimator_ = clone(self.estimator)
        if self.random_state is not None:
            self.estimator_.set_params(random_state=self.random_state)
        self.estimator_._take(X)

    def _asked(self, X: Any, **how: Any) -> Float[np.ndarray, "n D"]:
        check_is_fitted(self)
        return validate_data(self, X, dtype=FLOATS, reset=False, **how)


class Imputer(OneToOneFeatureMixin, TransformerMixin, Wrapper):
    """Fills in missing cells (NaN) by a model's means of them; what is known comes back as it was given.

    A model learns from rows with missing cells where it can leave them out, as `VAE` and `OrderlessNADE` do; any other
    that imputes must be fitted to whole rows, and says so.

    Args:
        estimator: of a model that imputes.
        iterations: of decoding the model's own guess, or sweeps of an energy.
        random_state: seed of the model and of what is filled in; None for the estimator's own.
    """

    def __init__(self, estimator: Fitted, *, iterations: int = 100, random_state: Any = None) -> None:
        self.estimator = estimator
        self.iterations = iterations
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Imputer:
        """Fit the model to rows (n, D), of which cells may be NaN; `y` is not looked at."""
        self._begin(validate_data(self, X, dtype=FLOATS, ensure_min_samples=3, ensure_all_finite="allow-nan"))
        self._drawn = self.estimator_._seed_of(self.estimator_.random_state)
        return self

    def transform(self, X: Any) -> Float[np.ndarray, "n D"]:
        """Return the rows with no cell missing, as `Run.impute` gives them."""
        rows = self._asked(X, ensure_all_finite="allow-nan")
        if not np.isnan(rows).any():
            return rows.copy()
        with refusing():
            found = self.estimator_.run_.impute(
                self.estimator_._cells(rows), iterations=self.iterations, seed=self._drawn
            )
        return np.where(np.isnan(rows), found.reshape(rows.shape), rows)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class OutlierDetector(OutlierMixin, Wrapper):
    """Finds odd rows: those of the lowest log-likelihood.

    Args:
        estimator: with `score_samples`.
        contamination: share of the training rows that are taken as odd.
        random_state: seed of the model; None for the estimator's own.

    Attributes:
        offset_: the log-likelihood below which a row is odd.
    """

    def __init__(self, estimator: Fitted, *, contamination: float = 0.1, random_state: Any = None) -> None:
        self.estimator = estimator
        self.contamination = contamination
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> OutlierDetector:
        """Fit the model to rows (n, D), and find the limit that `contamination` of them are below."""
        if not 0.0 < self.contamination <= 0.5:
            raise Refused(
                f"contamination: {self.contamination!r} is no share of odd rows; give more than 0, at most 0.5"
            )
        rows = validate_data(self, X, dtype=FLOATS, ensure_min_samples=3)
        self._begin(rows)
        if not hasattr(self.estimator_, "score_samples"):
            raise Refused(f"estimator: {type(self.estimator_).__name__} has no likelihood; give one, such as VAE()")
        self.offset_ = float(np.percentile(self.estimator_.score_samples(rows), 100.0 * self.contamination))
        return self

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return the log-likelihood of each row."""
        rows = self._asked(X)
        return self.estimator_.score_samples(rows)

    def decision_function(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return the log-likelihood of each row above the limit: negative is odd."""
        scores = self.score_samples(X)
        return scores - self.offset_

    def predict(self, X: Any) -> Int[np.ndarray, " n"]:
        """Return -1 for odd rows and 1 for others."""
        return np.where(self.decision_function(X) < 0, -1, 1)
