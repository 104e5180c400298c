"""Values as a person writes them: a type has a form, a value has a text, and `read` takes the text back.

The types are int, float, bool, str, ``Literal``, ``X | None``, ``tuple[X, ...]`` and ``tuple[tuple[X, ...], ...]``.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

NONE, _EMPTY = "none", "-"
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


class Form(NamedTuple):
    """How a type is told to a person: `short` on the command line, `long` in a sentence."""

    short: str
    long: str


_SCALARS: dict[Any, Form] = {
    int: Form("int", "a whole number"),
    float: Form("float", "a number"),
    bool: Form("bool", "true or false"),
    str: Form("text", "text"),
}


def form(hint: Any) -> Form:
    """Return how a type is told to a person.

    Raises:
        TypeError: for a type that cannot be written down.
    """
    if hint in _SCALARS:
        return _SCALARS[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return Form("|".join(map(str, inner)), "one of " + ", ".join(map(str, inner)))
    if is_union(hint) and len(rest := [a for a in inner if a is not type(None)]) == 1:
        plain = form(rest[0])
        return Form(f"{plain.short}|none", f"{plain.long}, or none")
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return _tuple_form(inner[0])
    raise TypeError(f"{hint!r} is no type of a setting")


def is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _tuple_form(item: Any) -> Form:
    if get_origin(item) is tuple:
        one = form(get_args(item)[0]).short
        return Form(f"{one},.../{one},...", "a list of lists such as 200,200/100,100")
    one = form(item).short
    example = {"int": "100,50", "float": "0.5,0.1"}.get(one, "a,b")
    return Form(f"{one},...", f"a list such as {example}")


def text(value: Any) -> str:
    """Return a value as it is written on the command line; `read` takes it back equal."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        if any(isinstance(item, tuple) for item in value):
            return "/".join(text(item) or _EMPTY for item in value)
        return ",".join(text(item) for item in value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def read(value: Any, hint: Any) -> Any:
    """Return `value` as a `hint`: text as `text` wrote it, or what Python, TOML and JSON make of it.

    Raises:
        ValueError, TypeError, OverflowError: when it is none.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint in _READERS:
        return _READERS[hint](value)
    if origin is Literal:
        return _choose(value, inner)
    if origin is tuple:
        return _read_tuple(value, inner[0])
    if value is None or (isinstance(value, str) and value.strip().lower() == NONE):
        return None
    return read(value, next(part for part in inner if part is not type(None)))


def _choose(value: Any, choices: tuple[Any, ...]) -> Any:
    for same in (lambda c: c == value and type(c) is type(value), lambda c: str(c) == value):
        if found := [choice for choice in choices if same(choice)]:
            return found[0]
    raise ValueError(value)


def item(hint: Any) -> Any:
    """Return the type of a list's items, None of what is no list."""
    return get_args(hint)[0] if get_origin(hint) is tuple else None


def words(value: Any) -> list[str]:
    """Return the items of a list as they were given."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [str(part) for part in value] if isinstance(value, list | tuple) else []


def _read_tuple(value: Any, item: Any) -> tuple[Any, ...]:
    nested = get_origin(item) is tuple
    if isinstance(value, str):
        parts = value.split("/" if nested else ",") if value.strip() else []
        value = ["" if part.strip() == _EMPTY else part for part in parts]
    elif not nested and not hasattr(value, "__iter__"):
        value = [value]
    # A table, or one list where lists of lists are wanted, is a slip that must not be guessed at.
    if hasattr(value, "keys") or (nested and not all(hasattr(part, "__iter__") for part in value)):
        raise TypeError(value)
    return tuple(read(part, item) for part in value)


def _read_int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            value = float(value)
    # A flag is no number, and 2.5 is no count; 1e3 is.
    if isinstance(value, bool) or int(value) != value:
        raise TypeError(value)
    return int(value)


def _read_float(value: Any) -> float:
    if isinstance(value, bool) or not (isinstance(value, str) or hasattr(value, "__float__")):
        raise TypeError(value)
    return float(value)


def _read_bool(value: Any) -> bool:
    word = str(value).strip().lower()
    if not isinstance(value, bool | str) or word not in _TRUE | _FALSE:
        raise TypeError(value)
    return word in _TRUE


def _read_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


_READERS: dict[Any, Callable[[Any], Any]] = {int: _read_int, float: _read_float, bool: _read_bool, str: _read_str}
