"""The look of every figure: one palette for light and dark, and matplotlib figures as parts of a page.

A figure is drawn once.  Its colours are stand-ins that become CSS variables when it is put into a page, so that the
same drawing follows the reader's light or dark mode.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from reverie.files import write_atomic

P = ParamSpec("P")


class Colour(NamedTuple):
    """A colour of the palette in a light page and in a dark one."""

    light: str
    dark: str


#: Text and lines; then Okabe and Ito's colours for runs; then Tol's muted ones for classes.  Both sets can be told
#: apart with any common colour blindness.
PALETTE: dict[str, Colour] = {
    "ink": Colour("#22262b", "#e8e6e1"),
    "soft": Colour("#5f6670", "#a4a9b0"),
    "rule": Colour("#dedcd6", "#343a41"),
    "run-0": Colour("#0072b2", "#56b4e9"),
    "run-1": Colour("#d55e00", "#f28e4b"),
    "run-2": Colour("#009e73", "#3ecfa3"),
    "run-3": Colour("#cc79a7", "#e3a3c7"),
    "run-4": Colour("#b07c00", "#efb73e"),
    "run-5": Colour("#555555", "#bbbbbb"),
    "class-0": Colour("#332288", "#9a8cf0"),
    "class-1": Colour("#d9a400", "#f0c94a"),
    "class-2": Colour("#117733", "#4dbd68"),
    "class-3": Colour("#cc6677", "#ea8a99"),
    "class-4": Colour("#3f9fd0", "#88ccee"),
    "class-5": Colour("#882255", "#d4588f"),
    "class-6": Colour("#44aa99", "#5fd0bd"),
    "class-7": Colour("#7a7a1f", "#bdbd4d"),
    "class-8": Colour("#aa4499", "#d57fc8"),
    "class-9": Colour("#777777", "#b5b5b5"),
}
#: What stands in a drawing for each colour until it is put into a page.
STAND_INS = {name: f"#fe{i:02x}01" for i, name in enumerate(PALETTE)}
INK, SOFT, RULE = (STAND_INS[name] for name in ("ink", "soft", "rule"))
RUNS = [STAND_INS[f"run-{i}"] for i in range(6)]
CLASSES = [STAND_INS[f"class-{i}"] for i in range(10)]
ACCENT, SECOND = RUNS[0], RUNS[1]
DASHES: list[Any] = ["-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)), (0, (3, 1)), (0, (8, 3))]
MARKERS = "os^DvP*Xph"

_RC: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "figure.facecolor": "none",
    "figure.dpi": 72,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "reverie",
    # A class may be called "$a$": names are never formulas.
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
}


def drawn(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw with the house's style, leaving matplotlib's settings as they were."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_RC):
            return function(*args, **kwargs)

    return inner


def blank(width: float = 380, height: float = 235) -> tuple[Figure, Axes]:
    """Return a figure of one pair of axes, its size in points."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    return figure, figure.add_subplot()


def signed(number: float | None, digits: int = 2, *, plus: bool = False) -> str:
    """Return a number as it is printed, with a real minus sign; a dash where it is not finite."""
    if number is None or not math.isfinite(number):
        return "–"
    return f"{number:{'+' if plus else ''}.{digits}f}".replace("-", "−")


def inline_svg(figure: Figure, alt: str) -> Markup:
    """Return the figure as an `<svg>` element to be put into a page, with `alt` for those who cannot see it."""
    buffer = io.StringIO()
    with mpl.rc_context(_RC), warnings.catch_warnings():
        # Letters that matplotlib's own font lacks are set by the reader's browser.
        warnings.filterwarnings("ignore", message=".*missing from.*font.*")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = _own_ids(re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)).replace("xlink:href", "href")
    for name, colour in STAND_INS.items():
        body = re.sub(rf"((?:fill|stroke|stop-color): ?){colour}", rf"\1var(--{name})", body)
    # The page's own typeface, whatever the drawing measured with; only the sizes are kept.
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    width, height = figure.get_size_inches() * 72
    size = f'viewBox="0 0 {width:g} {height:g}" style="max-width: {1.45 * width:.0f}px"'
    head = f'<svg role="img" aria-label="{escape(alt)}" {size}>'
    return Markup(head + body)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure that stands alone, on white in the light palette: .png or .svg, by its ending."""
    for artist in figure.findobj():
        for part in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            if not hasattr(artist, f"get_{part}") or not hasattr(artist, f"set_{part}"):
                continue
            if (name := _stood_for(getattr(artist, f"get_{part}")())) is not None:
                getattr(artist, f"set_{part}")(PALETTE[name].light)
    buffer = io.BytesIO()
    # Letters that the font has not are drawn as boxes, and need no two lines of warning each.
    with mpl.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        how: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 160}
        figure.savefig(buffer, format=path.suffix[1:], facecolor="white", **how)
    write_atomic(path, buffer.getvalue())
    return path


def _stood_for(colour: Any) -> str | None:
    """Return the name of the palette's colour that a stand-in stands for, None for any other colour."""
    try:
        return next((name for name, own in STAND_INS.items() if to_hex(colour) == own), None)
    except (TypeError, ValueError):
        # Many colours at once, or none.
        return None


def _own_ids(body: str) -> str:
    """Prefix every id by the drawing's hash, so that two drawings in one page do not share clips and markers."""
    own = "g" + hashlib.sha256(body.encode()).hexdigest()[:8]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{own}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{own}-\1)", body)
    return re.sub(r'href="#([^"]+)"', rf'href="#{own}-\1"', body)


def css_variables(dark: bool) -> str:
    """Return the palette as declarations of CSS variables."""
    return " ".join(f"--{name}: {colour.dark if dark else colour.light};" for name, colour in PALETTE.items())
