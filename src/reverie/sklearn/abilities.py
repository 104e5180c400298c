"""What estimators can do besides `fit`, one class an ability: a model's estimator has those that the model has."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from reverie import asking
from reverie.evaluate import classification, measure
from reverie.evaluate.mapped import over_rows
from reverie.evaluate.task import Telling
from reverie.prob.abilities import Tells
from reverie.sklearn.fitting import FLOATS, Fitted, Refused, refusing


class Scores(Fitted):
    """Has a likelihood."""

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        r"""Return :math:`\log p(x)` of each row in nats, in the file's own units, as `Run.score` tells it.

        A row's depends on nothing but the row and `draws`.  Of an energy whose states are too many to count, the first
        call anneals log Z, and the estimator keeps it.
        """
        rows = self._rows(X)
        with refusing():
            self._known_log_z()
            return self.run_.score(rows, samples=self.draws).values

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`."""
        return float(self.score_samples(X).mean())


class Samples(Fitted):
    """Draws rows."""

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Float[np.ndarray, "n D"]:
        """Draw rows in the file's own units, shape (n_samples, D); `random_state`: the estimator's own without."""
        check_is_fitted(self)
        if n_samples < 1:
            raise Refused(f"n_samples: {n_samples} is no number of rows; give 1 or more")
        seed = self._seed_of(self.random_state if random_state is None else random_state)
        with refusing():
            return self.run_.sample(n_samples, seed=seed).reshape(n_samples, -1)


class Transforms(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Fitted):
    """Gives rows codes."""

    def transform(self, X: Any) -> Float[np.ndarray, "n d"]:
        """Return the code of each row, as `Run.encode` gives it."""
        rows = self._rows(X)
        with refusing():
            return self.run_.encode(rows)

    @property
    def _n_features_out(self) -> int:
        row = jax.ShapeDtypeStruct((self.n_features_in_,), jnp.float32)
        return int(eqx.filter_eval_shape(lambda model, x: model.encode(x), self.run_.model, row).shape[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Codes are in single precision, as models are.
        tags.transformer_tags.preserves_dtype = []
        return tags


class Decodes(Fitted):
    """Gives codes rows."""

    def inverse_transform(self, X: Any) -> Float[np.ndarray, "n D"]:
        """Return the rows that codes stand for, in the file's own units."""
        check_is_fitted(self)
        codes = check_array(X, dtype=np.float32)
        with refusing():
            return asking.shaped(self.run_.facts, over_rows(_decoded, self.run_.model, codes)).reshape(len(codes), -1)


def _decoded(model: Any, key: Any, code: Any, given: Any) -> Any:
    return model.decode(code)


class Rebuilds(Fitted):
    """Is judged by how rows come back."""

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the mean squared error of a row given back, in the model's units: more is better."""
        rows = self._rows(X)
        with refusing():
            return -float(self.run_.reconstruction_errors(rows).mean())


class Classifies(ClassifierMixin, Fitted):
    """Tells classes.

    Attributes:
        classes_: in the order of `predict_proba`'s columns.
    """

    def fit(self, X: Any, y: Any) -> Fitted:  # type: ignore[override]
        """Train the model on rows (n, D) and the class of each."""
        X, y = validate_data(self, X, y, dtype=FLOATS, ensure_min_samples=3)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise Refused(f"y: has one class, {self.classes_[0]}; give rows of two or more classes")
        return self._take(X, codes, self.classes_)

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n C"]:
        """Return p(class | row), classes in the order of `classes_`."""
        rows = self._rows(X)
        with refusing():
            model, facts = self.run_.model, self.run_.facts
            seen = measure.view(facts, asking.new_rows(self.run_, rows))
            found = classification.probabilities(Telling(model) if isinstance(model, Tells) else model, seen)
        p = found.astype(np.float64)
        return p / p.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> Shaped[np.ndarray, " n"]:
        """Return the likeliest class of each row."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]
