"""The arena's page: runs on the same rows, their numbers, their paired differences, and what they dream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from reverie.errors import ReverieError
from reverie.report import blocks, figures
from reverie.report.blocks import Block, Section
from reverie.report.reading import Number, RunView
from reverie.report.sections import curve, epochs_done, number_card, rows_block
from reverie.report.sections_about import command, flat, planned, spelled, took
from reverie.report.sections_memory import memory, prefixed
from reverie.report.sections_missing import error_unit

_WANTED = ("difference", "standard_error", "low", "high")


def read(folders: Sequence[Path]) -> list[RunView]:
    """Return the runs, each with a name of its own."""
    paths = [Path(folder) for folder in folders]
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = ["/".join(path.resolve().parts[-2:]) for path in paths]
    return [RunView.read(path, name) for path, name in zip(paths, names, strict=True)]


def sections(runs: Sequence[RunView], differences: Mapping[str, Any]) -> list[Section]:
    """Return the page's sections in order; those without anything to show are left out."""
    found = [
        _numbers(runs),
        _differences(runs, differences),
        _curves(runs),
        _samples(runs),
        _reconstructions(runs),
        _imputation(runs),
        *(_own(memory(run), run, i) for i, run in enumerate(runs)),
        _settings(runs),
        _again(runs),
    ]
    return [section for section in found if section is not None]


def _own(section: Section | None, run: RunView, place: int) -> Section | None:
    return None if section is None else prefixed(section, run, place)


def _numbers(runs: Sequence[RunView]) -> Section:
    section = Section("numbers", "Likelihood")
    cards = []
    for run in runs:
        if run.numbers:
            card = number_card(run.numbers[0])
            card.body["name"] = f"{run.name}: {card.body['name']}"
            cards.append(card)
    for start in range(0, len(cards), 2):
        section.add(*cards[start : start + 2])
    rows = [
        [run.name, run.model, f"{run.record['parameters']:,}" if isinstance(run.record.get("parameters"), int) else "–",
         took(run), blocks.estimate_cell(run.numbers[0].record) if run.numbers else "–"]
        for run in runs
    ]  # fmt: skip
    head = ["run", "model", "parameters", "trained for", "log-likelihood ± standard error"]
    section.add(blocks.table(head, rows, numeric=(2, 3, 4)))
    return section


def _differences(runs: Sequence[RunView], differences: Mapping[str, Any]) -> Section | None:
    pairs = list(pairs_of(differences, runs))
    drawn = [drawings for a, b in _couples(runs, [name for name, _ in pairs]) if (drawings := _paired(a, b))]
    if not pairs and not drawn:
        return None
    lead = "Both models score the same rows, so their difference is known far better than either number."
    section = Section("differences", "Paired differences", lead)
    if pairs:
        labels, values = [name for name, _ in pairs], [value for _, value in pairs]
        columns = ([float(v[key]) for v in values] for key in ("difference", "low", "high"))
        alt = "; ".join(f"{n} {v['difference']:+.3f} [{v['low']:.3f}, {v['high']:.3f}]" for n, v in pairs)
        lines = [_line(name, value, _couple(name, runs)) for name, value in pairs]
        head = ["difference", "mean", "standard error", "interval", "verdict"]
        section.add(blocks.table(head, lines, numeric=(1, 2, 3)))
        section.add(_doubts(pairs))
        section.add(blocks.figure(figures.intervals(labels, *columns), f"Intervals of paired differences: {alt}"))
    for drawings in drawn:
        section.add(*drawings)
    return section


def _doubts(pairs: Sequence[tuple[str, Mapping[str, Any]]]) -> Block | None:
    """Return what was noted of the differences, such as that a gap may be the bounds' and not the models'."""
    notes = [("warning", f"{name.replace(' - ', ' − ')}: {note}") for name, value in pairs
             for note in value.get("notes") or ()]  # fmt: skip
    return Block("notes", notes) if notes else None


def pairs_of(differences: Any, runs: Sequence[RunView], name: str = "difference") -> Iterator[tuple[str, Mapping]]:
    """Yield (name, paired difference) for every one in `differences`, however deep; runs go by their names.

    Raises:
        ReverieError: for a difference that lacks its error or its interval.
    """
    if (
        isinstance(differences, Mapping)
        and "difference" in differences
        and not isinstance(differences["difference"], Mapping)
    ):
        if any(not isinstance(differences.get(key), int | float) for key in _WANTED):
            raise ReverieError(f"differences: {name!r} lacks one of {', '.join(_WANTED)}; give paired differences")
        if "a" in differences and "b" in differences:
            name = f"{differences['a']} - {differences['b']}"
        yield " - ".join(_names(runs).get(part, part) for part in name.split(" - ")), differences
    elif isinstance(differences, Mapping):
        for key, value in differences.items():
            yield from pairs_of(value, runs, str(key))
    elif isinstance(differences, list | tuple):
        for value in differences:
            yield from pairs_of(value, runs, name)


def _names(runs: Sequence[RunView]) -> dict[str, str]:
    """Return the name on this page for every way to name a run that names one run alone."""
    ways = [(str(way), run.name) for run in runs
            for way in (run.model, run.path.name, run.path.resolve(), run.path, run.name)]  # fmt: skip
    return {way: name for way, name in ways if len({other for same, other in ways if same == way}) == 1}


def _line(name: str, value: Mapping[str, Any], couple: tuple[RunView, RunView] | None) -> list[Any]:
    digits = blocks.digits_for(value["standard_error"])
    level = f"{100 * value['level']:g} %" if "level" in value else ""
    # Which run a difference speaks for is never guessed: without two known names there is no verdict.
    better = None if couple is None else couple[0] if value["low"] > 0 else couple[1] if value["high"] < 0 else None
    verdict = f"{better.name} is better" if better else "no difference shown" if couple else "–"
    verdict += " (see the note)" if value.get("notes") else ""
    interval = Markup("{} [{}, {}]").format(
        level, blocks.data(value["low"], digits), blocks.data(value["high"], digits)
    )
    return [name.replace(" - ", " − "), blocks.data(value["difference"], digits),
            blocks.data(value["standard_error"], digits), interval, verdict]  # fmt: skip


def _couple(name: str, runs: Sequence[RunView]) -> tuple[RunView, RunView] | None:
    """Return the two runs that the name of a difference speaks of, None where it does not."""
    by_name = {run.name: run for run in runs}
    return next(((by_name[a], by_name[b]) for a in by_name for b in by_name if a != b and name == f"{a} - {b}"), None)


def _couples(runs: Sequence[RunView], names: Sequence[str]) -> Iterator[tuple[RunView, RunView]]:
    """Yield the pairs of runs that differences name, or each other one against the first."""
    found = [couple for couple in (_couple(name, runs) for name in names) if couple]
    yield from found or [(run, runs[0]) for run in runs[1:]]


def _paired(a: RunView, b: RunView) -> list[blocks.Block]:
    """Return the row-by-row figures of two runs that were scored by the same estimator on some of the same rows."""
    for mine, theirs in ((x, y) for x in a.numbers for y in b.numbers if _alike(x, y)):
        rows = _common(a.rows_of(mine), b.rows_of(theirs))
        if rows is not None:
            x, y = rows
            alt = f"{a.name} against {b.name} on {x.size:,} rows"
            better = f"Above the line {a.name} is better: {np.mean(x > y):.0%} of {x.size:,} rows."
            spread = f"{a.name} less {b.name} on each row."
            return [
                blocks.figure(figures.paired_rows(x, y, (a.name, b.name)), alt, better),
                blocks.figure(figures.paired_spread(x, y), f"{alt}: mean {(x - y).mean():+.3f}", spread),
            ]
    return []


def _alike(x: Number, y: Number) -> bool:
    return (x.metric, x.split, x.record.estimator) == (y.metric, y.split, y.record.estimator)


def _common(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    if "values" not in a or "values" not in b:
        return None
    first = a.get("indices", np.arange(len(a["values"])))
    second = b.get("indices", np.arange(len(b["values"])))
    _, i, j = np.intersect1d(first, second, return_indices=True)
    x, y = a["values"][i].astype(float), b["values"][j].astype(float)
    finite = np.isfinite(x) & np.isfinite(y)
    return (x[finite], y[finite]) if finite.sum() > 1 else None


def _curves(runs: Sequence[RunView]) -> Section | None:
    found = [c for c in (curve(run) for run in runs) if c is not None]
    if not found:
        return None
    section = Section("curves", "Learning curves")
    names = ", ".join(c.name for c in found)
    section.add(blocks.figure(figures.learning_curves(found), f"Learning curves of {names}",
                              "Thin: training value; thick: validation, its best marked."))  # fmt: skip
    return section


def _samples(runs: Sequence[RunView]) -> Section:
    section = Section("samples", "Samples", "Means of p(x | h) for codes drawn from each model's prior.")
    kept = [(run, run.pictures("samples", "means")) for run in runs]
    found = [(run, run.pictures("samples", "samples") if means is None else means) for run, means in kept]
    held = [(run, means) for run, means in found if means is not None]
    shown = [
        rows_block(run, means, f"{len(means)} samples of {run.name}", f"{run.name}.", beside=[m for _, m in held])
        for run, means in held
    ]
    for start in range(0, len(shown), 2):
        section.add(*shown[start : start + 2])
    section.add(_without([run for run, means in found if means is None]))
    return section


def _without(runs: Sequence[RunView]) -> Block | None:
    """Return whose pictures are not here, and what makes them."""
    notes = [
        ("plain", f"{run.name} has no pictures yet: `reverie report {run.place}` makes them; then "
                  "compare again.")
        for run in runs
    ]  # fmt: skip
    return Block("notes", notes) if notes else None


def _reconstructions(runs: Sequence[RunView]) -> Section | None:
    """Return the runs' reconstructions under one another where they are of the same rows."""
    pairs = [
        (run, run.pictures("reconstructions", "inputs"), run.pictures("reconstructions", "outputs")) for run in runs
    ]
    held = [(run, x, y) for run, x, y in pairs if x is not None and y is not None]
    if not held or len(held[0][0].shape) == 1 or not all(np.array_equal(x, held[0][1]) for _, x, _ in held):
        return None
    bare = [run for run, x, y in pairs if x is None or y is None]
    by = ", ".join(run.name for run, _, _ in held) if bare else "each run"
    section = Section("reconstructions", "Reconstructions", f"The same rows, encoded and decoded again by {by}.")
    for part in (slice(0, 8), slice(8, 16)):
        if len(held[0][1][part]):
            stages = [("input", held[0][1][part]), *((run.name, y[part]) for run, _, y in held)]
            section.add(blocks.film(stages, "Reconstructions"))
    section.add(_without(bare))
    return section


def _imputation(runs: Sequence[RunView]) -> Section | None:
    """Return the runs' errors on missing cells, a figure for each rule that more than one run was tried with."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for run in runs:
        for name in run.array_names("imputation-"):
            errors = run.arrays(name).get("errors", np.zeros(0))
            if errors.size:
                found.setdefault(name.removeprefix("imputation-"), {})[run.name] = errors
    unit, words = error_unit(runs[0])
    drawn = [
        blocks.figure(figures.imputation_errors(errors, unit), f"Error on missing cells, {rule}", f"{rule}.")
        for rule, errors in found.items() if len(errors) > 1
    ]  # fmt: skip
    lead = f"Mean squared error on hidden cells, by iteration, {words}; lower is better."
    section = Section("imputation", "Missing values", lead)
    for start in range(0, len(drawn), 2):
        section.add(*drawn[start : start + 2])
    return section if drawn else None


def _settings(runs: Sequence[RunView]) -> Section:
    every = [dict(flat(run.record.get("settings") or {})) | _length(run) for run in runs]
    names = sorted({name for settings in every for name in settings})
    cells = {name: [spelled(s[name]) if s.get(name) is not None else "–" for s in every] for name in names}
    differing = [[Markup("<code>{}</code>").format(name), *cells[name]] for name in names if len(set(cells[name])) > 1]
    section = Section(
        "settings", "Settings that differ", "" if differing else "Every setting, the seed and the epochs are the same."
    )
    section.add(blocks.table(["setting", *(run.name for run in runs)], differing) if differing else None)
    return section


def _length(run: RunView) -> dict[str, Any]:
    """Return the run's seed, and its epochs planned and done, which differ where one was stopped."""
    found = {"epochs planned": planned(run), "epochs done": epochs_done(run)}
    return {"seed": run.record.get("seed")} | {k: None if v is None else f"{v:.4g}" for k, v in found.items()}


def _again(runs: Sequence[RunView]) -> Section:
    section = Section("provenance", "Provenance")
    for run in runs:
        section.add(blocks.Block("command", command(run), f"{run.name}:"))
    return section
