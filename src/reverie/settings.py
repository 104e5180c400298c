"""Settings: a function's keyword arguments are its configuration, on the command line, in TOML, in JSON, in Python.

`describe` reads them from the signature and the docstring's ``Args:`` section; `bind` takes what somebody gave, in
whatever form, and returns the arguments to call the function with.  What can be set has one of the types of
`values`, or is a frozen dataclass of such, whose fields are dotted: ``adam.epsilon``.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from reverie import values
from reverie.errors import ReverieError, nearest

#: The verbs of the command line, in the order in which `reverie --help` tells them.
VERBS = (
    "demo", "models", "data", "runs", "train", "resume", "evaluate", "sample", "impute", "reconstruct", "encode",
    "score", "ask", "memory", "gradients", "classify", "topics", "retrieve", "report", "compare", "table", "export",
    "cite",
)  # fmt: skip
#: What `reverie train` takes besides the arguments of the model's recipe.
TRAIN_OPTIONS = (
    "model", "data", "task", "run", "seed", "seeds", "epochs", "steps", "minutes", "config", "preset", "device",
    "init_from", "binarisation", "split_rule", "likelihood", "data_seed", "refit", "categories", "drop", "json", "help",
    "progress",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One thing that can be set.

    Attributes:
        name: as in Python, with dots for the field of a dataclass: ``valid_every``, ``adam.epsilon``.
        type: its annotation, resolved.
        default: its value when nobody says otherwise.
        help: what it is, from the docstring.
    """

    name: str
    type: Any
    default: Any
    help: str

    @property
    def flag(self) -> str:
        """The option on the command line: ``--valid-every``."""
        return "--" + self.name.replace("_", "-")

    @property
    def form(self) -> str:
        """The type as a person writes it: ``int``, ``tanh|relu``, ``int,...``."""
        return values.form(self.type).short


def reserved() -> frozenset[str]:
    """Return the names that no recipe's argument may have: the verbs, and the options of `train`."""
    return frozenset(VERBS) | frozenset(TRAIN_OPTIONS)


def describe(fn: Callable[..., Any]) -> dict[str, Setting]:
    """Return what can be set of `fn`, by dotted name, in the signature's order.

    Raises:
        TypeError: when an argument has no default, or a type that cannot be written down (a mistake in the code).
    """
    helps = argument_helps(fn.__doc__)
    found: dict[str, Setting] = {}
    for name, (hint, default) in keywords(fn).items():
        found.update((leaf.name, leaf) for leaf in _leaves(name, hint, default, helps.get(name, "")))
    return found


def bind(fn: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every keyword argument of `fn`: its default, or what was given, as the type it should have.

    Args:
        fn: a function whose keyword-only arguments all have defaults.
        given: by name, in Python's spelling or with dashes, dotted or nested for dataclasses; values are Python's, or
            text as on the command line, or what TOML and JSON make of them.

    Raises:
        ReverieError: naming an unknown argument and the nearest valid one, or an argument, its value and what it wants.
    """
    known = keywords(fn)
    asked = merge({}, given)
    for name in asked:
        if name not in known:
            raise _unknown(name, known)
    return {
        name: _convert(name, asked[name], hint, default) if name in asked else default
        for name, (hint, default) in known.items()
    }


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid upon it: tables are merged key by key, except that an empty one starts afresh.

    Keys come out in Python's spelling (``valid-every`` is ``valid_every``) and nested (``adam.epsilon`` in ``adam``).
    """
    result = dict(base)
    for key, value in over.items():
        head, _, rest = str(key).replace("-", "_").partition(".")
        new, old = {rest: value} if rest else value, result.get(head)
        if dataclasses.is_dataclass(old) and not isinstance(old, type):
            old = {f.name: getattr(old, f.name) for f in dataclasses.fields(old)}
        if isinstance(new, Mapping):
            new = merge(old if isinstance(old, Mapping) and new else {}, new)
        result[head] = new
    return result


def to_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as plain JSON values; `bind` reads them back equal."""
    return {name: _plain(value) for name, value in settings.items()}


def from_json(record: Any) -> dict[str, Any]:
    """Return settings as `bind` takes them from what `to_json` gave, perhaps by way of a file.

    Raises:
        ReverieError: when it is no table of settings.
    """
    if not isinstance(record, Mapping):
        raise ReverieError(f"settings: {record!r} is no table of names and values; put a copy of the file back")
    return merge({}, record)


def argument_helps(doc: str | None) -> dict[str, str]:
    """Return the texts of a docstring's ``Args:`` (or ``Attributes:``) section by argument."""
    lines = inspect.cleandoc(doc or "").splitlines()
    start = next((i for i, line in enumerate(lines) if line in ("Args:", "Attributes:")), len(lines))
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines[start + 1 :]:
        if line and not line.startswith(" "):
            break
        if entry := re.match(r" {4}(\w[\w, ]*):\s*(.*)", line):
            names = [name.strip() for name in entry[1].split(",")]
            found.update(dict.fromkeys(names, entry[2]))
        elif line.strip():
            found.update({name: f"{found[name]} {line.strip()}".strip() for name in names})
    return found


def keywords(fn: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return type and default of the keyword-only arguments."""
    hints = typing.get_type_hints(fn)
    found = {}
    for name, parameter in inspect.signature(fn).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if parameter.default is parameter.empty or name not in hints:
            raise TypeError(f"{fn.__module__}.{fn.__qualname__}: {name} needs a type and a default")
        found[name] = (hints[name], parameter.default)
    return found


def _leaves(name: str, hint: Any, default: Any, help_: str) -> Iterator[Setting]:
    if (stage := _stage_of(hint)) is None:
        values.form(hint)  # a type that nobody could write down is refused as soon as somebody looks
        yield Setting(name, hint, default, help_)
        return
    helps, hints = argument_helps(stage.__doc__), typing.get_type_hints(stage)
    start = stage() if default is None else default
    for field in dataclasses.fields(stage):
        own = helps.get(field.name, help_)
        yield from _leaves(f"{name}.{field.name}", hints[field.name], getattr(start, field.name), own)


def _stage_of(hint: Any) -> Any:
    """Return the dataclass that a type is, or is besides None."""
    for part in (hint, *(get_args(hint) if values.is_union(hint) else ())):
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return part
    return None


def _convert(name: str, value: Any, hint: Any, default: Any) -> Any:
    if (stage := _stage_of(hint)) is not None:
        return _convert_stage(name, value, stage, hint, default)
    try:
        return values.read(value, hint)
    except (ValueError, TypeError, OverflowError):
        hopeful = nearest(str(value), map(str, get_args(hint))) if get_origin(hint) is Literal else ""
        if (item := values.item(hint)) is not None and get_origin(item) is Literal:
            # Of a list of names the one that is none is told.
            for word in values.words(value):
                _convert(name, word, item, None)
        raise ReverieError(f"{name}: {value!r} is not {values.form(hint).long}{hopeful}") from None


def _convert_stage(name: str, value: Any, stage: Any, hint: Any, default: Any) -> Any:
    """Return a dataclass from its fields by name; those left out are the default's."""
    if isinstance(value, stage):
        return value
    if hint is not stage and (value is None or value == values.NONE):
        return None
    hints = typing.get_type_hints(stage)
    if not isinstance(value, Mapping):
        raise ReverieError(f"{name}: {value!r} is no table; set {', '.join(f'{name}.{field}' for field in hints)}")
    start = stage() if default is None else default
    for field in value:
        if field not in hints:
            raise _unknown(f"{name}.{field}", [f"{name}.{known}" for known in hints])
    new = {field: _convert(f"{name}.{field}", v, hints[field], getattr(start, field)) for field, v in value.items()}
    return dataclasses.replace(start, **new)


def _unknown(name: str, known: Iterable[str]) -> ReverieError:
    hopeful = nearest(name, known) or f"; there is {', '.join(known) or 'none'}"
    return ReverieError(f"{name}: no such argument{hopeful}")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # JSON has no infinity; its text is read back as the number.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
