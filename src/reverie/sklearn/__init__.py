"""scikit-learn estimators: a class for every model that takes tables of numbers, and an imputer and outlier detector.

Each class is made from its model's recipe when it is first asked for, so that a new model has one by itself:
``from reverie.sklearn import VAE``.  See docs/sklearn.md.
"""

from __future__ import annotations

from typing import Any

from reverie.errors import nearest
from reverie.models import index

_WRAPPERS = ("Imputer", "OutlierDetector")


def _models() -> dict[str, str]:
    """Return which model each estimator is of; those of documents and of images alone have none."""
    return {item["class"]: item["name"] for item in index() if {"binary", "real"} & set(item["rows"])}


__all__ = [*_models(), *_WRAPPERS]


def __getattr__(name: str) -> Any:
    if name in _WRAPPERS:
        from reverie.sklearn import wrapped as home

        made = getattr(home, name)
    elif name in (known := _models()):
        from reverie.sklearn.making import estimator

        made = estimator(name, known[name], __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no estimator {name!r}{nearest(name, __all__)}")
    # One class for good: what is pickled is found again under its name.
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted(__all__)
