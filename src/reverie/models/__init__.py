"""The models: found by their files, never registered.

A file ``models/<family>/<name>.py`` without a leading underscore is a model.  Its `recipe` says what can be set, its
class what it can do; `index.json` holds both for those who only want to read, without importing jax.
"""

from __future__ import annotations

import importlib
import json
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

from reverie import settings, values
from reverie.errors import ReverieError, an, nearest

_HERE = Path(__file__).parent
INDEX = _HERE / "index.json"


def discover() -> list[str]:
    """Return the names of all models, in alphabetical order."""
    return sorted(_modules())


def module_name(name: str) -> str:
    """Return the module of the model called `name`, without importing it.

    Raises:
        ReverieError: naming the nearest model.
    """
    found = _modules()
    if name not in found:
        raise ReverieError(f"model: there is no {name!r}{nearest(name, found)} (see `reverie models`)")
    return found[name]


def load_module(name: str) -> ModuleType:
    """Return the module of the model called `name`: its `recipe`, `PAPER`, `CLAIMS`, `PRESETS` and `TINY`.

    Raises:
        ReverieError: naming the nearest model.
    """
    return importlib.import_module(module_name(name))


def model_class(name: str) -> type:
    """Return the class that the model's recipe builds, from its return annotation."""
    returned = typing.get_type_hints(load_module(name).recipe)["return"]
    return typing.get_args(returned)[0]


def class_name(name: str) -> str:
    """Return the model's name as a class is called: as its own class spells it, or in capitals (one of another's)."""
    own = model_class(name).__name__
    return own if own.lower() == name.replace("-", "") else name.replace("-", "").upper()


def capabilities(name: str) -> list[str]:
    """Return what the model can do: ``likelihood``, ``sample``, ``encode``, ``impute``, ``memory``, ``ask``,
    ``classify`` (from its stack of features), ``class-conditional``."""
    from reverie.prob.abilities import Completes, Encodes, OfWords, Reconstructs, Remembers, Stacks, Writes
    from reverie.prob.contracts import Energy, Explicit, Implicit, Latent
    from reverie.prob.replying import Replying

    built = model_class(name)
    contracts: dict[str, Any] = {
        "likelihood": (Latent, Energy, Explicit),
        "sample": (Latent, Energy, Explicit, Implicit),
        "encode": Encodes,
        "impute": (Reconstructs, Completes),
        "memory": (Remembers, Writes, Replying),
        "ask": Replying,
        "classify": Stacks,
        "topics": OfWords,
        "retrieve": OfWords,
    }
    able = [verb for verb, contract in contracts.items() if issubclass(built, contract)]
    return able + ["class-conditional"] * ("conditional" in settings.describe(load_module(name).recipe))


def takes_mixed(name: str) -> bool:
    """Say whether a model takes tables whose columns are numbers and categories (its class says ``mixed``)."""
    return bool(getattr(model_class(name), "mixed", False))


def rows(name: str) -> tuple[str, ...]:
    """Return the kinds of rows that the model takes: ``binary`` and ``real`` of a table, ``counts``, ``images``,
    ``sequences``, ``stories``."""
    return tuple(getattr(load_module(name), "ROWS", ("binary", "real")))


def require_kind(name: str, data: Any) -> None:
    """Refuse rows to a model that answers sequences or questions, and what is to be answered to a model of rows.

    Raises:
        ReverieError: naming what to give, or what to train instead.
    """
    wants, has = _answers(name), data.likelihood if data.likelihood in _ANSWERED else ""
    if wants == has or (wants, has) == ("stories", "words"):
        return
    if wants:
        what, _, give = _ANSWERED[wants]
        these = _ANSWERED[has][1] if has else "rows"
        raise ReverieError(f"{data.source}: {an(name)} answers {what}, and these are {these}; give {give}")
    able = ", ".join(other for other in discover() if _answers(other) == has.replace("words", "stories"))
    raise ReverieError(f"{data.source}: has {_ANSWERED[has][1]}, and {an(name)} models rows; use {able}")


#: By the law of what is to be answered: what a model of it answers, what such data are, and what to give it.
_ANSWERED = {
    "sequences": (
        "sequences", "sequences to be answered",
        "copy or another task of `reverie data`, or a .jsonl of inputs and answers",
    ),
    "stories": (
        "questions about stories", "stories with questions",
        "babi:1 or another task, a file of stories (numbered lines, a tabulator before each answer), or running text "
        "with --likelihood words",
    ),
    "words": ("questions about stories", "running text", ""),
}  # fmt: skip


def _answers(name: str) -> str:
    """Return the law of what a model answers, "" of a model of rows."""
    from reverie.prob.answering import Answering
    from reverie.prob.replying import Replying

    built = model_class(name)
    return "sequences" if issubclass(built, Answering) else "stories" if issubclass(built, Replying) else ""


def entry(name: str) -> dict[str, Any]:
    """Return what the index says of one model."""
    module = load_module(name)
    return {
        "name": name,
        "module": module.__name__,
        "class": class_name(name),
        "family": module.__name__.split(".")[-2],
        "title": (module.__doc__ or "").strip().splitlines()[0].rstrip("."),
        "paper": f"{module.PAPER.authors}, {module.PAPER.title}, {module.PAPER.venue} {module.PAPER.year}",
        "year": module.PAPER.year,
        "rows": list(rows(name)),
        "capabilities": capabilities(name),
        "presets": list(module.PRESETS),
        "arguments": [
            {"name": s.name, "type": s.form, "default": values.text(s.default), "help": s.help}
            for s in settings.describe(module.recipe).values()
        ],
    }


def index() -> list[dict[str, Any]]:
    """Return the entries of all models: from `index.json`, and read anew for a model that it has not yet."""
    try:
        known = {item["name"]: item for item in json.loads(INDEX.read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError):
        known = {}
    return [known.get(name) or entry(name) for name in discover()]


def index_text() -> str:
    """Return what `index.json` should hold."""
    return json.dumps([entry(name) for name in discover()], indent=1) + "\n"


def write_index(path: Path = INDEX) -> Path:
    """Write the index of models (`python -m reverie.models`)."""
    path.write_text(index_text(), encoding="utf-8")
    return path


def _modules() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(_HERE.glob("*/*.py")):
        if path.stem.startswith("_") or path.parent.name.startswith("_"):
            continue
        name = path.stem.replace("_", "-")
        if name in found:
            raise ReverieError(f"{path.name}: two families have a model called {name}; rename one")
        found[name] = f"{__name__}.{path.parent.name}.{path.stem}"
    return found
