"""The section on sample health: what was found, samples beside the nearest training rows, distances and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from reverie.estimate import Estimate
from reverie.files import is_of, read_json
from reverie.report import blocks, strips
from reverie.report.blocks import Block, Section
from reverie.report.figures import legend_above
from reverie.report.reading import RunView
from reverie.report.style import DASHES, INK, RUNS, blank, drawn

_NAMES: Mapping[str, str] = {
    "near_copies": "samples that all but copy a training row",
    "class_distance": "classes: total variation from held-out rows",
    "discrepancy": "maximum mean discrepancy, squared",
    "diversity": "diversity, beside held-out rows",
    "repeats": "samples that all but repeat another",
    "own_component": "nats that training rows owe to their own component",
    "own_share": "share of a training row's posterior that its own component has",
    "train_log_likelihood": "log-likelihood of training rows",
    "train_without_own": "the same, their own component left out",
    "held_out_log_likelihood": "log-likelihood of held-out rows",
}
_COLUMNS, _PAIRS = 8, 32


def health(run: RunView) -> Section | None:
    """Return what a look at the samples found; None where there was none of the weights that are there now."""
    record = read_json(run.path / "health.json") or {}
    if not record.get("findings") or not is_of(record, run.folder.weights):
        return None
    lead = f"Samples beside training rows and {record.get('split')} rows. Each alarm is false one time in a thousand."
    section = Section("health", "Sample health", lead)
    section.add(Block("notes", [(str(f["level"]), str(f["text"])) for f in record["findings"]]))
    section.add(_numbers(record.get("records") or {}))
    for block in _beside(run):
        section.add(block)
    section.add(_distances(run.arrays("health")), _classes(run.arrays("health")))
    return section


def _numbers(records: Mapping[str, Any]) -> Block | None:
    rows = []
    for name, title in _NAMES.items():
        if name in records:
            found = Estimate.from_json(dict(records[name]))
            rows.append([title, blocks.data(found.value, 4), blocks.data(found.standard_error, 4), f"{found.n:,}",
                         found.note or ""])  # fmt: skip
    head = ["what", "value", "standard error", "samples", "how sure"]
    return blocks.table(head, rows, numeric=(1, 2, 3)) if rows else None


def _beside(run: RunView) -> list[Block]:
    """Return samples over the training rows nearest to them, those nearest of all first."""
    made, near = run.pictures("health", "samples"), run.pictures("health", "neighbours")
    if made is None or near is None:
        return []
    order = np.argsort(run.arrays("health")["distances"][: len(made)], kind="stable")[:_PAIRS]
    if len(run.shape) == 1:
        few = order[:_COLUMNS]
        rows = np.concatenate([made[few], near[few]])
        scale = strips.scale_of(run, rows)
        drawing = strips.strips(rows, scale, run.data.get("columns"), ("samples", "nearest"))
        return [blocks.figure(drawing, "Samples and their nearest training rows", f"Samples above, the training rows "
                              f"nearest to them below, the nearest first. {scale.words}")]  # fmt: skip
    found = []
    for start in range(0, len(order), _COLUMNS):
        part = order[start : start + _COLUMNS]
        films = [("sample", made[part]), ("nearest training row", near[part])]
        text = "" if start else "Samples over the training rows nearest to them, those nearest of all first."
        found.append(blocks.film(films, f"Samples {start + 1} and on, and training rows", text))
    return found


def _distances(arrays: Mapping[str, np.ndarray]) -> Block | None:
    if "distances" not in arrays:
        return None
    ours, theirs, limit = arrays["distances"], arrays["held_distances"], float(arrays["limit"])
    alt = f"Distances to the nearest training row: samples' median {np.median(ours):.3g}, held-out rows' "
    text = "To the nearest training row. Left of the line a row is all but a copy."
    return blocks.figure(distances(ours, theirs, limit), f"{alt}{np.median(theirs):.3g}", text)


def _classes(arrays: Mapping[str, np.ndarray]) -> Block | None:
    if "class_shares" not in arrays:
        return None
    names = [str(name) for name in arrays["class_names"]]
    drawing = classes(names, arrays["class_shares"], arrays["held_class_shares"])
    return blocks.figure(drawing, f"Shares of {len(names)} classes among samples and held-out rows",
                         "How often each class is told among samples and among held-out rows.")  # fmt: skip


@drawn
def distances(ours: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " m"], limit: float) -> Figure:
    """Draw the distances to the nearest training row, of samples and of held-out rows, and the limit of a copy."""
    figure, axes = blank()
    most = float(max(ours.max(), theirs.max(), limit)) or 1.0
    bins = np.linspace(0.0, most * 1.02, 41).tolist()
    for i, (name, values) in enumerate((("samples", ours), ("held-out rows", theirs))):
        weights = np.full(values.size, 1.0 / values.size)
        axes.hist(values, bins=bins, weights=weights, histtype="step", color=RUNS[i], linestyle=DASHES[i],
                  linewidth=1.6, label=name)  # fmt: skip
    axes.axvline(limit, color=INK, linewidth=1)
    axes.set_xlabel("distance to the nearest training row")
    axes.set_ylabel("share")
    legend_above(axes, 2)
    return figure


@drawn
def classes(names: Sequence[str], ours: Float[np.ndarray, " C"], theirs: Float[np.ndarray, " C"]) -> Figure:
    """Draw the shares of classes among samples beside those among held-out rows."""
    figure, axes = blank()
    place = np.arange(len(names))
    axes.bar(place - 0.2, ours, width=0.38, color=RUNS[0], label="samples")
    axes.bar(place + 0.2, theirs, width=0.38, color=RUNS[1], label="held-out rows")
    long = max(map(len, names)) > 2
    axes.set_xticks(place, names, rotation=90 if long else 0)
    axes.set_ylabel("share")
    legend_above(axes, 2)
    return figure
