"""scikit-learn's own checks of estimators: none is expected to fail, and none is skipped but by scikit-learn itself.

One estimator for each contract of models here; `make check-estimators` (REVERIE_ESTIMATORS=all) takes every one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from reverie import models
from reverie import sklearn as house

#: One of each contract (`Latent`, `Energy`, `Explicit`, `Judged`, `Classifying`), as small as can be.  The VAE has a
#: hidden layer: with none, scales are exponentials of cells, and of every hundred seeds two have no finite gradient.
FEW: dict[str, dict[str, Any]] = {
    "VAE": {"latent": (1,), "hidden": ((2,),), "epochs": 1, "valid_samples": 2, "draws": 2},
    "RBM": {"hidden": 2, "epochs": 1},
    "MADE": {"hidden": (2,), "components": 1, "epochs": 1},
    "Autoencoder": {"code": 1, "epochs": 1},
    "Classifier": {"hidden": (8,), "batch": 20, "rate": 0.02, "epochs": 15},
}


def tiny(name: str) -> Any:
    """Return the estimator of a model with the arguments that its file trains in a second with."""
    made = getattr(house, name)
    own = {key: value for key, value in models.load_module(made._model).TINY.items() if key in made._recipe}
    # What tells classes is asked to tell them well; to the others one epoch is as good as many.
    how = {"epochs": 200, "batch": 20} if hasattr(made, "predict") else {"epochs": 1}
    return made(**{**own, **how}, draws=2, random_state=0)


def estimators() -> list[Any]:
    """Return which estimators are checked, each with a seed: with none, every run would check something else."""
    if os.environ.get("REVERIE_ESTIMATORS") != "all":
        return [getattr(house, name)(**how, random_state=0) for name, how in FEW.items()]
    plain = [name for name in house.__all__ if name not in ("Imputer", "OutlierDetector")]
    inner = house.VAE(**FEW["VAE"], random_state=0)
    return [*map(tiny, plain), house.Imputer(inner), house.OutlierDetector(inner)]


@parametrize_with_checks(estimators())
def test_scikit_learn_finds_no_fault(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def test_a_fault_would_be_found() -> None:
    """A mutant: an estimator whose scores depend on which rows come together."""
    from sklearn.utils.estimator_checks import check_methods_subset_invariance

    class Relative(house.MADE):
        def score_samples(self, X: Any) -> Any:
            found = super().score_samples(X)
            return found - found.mean()

    with pytest.raises(AssertionError, match="score_samples"):
        check_methods_subset_invariance("Relative", Relative(**FEW["MADE"]))
