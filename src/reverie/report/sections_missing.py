"""The section on missing values: what is hidden, how the model fills it in, and how far off it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reverie.report import blocks, cells, figures, strips
from reverie.report.blocks import Block, Section
from reverie.report.reading import RunView

#: Iterations of an imputation that a page shows, and how many rows.
_FRAMES, _SHOWN = (1, 5, 20), 8
#: What is kept of each way to fill in, and its decimals.
_SCORES = (("mean squared error", 4), ("PSNR, dB", 2), ("log-loss, nats a cell", 4), ("wrong categories", 3))


def imputation(run: RunView) -> Section | None:
    rules = {n.removeprefix("imputation-"): n for n in run.array_names("imputation-")}
    if not rules:
        return None
    errors = {rule: run.arrays(name)["errors"] for rule, name in rules.items() if "errors" in run.arrays(name)}
    at_once = bool(errors) and all(e.size == 1 for e in errors.values())
    lead = "Some cells are hidden; the model fills them in by decoding its own guess, again and again."
    if run.array_names("chains"):
        lead = "Some cells are hidden; known ones held, the model's chains draw the others, and their mean is given."
    elif at_once:
        lead = "Some cells are hidden; the model has their law given the known ones, and says the mean of each."
    section = Section("imputation", "Missing values", lead)
    errors = {rule: e for rule, e in errors.items() if e.size and not at_once}
    for rule, name in rules.items():
        section.add(_frames(run, rule, name))
    if errors:
        ends = ", ".join(f"{rule} {e[-1]:.4f}" for rule, e in errors.items())
        unit, words = error_unit(run)
        section.add(blocks.figure(figures.imputation_errors(errors, unit), f"Error by iteration; at the end {ends}",
                                  f"Mean squared error on the hidden cells alone, {words}."))  # fmt: skip
    section.add(_ways(run, rules))
    return section if section.rows else None


def _ways(run: RunView, rules: Mapping[str, str]) -> Block | None:
    """Return how good the model's cells are beside those of base rates and of the nearest rows."""
    told = [(rule, run.arrays(name)) for rule, name in rules.items() if "scores" in run.arrays(name)]
    named = [(rule, way) for rule, arrays in told for way in arrays["ways"].tolist()]
    if not named:
        return None
    scores = np.concatenate([arrays["scores"] for _, arrays in told])
    # Real values have neither a greatest one nor a log-loss.
    kept = np.flatnonzero(np.isfinite(scores).any(axis=0)).tolist()
    rows = [
        [*names, *(blocks.data(float(row[i]), _SCORES[i][1]) for i in kept)]
        for names, row in zip(named, scores, strict=True)
    ]
    head = ["hidden", "filled in by", *(_SCORES[i][0] for i in kept)]
    caption = "On the hidden cells alone."
    caption += " For the log-loss, no prediction is surer than 0.001 from 0 or 1." if 2 in kept else ""
    caption += " The squared error is that of numbers, in variances of their columns." if 3 in kept else ""
    return blocks.table(head, rows, caption, numeric=range(2, len(head)))


def error_unit(run: RunView) -> tuple[str, str]:
    """Return the unit of squared errors on missing cells, for an axis and for a sentence."""
    if run.data.get("likelihood") == "categorical":
        return "levels²", "in squared levels of the cells"
    if run.data.get("likelihood") == "bernoulli":
        return "cells in [0, 1]", "the cells being in [0, 1]"
    if len(run.shape) == 1:
        return "variance = 1", "in units of the column's variance over the training rows: filling in its mean costs 1"
    # One scale for all pixels: those in the middle of a picture vary more than its border.
    words = "in units of the training pixels' variance: one grey for all pixels costs 1 on average over a whole picture"
    return "variance = 1", words


def _frames(run: RunView, rule: str, name: str) -> Block | None:
    truth, frames, known = (run.pictures(name, key) for key in ("inputs", "frames", "masks"))
    if truth is None or frames is None or known is None:
        return None
    count = min(len(truth), _SHOWN)
    iterations = run.arrays(name).get("iterations", np.arange(1, len(frames) + 1)).tolist()
    chosen = [i for i, t in enumerate(iterations) if t in _FRAMES or i == len(frames) - 1]
    given = np.where(known[:count].astype(bool), truth[:count], np.nan)
    once = iterations == [1]
    stages = [
        ("given", given),
        *(("filled in" if once else f"after {iterations[i]}", frames[i][:count]) for i in chosen),
        ("truth", truth[:count]),
    ]
    if cells.readable(run):
        words = f"{rule}: a hidden cell is ?, and bold where it is filled in; what the file lacks is – in truth."
        return cells.filled(run, known[:count].astype(bool), frames[-1][:count], truth[:count], words)
    if len(run.shape) == 1:
        rows = np.concatenate([given[:4], frames[-1][:4], truth[:4]])
        scale = strips.scale_of(run, rows)
        drawing = strips.strips(rows, scale, run.data.get("columns"), ("given", "filled in", "truth"))
        return blocks.figure(
            drawing,
            f"{rule}: given, filled in and true rows",
            f"{rule}: {len(given[:4])} rows, hidden or missing cells in amber. {scale.words}",
        )
    return blocks.film(stages, f"Imputation, {rule}", f"{rule}: hidden cells in amber.")
