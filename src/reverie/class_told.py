"""Which class a model is told: one-hot classes for the rows it draws, and for those that somebody brings."""

from __future__ import annotations

from typing import Any

import numpy as np

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError, an, nearest
from reverie.models import index
from reverie.prob.abilities import Tells
from reverie.trained import Trained


def class_index(data: Dataset, label: str | int) -> int:
    """Return the number of a class given by name or number.

    Raises:
        ReverieError: for a class the data have not.
    """
    names = list(data.class_names or ())
    if str(label) in names:
        return names.index(str(label))
    raise ReverieError(f"class: {label!r} is not one of {', '.join(names) or 'none'}{nearest(str(label), names)}")


def given_of(run: Trained, n: int, label: str | int | None) -> np.ndarray | None:
    """Return one-hot classes for n rows of a class-conditional model (None cycles through them), else None."""
    if not getattr(run.model, "conditional", False):
        if label is not None:
            raise ReverieError(f"class: {run.path.name} is not class-conditional; {_instead(run)}")
        return None
    classes = run.facts.classes
    numbers = np.arange(n) % classes if label is None else np.full(n, class_index(run.facts, label))
    return np.eye(classes, dtype=np.float32)[numbers]


def _instead(run: Trained) -> str:
    """Return what to do about classes that a run was not trained to be told."""
    if not run.facts.classes:
        return "its data have no classes; leave it out"
    if "conditional" in run.record["settings"]:
        return "train with --conditional, or leave it out"
    able = [entry["name"] for entry in index() if "class-conditional" in entry["capabilities"]]
    return f"{an(run.record['model'])} never is ({', '.join(able)} can be, with --conditional); leave it out"


def told_class(run: Trained, n: int, label: str | int | None, verb: str) -> np.ndarray | None:
    """Return one-hot classes for n rows that somebody brings, insisting on `label` for a class-conditional model.

    Raises:
        ReverieError: without a label where one is needed, or with one where there are no classes.
    """
    if label is None and getattr(run.model, "conditional", False):
        names = ", ".join(run.facts.class_names or ())
        raise ReverieError(
            f"class: {run.path.name} is class-conditional, so {verb} must be told the class of the rows; "
            f"give --class (label=), one of {names}"
        )
    return given_of(run, n, label)


def asked_of(run: Trained, label: str | int | None) -> tuple[Any, str | int | None]:
    """Return the model that is asked and the class it must be told: a joint one gives its model of the class's rows."""
    if label is None or not isinstance(run.model, Tells):
        return run.model, label
    return run.model.of_class(class_index(run.facts, label)), None
