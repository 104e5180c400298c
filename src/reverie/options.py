"""Options that several verbs share, and what they do with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from reverie import outputs
from reverie.console import Answer

#: Endings of a file that takes rows of numbers.
TABLES = (".csv", ".npy", ".npz")


def _out(endings: tuple[str, ...]) -> Parameter:
    return Parameter(metavar="FILE", help=f"Where to write: {', '.join(endings)}, by its ending.")


Folder = Annotated[Path, Parameter(name="DIR", help="The run's folder.")]
Model = Annotated[str, Parameter(name="MODEL", help="A name of `reverie models`.")]
Input = Annotated[
    Path,
    Parameter(metavar="FILE", help="Rows as in training: .csv, .npy, .npz, images, or a data set's name (test rows)."),
]
OutRows = Annotated[Path, _out(outputs.ENDINGS)]
OutTable = Annotated[Path, _out(TABLES)]
OutWeights = Annotated[Path, _out((".npz",))]
Seed = Annotated[int, Parameter(help="Of everything random.")]
Class = Annotated[str | None, Parameter(name="--class", metavar="NAME", help="Class (class-conditional models).")]
Device = Annotated[
    str | None, Parameter(metavar="cpu|gpu|cpu:N|all", help="Where to compute [default: the best here].")
]
Minutes = Annotated[float | None, Parameter(help="Stop after so long, saved and resumable.")]


def load(folder: Path) -> Any:
    """Return the run in `folder`."""
    from reverie.train.folder import RunFolder

    # What is no run is refused before jax is imported, which takes longer than reading the line.
    RunFolder(folder).read()
    from reverie.run import load as loaded

    return loaded(folder)


def written(path: Path, **more: Any) -> Answer:
    """Return the answer of a verb whose point is a file."""
    return Answer({"out": path, **more}, [str(path)])
