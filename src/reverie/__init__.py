"""reverie: deep generative models on your own data, with likelihoods you can trust.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType

from reverie.errors import Interrupted, NonFinite, ReverieError

# `typing` is not imported for this, nor anything else that takes time: see `stopping`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from reverie.demo import demo
    from reverie.estimate import Estimate
    from reverie.run import Run, compare, load, train

__version__ = "0.1.0"

_LAZY = {
    "Estimate": "reverie.estimate",
    "Run": "reverie.run",
    "compare": "reverie.run",
    "demo": "reverie.demo",
    "load": "reverie.run",
    "train": "reverie.run",
}

__all__ = ["Estimate", "Interrupted", "NonFinite", "ReverieError", "Run", "compare", "demo", "load", "train"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'reverie' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


class _Package(ModuleType):
    """The package, in which a verb keeps its name though a folder or file (`train/`, `demo.py`) has it too."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing reverie.train.engine binds the folder here; reverie.train(...) would then fail, from the second on.
        if not (name in _LAZY and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
