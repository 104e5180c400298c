"""A model's estimator, made from its recipe: the arguments, their defaults and what they are, and what it can do."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from reverie import models, settings
from reverie.prob.abilities import Encodes, Reconstructs, Tells
from reverie.prob.contracts import Classifying, Energy, Explicit, Implicit, Judged, Latent
from reverie.sklearn import abilities
from reverie.sklearn.fitting import Fitted

#: Arguments of all estimators: default and what it is.
COMMON: dict[str, tuple[Any, str]] = {
    "epochs": (None, "passes over the training rows; None for the preset's."),
    "preset": (None, "names of the model's presets, for arguments that are left at their defaults."),
    "likelihood": (None, "law of the rows; None for bernoulli where all cells are 0 or 1, gaussian elsewhere."),
    "binarisation": (None, "of grey rows under a bernoulli law (docs/data.md)."),
    "binarize": ("mean", "models of binary cells: a cell is 1 above its column's mean in training, or above a number; "
                         "columns of 0 and 1 stay as they are; None: rows are 0 and 1, or grey, as they are."),
    "validation_fraction": (0.1, "share of the rows held out to choose the weights that count, by `random_state`."),
    "refit": (False, "let those rows train too, and choose nothing."),
    "draws": (None, "a row, of `score_samples`; None for as many as `reverie score` takes."),
    "random_state": (None, "seed of all that is random; None for another each time."),
    "path": (None, "folder in which each `fit` leaves its run; None to leave none."),
}  # fmt: skip
#: Class-conditional models are asked per class, which estimators have no word for.
_LEFT = ("conditional",)


def estimator(name: str, model: str, home: str) -> type[Fitted]:
    """Return the estimator class `name` of a model, as a name of the module `home`."""
    module = models.load_module(model)
    built, helps = models.model_class(model), settings.argument_helps(module.recipe.__doc__)
    recipe = {key: _default(value) for key, (_, value) in settings.keywords(module.recipe).items() if key not in _LEFT}
    recipe |= {key: value for key, value in module.PRESETS["fast"].items() if key in recipe}
    if common := sorted(recipe.keys() & COMMON.keys()):
        raise TypeError(f"{model}: {common} are arguments of every estimator; rename them")
    defaults = {**recipe, **{key: value for key, (value, _) in COMMON.items()}}
    helps |= {key: text for key, (_, text) in COMMON.items()}
    bases = (*_able(built), Fitted)
    if clash := sorted(key for key in recipe if any(hasattr(base, key) for base in bases)):
        raise TypeError(f"{model}: {clash} are methods of its estimator; rename these arguments")
    own = {
        "__init__": _constructor(defaults), "__module__": home, "__qualname__": name, "_model": model,
        "_kinds": models.rows(model), "_recipe": recipe, "__doc__": _page(module, defaults, helps),
    }  # fmt: skip
    return type(name, bases, own)


def _able(built: type) -> tuple[type, ...]:
    """Return what the estimator of a model class can do."""
    tells = issubclass(built, Classifying | Tells)
    codes = issubclass(built, Encodes) and not issubclass(built, Classifying)
    has = {
        abilities.Classifies: tells,
        abilities.Transforms: codes,
        abilities.Decodes: codes and hasattr(built, "decode"),
        abilities.Scores: issubclass(built, Latent | Energy | Explicit),
        abilities.Samples: issubclass(built, Latent | Energy | Explicit | Implicit),
        abilities.Rebuilds: issubclass(built, Judged) and issubclass(built, Reconstructs),
    }
    return tuple(ability for ability, able in has.items() if able)


def _default(value: Any) -> Any:
    """Return a default as scikit-learn wants it: None for a record, which stands for the recipe's own."""
    return None if dataclasses.is_dataclass(value) else value


def _constructor(defaults: dict[str, Any]) -> Callable[..., None]:
    """Return an `__init__` that stores its arguments and does nothing else."""
    named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=v) for name, v in defaults.items()]
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.Signature([first, *named])

    def __init__(self: Any, *args: Any, **given: Any) -> None:  # noqa: N807
        signature.bind(self, *args, **given)
        for name, default in defaults.items():
            setattr(self, name, given.get(name, default))

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def _page(module: Any, defaults: dict[str, Any], helps: dict[str, str]) -> str:
    """Return the docstring: what the model is, and its arguments."""
    title = (module.__doc__ or "").strip().splitlines()[0]
    lines = [f"        {name}: {helps.get(name, '')}" for name in defaults]
    return "\n".join([title, "", f"    The theory is the page of `{module.__name__}`.", "", "    Args:", *lines, ""])
