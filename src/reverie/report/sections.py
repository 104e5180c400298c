"""The sections of one run's page, in their order; a section whose arrays are missing is None."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from reverie.estimate import of_windows
from reverie.report import blocks, cells, figures, strips
from reverie.report.blocks import Block, Section
from reverie.report.reading import Number, RunView
from reverie.report.sections_energy import activations, chains, filters, log_z
from reverie.report.sections_latent import latent, plane
from reverie.report.sections_missing import imputation

_LEVELS = {"ok": "ok", "warning": "warning", "problem": "problem"}
#: What the metrics of a task promise.
_COUNTED = "Of the model's answers on these rows, counted: nothing of it is estimated."
#: What annealing tells of rows that it drew itself (`evaluate.annealed.simulated_gap`): no numbers of the data.
SIMULATED: Mapping[str, str] = {"bracket": "log-likelihood", "gap": "what annealing misses"}
#: What Parzen windows give, and what that promises.
WINDOWS: Mapping[str, str] = {
    "parzen": "Parzen windows", "parzen_of_training_rows": "Parzen windows of training rows"
}  # fmt: skip
_WINDOWS = "No likelihood of the model: of windows around what it generates. It favours what is smoother than the data."
_SHOWN = {"samples": 64, "pairs": 32, "strips": 16}


def number_card(number: Number) -> Block:
    """Return a certified number large, with its whole certificate and what its kind promises."""
    record = number.record
    rows = f"{record.n:,}" + (f" of {record.rows_of:,}" if record.rows_of else "")
    certificate = [
        ("estimator", record.estimator),
        ("split", _split(number)),
        ("rows", rows),
        ("standard error", blocks.data(record.standard_error, 4)),
        ("Monte Carlo error", blocks.data(record.monte_carlo_error, 4)),
        ("binarisation", record.binarisation),
        ("measure", record.measure),
        ("data", Markup("<code>{}</code>").format(record.data_hash[:12]) if record.data_hash else None),
        ("seed", record.seed),
        ("note", record.note),
    ]
    body = {
        "name": metric_name(number.metric) + ("" if number.metric in SIMULATED else f", {number.split}"),
        "record": record,
        "cell": blocks.estimate_cell(record),
        "kind": record.kind.replace("_", " "),
        "promise": _WINDOWS
        if number.metric in WINDOWS
        else blocks.KINDS.get(record.kind, "")
        if likelihood(number)
        else _COUNTED,
        "facts": [(name, value) for name, value in certificate if value is not None],
    }
    return Block("card", body)


def likelihood(number: Number) -> bool:
    """Say whether a number is of a likelihood, rather than of a task."""
    return "likelihood" in number.metric or number.metric in (*SIMULATED, *WINDOWS)


def metric_name(metric: str) -> str:
    if metric in SIMULATED:
        return f"{SIMULATED[metric]}, on rows simulated from the model"
    if metric in WINDOWS:
        return WINDOWS[metric]
    return metric.replace("_", "-") if metric == "log_likelihood" else metric.replace("_", " ")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _split(number: Number) -> str:
    return "simulated" if number.metric in SIMULATED else number.split


def numbers(run: RunView) -> Section:
    section = Section("numbers", "Likelihood")
    if not run.numbers:
        text = "No certified number yet. This command computes one: "
        section.add(Block("command", f"reverie evaluate {run.place}", text))
        return section
    first = run.numbers[0]
    if not likelihood(first) or first.metric in WINDOWS:
        section = Section("numbers", _capital(metric_name(first.metric)))
    section.add(number_card(first))
    if len(run.numbers) > 1:
        section.add(_all_numbers(run.numbers))
    values = run.rows_of(first).get("values")
    if likelihood(first) and values is not None and np.isfinite(values).sum() > 1:
        what = "log-density" if first.metric in WINDOWS else "log-likelihood"
        alt = f"Histogram of {values.size} rows by their {what}, mean {np.nanmean(values):.2f}"
        section.add(
            blocks.figure(
                figures.row_histogram(values, first.record.unit, what),
                alt,
                f"Every row has its own {what}. Those far to the left surprise the model.",
            )
        )
    return section


def _all_numbers(found: list[Number]) -> Block:
    mixed = len({n.record.unit for n in found}) > 1
    rows = [
        [metric_name(n.metric) + (f", {n.record.unit}" if mixed else ""), _split(n), n.record.estimator,
         n.record.kind.replace("_", " "),
         blocks.estimate_cell(n.record), blocks.data(n.record.monte_carlo_error, 3), f"{n.record.n:,}"]
        for n in found
    ]  # fmt: skip
    head = [
        "metric",
        "split",
        "estimator",
        "kind",
        "value ± standard error" + ("" if mixed else f", {found[0].record.unit}"),
        "MC error",
        "rows",
    ]
    # Below the table: a column of sentences would be narrow and tall, and push the others off the page.
    notes = list(dict.fromkeys(n.record.note for n in found if n.record.note))
    for row, n in zip(rows, found, strict=True):
        row[0] += f" [{notes.index(n.record.note) + 1}]" if n.record.note else ""
    told = [f"[{number}] {note}." for number, note in enumerate(notes, 1)]
    return blocks.table(head, rows, " ".join(["Every number computed for this run.", *told]), numeric=(4, 5, 6))


def diagnoses(run: RunView) -> Section | None:
    if not run.diagnoses:
        return None
    section = Section("diagnoses", "Diagnoses")
    order = ("problem", "warning", "ok")
    notes = [(_LEVELS.get(str(d.get("level")), "warning"), str(d["text"])) for d in run.diagnoses]
    section.add(Block("notes", sorted(notes, key=lambda note: order.index(note[0]))))
    return section


_CURVES = {
    "loss": "minus the loss", "log_likelihood": "log-likelihood",
    "squared_error": "minus the squared error", "pseudo_likelihood": "pseudo-likelihood",
    "bits_per_sequence": "minus the bits per sequence",
}  # fmt: skip
#: What a curve is measured in, where that is no nats.
_UNITS = {"accuracy": "share of the rows", _CURVES["squared_error"]: "squares", _CURVES["bits_per_sequence"]: "bits"}


def curve(run: RunView) -> figures.Curve | None:
    """Return the run's learning curve, None where its journal says nothing."""
    known = (
        "accuracy",
        "squared_error",
        "bits_per_sequence",
        "objective",
        "bound",
        "elbo",
        "log_likelihood",
        "pseudo_likelihood",
        "loss",
    )
    label = next((k for k in known if any(k in m for m in run.metrics)), None)
    if label == "loss" and any(_of_an_energy(m.get("valid") or {}) for m in run.metrics):
        label = None  # what an energy logs is a difference of energies, and no likelihood's bound
    windows = any(of_windows(m.get("valid") or {}) for m in run.metrics)
    if label == "loss" and windows:
        label = None  # a game's loss is in no unit that windows share
    train, valid = [], []
    for epoch, line in _in_one_row(run.metrics):
        if label and line.get(label) is not None:
            train.append((epoch, line[label]))
        if (line.get("valid") or {}).get("value") is not None:
            found = line["valid"]
            valid.append((epoch, found["value"], *(found.get(end) or found["value"] for end in ("low", "high"))))
    if not train and not valid:
        return None
    sign = -1.0 if label in ("loss", "squared_error", "bits_per_sequence") else 1.0
    x, y = np.array(train, float).reshape(-1, 2).T
    v, w, low, high = np.array(valid, float).reshape(-1, 4).T
    band = (low, high) if (high > low).any() else None
    judged = "Parzen windows" if windows else "log-likelihood"
    judged = _CURVES[label] if label == "bits_per_sequence" else judged
    return figures.Curve(run.name, x, sign * y, _CURVES.get(str(label), str(label or "")), v, w, band, judged)


def _of_an_energy(valid: Mapping[str, Any]) -> bool:
    return "log_z_low" in valid or str(valid.get("estimator", "")).startswith(("ais-", "enumerated"))


def _in_one_row(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Yield the journal's lines with their epochs counted through, as each stage counts its own from 0."""
    before, last, stage = 0.0, 0.0, 0
    for line in lines:
        if line.get("epoch") is None:
            continue
        if line.get("stage", 0) != stage:
            before, stage = last, line.get("stage", 0)
        last = before + float(line["epoch"])
        yield last, line


def epochs_done(run: RunView) -> float | None:
    """Return how many epochs the run has trained for, its stages counted through; None where nothing says so."""
    return max((epoch for epoch, _ in _in_one_row(run.metrics)), default=None)


def curves(run: RunView) -> Section | None:
    found = curve(run)
    if found is None:
        return None
    section = Section("curves", "Learning curves")
    best = "" if found.best is None else f"; best validation {found.valid[found.best]:.2f}"
    section.add(
        blocks.figure(
            figures.learning_curves([found], _UNITS.get(found.label, "nats")),
            f"Learning curves over {max([*found.epochs, *found.valid_epochs]):g} epochs{best}",
            "The training value is averaged over each interval; the dot marks the best validation."
            + (" The first epochs, far below, are cut off." if figures.cut_off([found]) else ""),
        )
    )
    return section


def rows_block(
    run: RunView,
    rows: np.ndarray,
    alt: str,
    caption: str,
    *,
    beside: Sequence[np.ndarray | None] = (),
    whole: bool = False,
) -> Block:
    """Return rows as pictures; of a table as text, or as strips of heat, on one scale with those `beside`.

    `whole` says that columns of whole numbers hold no others, as draws are written.
    """
    if len(run.shape) > 1:
        return blocks.picture(rows[: _SHOWN["samples"]], alt, caption)
    if cells.readable(run):
        return cells.table(run, rows, caption, whole=whole)
    others = [other[: _SHOWN["strips"]] for other in beside if other is not None and other.shape[1:] == rows.shape[1:]]
    rows = rows[: _SHOWN["strips"]]
    scale = strips.scale_of(run, rows, *others)
    drawing = strips.strips(rows, scale, run.data.get("columns"))
    return blocks.figure(drawing, alt, f"{caption} {scale.words}")


def samples(run: RunView) -> Section | None:
    if run.data.get("likelihood") == "counts":
        return None  # `sections_topics` tells them as words.
    means, draws = run.pictures("samples", "means"), run.pictures("samples", "samples")
    if means is None and draws is None:
        return None
    drawn = "a chain of the model's own" if "chains" in run.array_names("chains") else "the prior"
    by_cell = str(run.arrays("samples").get("drawn", "")) == "cells"
    lead = f"codes h are drawn from {drawn} and decoded."
    lead = "cells are drawn one after the other, each given those before it." if by_cell else lead
    section = Section("samples", "Samples", f"Nothing is given: {lead}")
    if means is not None and draws is not None and np.array_equal(means, draws):
        section.add(rows_block(run, draws, f"{len(draws)} samples", "What the generator makes of them.", whole=True))
        return section
    of_means, of_draws = (f"{what} {'p(cell | cells before it)' if by_cell else 'p(x | h)'}." for what in
                          ("Means of", "Draws of x from"))  # fmt: skip
    found = (
        None if means is None else rows_block(run, means, f"{len(means)} means", of_means, beside=[draws]),
        None
        if draws is None
        else rows_block(run, draws, f"{len(draws)} samples", of_draws, beside=[means], whole=True),
    )
    _add_rows(section, run, *found)
    return section


def _add_rows(section: Section, run: RunView, *found: Block | None) -> None:
    """Add rows of two kinds side by side, or tables of them one under the other."""
    for part in [[block] for block in found] if cells.readable(run) else [found]:
        section.add(*part)


def reconstructions(run: RunView) -> Section | None:
    inputs, outputs, linear = (run.pictures("reconstructions", name) for name in ("inputs", "outputs", "linear"))
    if inputs is None or outputs is None:
        return None
    section = Section("reconstructions", "Reconstructions", "Rows of the test split, encoded and decoded again.")
    count = min(len(inputs), len(outputs), _SHOWN["pairs"])
    if len(run.shape) == 1:
        _add_rows(
            section, run,
            rows_block(run, inputs, "Input rows", "Rows.", beside=[outputs], whole=True),
            rows_block(run, outputs, "Rebuilt", "Rebuilt.", beside=[inputs]),
        )  # fmt: skip
        return section
    columns = 8 if count > 8 else count
    for start in range(0, count, columns):
        part = slice(start, min(start + columns, count))
        films = [("input", inputs[part]), ("rebuilt", outputs[part])]
        films += [] if linear is None else [("as many PCA components", linear[part])]
        section.add(blocks.film(films, f"Rows {start + 1} and on"))
    return section


def units(run: RunView) -> Section | None:
    arrays = run.arrays("units")
    activity = {k.removeprefix("activity_"): v for k, v in arrays.items() if k.startswith("activity_") and v.size}
    kl = {k.removeprefix("kl_"): v for k, v in arrays.items() if k.startswith("kl_") and v.size}
    if not activity and not kl:
        return None
    section = Section("units", "Active units")
    count = " + ".join(f"{int((a > figures.ACTIVE).sum())} of {a.size}" for a in activity.values())
    section.add(
        blocks.figure(figures.activity_histogram(activity), f"Histogram of unit activity: {count} active",
                      f"Active units: {count}. A unit is active when the mean of its posterior varies over rows.")
        if activity else None,
        blocks.figure(figures.kl_bars(kl), "Bars of each unit's KL divergence", "What each unit tells about a row.")
        if kl else None,
    )  # fmt: skip
    return section


def codes(run: RunView) -> Section | None:
    arrays = run.arrays("codes")
    points = arrays.get("codes")
    if points is None or not len(points):
        return None
    kind = str(arrays["kind"]) if "kind" in arrays else "latent"
    section = Section("codes", "Codes")
    view = "The two units of the code." if kind == "latent" else "The code's two principal axes."
    many = f" {figures.POINTS:,} of {len(points):,} rows are shown." if len(points) > figures.POINTS else ""
    drawing = figures.code_scatter(points, arrays.get("labels"), run.class_names, kind)
    section.add(blocks.figure(drawing, f"Scatter of the codes of {len(points)} rows", view + many))
    section.add(*plane(run))
    return section


#: In the order of the page; the memory, the settings, the data and the provenance follow.
SEEING: tuple[Callable[[RunView], Section | None], ...] = (
    numbers, diagnoses, log_z, curves, samples, filters, activations, chains, reconstructions, imputation, units,
    codes, latent,
)  # fmt: skip
