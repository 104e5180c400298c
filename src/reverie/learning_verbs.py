"""The verb that looks at how a model learns: `reverie gradients`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from reverie import console, outputs, progress
from reverie.console import Answer
from reverie.options import Folder, Seed, load


def gradients(
    folder: Folder,
    /,
    *,
    k: Annotated[int | None, Parameter(help="Samples a row [default: the run's own, or 5].")] = None,
    rows: Annotated[int, Parameter(help="Rows that a gradient is averaged over.")] = 50,
    draws: Annotated[int, Parameter(help="Gradients of each estimator.")] = 400,
    only: Annotated[
        str | None, Parameter(metavar="'A; B'", help="These estimators, semicolons between [default: all].")
    ] = None,
    split: Annotated[Literal["train", "valid", "test"], Parameter(help="Whose rows.")] = "train",
    out: Annotated[
        Path | None, Parameter(metavar="FILE", help="A picture: .png or .svg [default: DIR/gradients.png].")
    ] = None,
    seed: Seed = 0,
) -> Answer:
    """Compare estimators of a directed model's gradient: noise and bias of each, at the run's weights.

    Both in lengths of the gradient that is estimated, for what generates (P) and what infers (Q).

    Example: reverie gradients runs/helmholtz-digits-1 --k 5
    """
    picture = outputs.Target.check(folder / "gradients.png" if out is None else out, (".png", ".svg")).path
    chosen = tuple(name.strip() for name in (only or "").split(";") if name.strip())
    found = load(folder).gradients(
        k=k, rows=rows, draws=draws, only=chosen, split=split, seed=seed, out=picture, progress=progress.for_stderr()
    )
    lines = [[name, *_told(one["P"]), *_told(one["Q"]), f"{one['ms']:.2f}"] for name, one in found.items()]
    head = ["estimator", "P: of", "noise", "bias", "Q: of", "noise", "bias", "ms"]
    kept = folder / "gradients.json"
    return Answer(
        {"estimators": found, "picture": picture, "kept": kept},
        [console.table(head, lines, right=(2, 3, 5, 6, 7)), _KEY, str(picture)],
    )


_KEY = (
    "noise: standard deviation of one draw, bias: distance of the mean, both in lengths of what is estimated; "
    "'< x': none is shown, and it is at most x (two standard errors)."
)


def _told(one: Any) -> list[str]:
    bias = _short(one.bias) if one.biased else f"< {_short(one.bias_high)}"
    return [one.target, f"{one.noise:.3g}", bias]


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"
