"""The sections of an energy: both sides of log Z, its filters, how its units are used, and its chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reverie.errors import ReverieError
from reverie.estimate import crossing
from reverie.files import is_of, read_json
from reverie.report import blocks, figures_energy
from reverie.report.blocks import Section
from reverie.report.reading import RunView

_ENDS = {"forward": "forwards (AIS)", "raise": "RAISE on rows", "reverse": "backwards (AIS)"}
_MEANS = {
    "lower_bound": "too low, in expectation",
    "upper_bound": "too high, in expectation",
    "estimate": "an estimate: its start is no exact draw",
}


def known(run: RunView) -> Mapping[str, Any] | None:
    """Return ``log_z.json`` if it is of the run's weights.

    Raises:
        ReverieError: where it is damaged.
    """
    record = read_json(run.path / "log_z.json")
    if record is None or not is_of(record, run.folder.weights):
        return None
    if not isinstance(record.get("log_z"), Mapping):
        raise ReverieError(f"{run.path / 'log_z.json'}: damaged, it has no log Z; delete it and evaluate again")
    return record["log_z"]


def log_z(run: RunView) -> Section | None:
    """Return both sides of log Z, with what says whether to trust them, and its bracket over training."""
    found, training = known(run), _over_training(run)
    if found is None and training is None:
        return None
    lead = "What log-likelihoods are normalised by. Two sides that agree can be trusted; one alone cannot."
    section = Section("log-z", "Partition function", lead)
    if found is not None and found["rounds"]:
        _sides(section, found)
    elif found is not None:
        section.add(blocks.facts([("log Z", blocks.data(found["value"], 3)), ("how", "exact, every state counted")]))
    if training is not None:
        epochs, low, high = training
        exact = bool(np.allclose(low, high, rtol=0, atol=1e-9))
        section.add(
            blocks.figure(
                figures_energy.log_z_training(epochs, low, high),
                f"log Z over {epochs.max():g} epochs, at the end {low[-1]:.2f} to {high[-1]:.2f}",
                "log Z at each validation, exact." if exact else
                "The bracket of log Z at each validation, by short paths: it widens where chains stop mixing.",
            )
        )  # fmt: skip
    return section


def _sides(section: Section, found: Mapping[str, Any]) -> None:
    rounds = found["rounds"]
    rows = [[_ENDS[end["name"]], blocks.data(end["value"], 3), blocks.data(end["error"], 3), _MEANS[end["kind"]]]
            for end in rounds[-1]["ends"]]  # fmt: skip
    if found.get("truth") is not None:
        rows.append(["counted", blocks.data(found["truth"], 3), blocks.data(0.0, 3), "exact"])
    section.add(blocks.table(["side", "log Z, nats", "standard error", "what it is"], rows, numeric=(1, 2)))
    doubled = len(rounds) - 1
    section.add(blocks.facts([
        ("bracket", f"[{found['low']:.3f}, {found['high']:.3f}], ends ± {found['error']:.3f}"),
        ("effective chains", f"{found['ess']:.1f} of {found['chains']}, the heaviest with {found['worst']:.1%}"),
        ("path", f"{found['temperatures']:,} temperatures after {doubled} doubling{'s' * (doubled != 1)}"),
        ("time", f"{found['seconds']:.0f} s"),
        ("note", "; ".join(filter(None, (found.get("note"), _crossing(rounds[-1]["ends"])))) or None),
    ]))  # fmt: skip
    names = [end["name"] for end in rounds[-1]["ends"]]
    ends = {_ENDS[n]: [(e["value"], e["error"]) for r in rounds for e in r["ends"] if e["name"] == n] for n in names}
    lengths = [r["temperatures"] for r in rounds]
    drawing = figures_energy.log_z_rounds(lengths, ends, found.get("truth"))
    alt = f"log Z from each side at {len(lengths)} lengths of path"
    section.add(blocks.figure(drawing, alt, "Forwards rises and the other sides fall as the path gets longer."))


def _crossing(ends: Sequence[Mapping[str, Any]]) -> str | None:
    there, back = (
        [(e["value"], e["error"]) for e in ends if (e["name"] == "forward") is side] for side in (True, False)
    )
    return crossing(there[0], max(back)) if there and back else None


def _over_training(run: RunView) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    lines = [(m["epoch"], m["valid"]) for m in run.metrics if m.get("epoch") is not None and m.get("valid")]
    kept = [(e, v["log_z_low"], v["log_z_high"]) for e, v in lines if v.get("log_z_low") is not None]
    if len(kept) < 2:
        return None
    epochs, low, high = np.asarray(kept, float).T
    return epochs, low, high


def filters(run: RunView) -> Section | None:
    weights = run.pictures("filters", "filters")
    if weights is None or len(run.shape) == 1:
        return None
    section = Section("filters", "Filters", "What each hidden unit adds where it is on: light adds, dark takes away.")
    section.add(_signed(weights, f"{len(weights)} filters", "The most used units first."))
    for name in sorted(key for key in run.arrays("filters") if key.startswith("filters_")):
        deep, layer = run.pictures("filters", name), name.removeprefix("filters_")
        if deep is not None:
            text = f"Layer {layer}: the filters below, weighted by what a unit sends to them; the most used first."
            section.add(_signed(deep, f"{len(deep)} filters of layer {layer}", text))
    return section


def _signed(weights: np.ndarray, alt: str, caption: str) -> blocks.Block:
    # One scale for all units, zero in the middle, so that a weak unit looks weak.
    most = max(float(np.abs(weights).max()), 1e-12)
    return blocks.picture(0.5 + 0.5 * weights / most, alt, caption)


def activations(run: RunView) -> Section | None:
    """Return how often each hidden unit is on over test rows."""
    arrays = run.arrays("activations")
    means = {k.removeprefix("mean_"): v for k, v in sorted(arrays.items()) if k.startswith("mean_") and v.size}
    if not means:
        return None
    idle = figures_energy.IDLE
    told = "; ".join(
        f"layer {name}: {int((m < idle).sum())} of {m.size} never on, {int((m > 1 - idle).sum())} always on"
        for name, m in means.items()
    )
    section = Section("activations", "Mean activations", "How often each hidden unit is on over test rows.")
    section.add(
        blocks.figure(figures_energy.activation_histogram(means), f"Histogram of mean activations: {told}", f"{told}."),
        blocks.figure(figures_energy.activation_bars(means), "Bars of each unit's mean activation",
                      "A unit that is never or always on tells the rows nothing."),
    )  # fmt: skip
    return section


def chains(run: RunView) -> Section | None:
    frames = run.pictures("chains", "frames")
    if frames is None or len(run.shape) == 1:
        return None
    lead = "The model's own chains over time, from its base law on: chains that stay alike do not mix."
    section = Section("chains", "Chains", lead)
    arrays = run.arrays("chains")
    films = [(f"{count:,} sweeps", frame) for count, frame in zip(arrays["sweeps"].tolist(), frames, strict=True)]
    said = str(arrays["mixing"]) if "mixing" in arrays else ""
    caption = f"{said[:1].upper()}{said[1:]}." if said else ""
    section.add(blocks.film(films, f"{frames.shape[1]} chains after {', '.join(name for name, _ in films)}", caption))
    return section
