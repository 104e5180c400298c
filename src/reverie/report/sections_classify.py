"""The section on classes: what the network and its baselines reach, who is taken for whom, and the surest mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reverie.errors import ReverieError
from reverie.files import read_json
from reverie.report import blocks
from reverie.report.blocks import Block, Section
from reverie.report.reading import RunView
from reverie.report.style import INK, RULE, SECOND, blank, drawn

FILE = "classification.json"
#: The order of a table: networks first, then what they are set beside.
_ORDER = ("fine-tuned", "classifier", "from-scratch", "mlp", "svm", "knn", "logistic", "features")
#: From so many classes on the cells are too small for numbers.
_NUMBERED = 16


def in_order(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of methods in the table's order, seeds by number."""
    place = lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER)  # noqa: E731
    return sorted(results, key=lambda one: (place(_kind(one["method"])), one.get("seed") or 0, one["method"]))


def seeds_of(results: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the records of networks that were trained with several seeds, by what they are called."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in results:
        if "/seed-" in one["method"]:
            found.setdefault(one["title"], []).append(one)
    return found


def _kind(method: str) -> str:
    return method.split("/", 1)[0]


def classify(run: RunView) -> Section | None:
    """Return the section, None where `reverie classify` has not been run."""
    tables = _tables(run)
    if not tables:
        return None
    lead = "The stack's features as a network that was taught the classes; each method saw the same rows."
    section = Section("classes", "Classes told apart", lead)
    for name, table in tables.items():
        section.add(_table(name, table))
    arrays = run.arrays("classification")
    if "confusion" in arrays:
        section.add(_confusion(arrays, tables), _mistakes(run, arrays, tables))
    return section


def _tables(run: RunView) -> dict[str, Any]:
    tables = (read_json(run.path / FILE) or {}).get("tables", {})
    if not isinstance(tables, Mapping) or not all(isinstance(t, Mapping) and "results" in t for t in tables.values()):
        raise ReverieError(f"{run.path / FILE}: damaged; delete it and run `reverie classify {run.path}` again")
    return {name: table for name, table in tables.items() if table["results"]}


def _table(name: str, table: Mapping[str, Any]) -> Block:
    results = in_order([{"method": method, **one} for method, one in table["results"].items()])
    best = min(one["test"]["value"] for one in results)
    rows = []
    for one in results:
        value = one["test"]["value"]
        shown = Markup("<b>{}</b>" if value == best else "{}").format(blocks.data(100 * value))
        interval = Markup("{} to {}").format(blocks.data(100 * one["low"]), blocks.data(100 * one["high"]))
        seed = f", seed {one['seed']}" if one.get("seed") else ""
        rows.append([one["title"], f"{one['chosen']}{seed}", shown, interval, blocks.data(one["seconds"], 1)])
    learnt = table["rows"]["train"] if table.get("labels") is None else table["labels"]
    caption = f"{name}: learnt from {learnt:,} labelled rows, {table['rows']['test']:,} test rows. Settings were "
    caption += "chosen on validation rows, intervals are Wilson's."
    head = ["method", "chosen", "test error, %", "95 % interval", "seconds"]
    return blocks.table(head, rows, caption, numeric=(2, 3, 4))


def _names(arrays: Mapping[str, np.ndarray], tables: Mapping[str, Any]) -> list[str]:
    table = tables.get(str(arrays["table"]), {})
    count = len(arrays["confusion"])
    names = [str(name) for name in table.get("class_names", [])]
    return names if len(names) == count else [str(i) for i in range(count)]


def _confusion(arrays: Mapping[str, np.ndarray], tables: Mapping[str, Any]) -> Block:
    table, names = arrays["confusion"], _names(arrays, tables)
    wrong = int(table.sum() - np.trace(table))
    return blocks.figure(
        confusion_picture(table, names),
        f"Who is taken for whom: {wrong} of {int(table.sum())} test rows are told wrongly",
        "Test rows of each class (down) and what they were told to be (across). Shade: share of the class.",
    )


@drawn
def confusion_picture(table: Int[np.ndarray, "C C"], names: Sequence[str]) -> Figure:
    """Draw which class was told to be which; what is right is left pale, so that mistakes stand out."""
    count = len(names)
    figure, axes = blank(420, 400)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    off = np.where(np.eye(count, dtype=bool), 0.0, share)
    for row, column in np.argwhere(off > 0):
        shade = 0.15 + 0.6 * float(off[row, column] / off.max())
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=SECOND, alpha=shade, linewidth=0))
    for i in range(count):
        axes.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor=RULE, linewidth=0))
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal")
    ticks = np.arange(count) if count <= 40 else np.linspace(0, count - 1, 20).astype(int)
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(ticks, [names[i] for i in ticks])
    axes.grid(False)
    for row, column in np.argwhere(table > 0) if count <= _NUMBERED else ():
        weight = "normal" if row == column else "bold"
        said = str(table[row, column])
        axes.text(column, row, said, ha="center", va="center", color=INK, fontsize=7, fontweight=weight)
    axes.set(xlabel="told to be", ylabel="is")
    return figure


def _mistakes(run: RunView, arrays: Mapping[str, np.ndarray], tables: Mapping[str, Any]) -> Block | None:
    images = run.pictures("classification", "mistakes")
    if images is None or len(run.shape) == 1:
        return None
    names = _names(arrays, tables)
    words = [
        f"{names[truth]} as {names[said]} ({sure:.0%})"
        for truth, said, sure in zip(arrays["truth"], arrays["said"], arrays["sure"], strict=True)
    ]
    caption = "The surest mistakes, row by row (how sure): " + ", ".join(words) + "."
    return blocks.picture(images, f"{len(images)} test rows told wrongly", caption, columns=4, width=260)
