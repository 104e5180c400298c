"""What `reverie classify` says: the errors of all methods, and under them what to do about a net that learns still."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reverie import console, train_command
from reverie.console import Answer

#: Steps of a classifier that are hardly enough on any data; where nothing is asked for there are 6,000 at least.
_FEW_STEPS = 1000


def unlearnt(net: Any, found: dict[str, Any]) -> str | None:
    """Return a hint to train a classifier for longer where its validation error was still falling."""
    from reverie.evaluate.rising import rise

    gained, steps = rise(net.journal()), int(net.record["plan"]["steps"])
    if gained is None:
        # So few that even the fall has not begun.
        few = f"{net.path}: it has learnt for {steps:,} steps alone, which are few; remove that folder and give more "
        return f"{few}--epochs, or leave them out" if steps < _FEW_STEPS else None
    # The journal counts passes over all rows, the option over those that are learnt from.
    learnt = found["rows"]["train"] / (found["labels"] or found["rows"]["train"])
    since, epochs = gained.since * learnt, gained.epochs * learnt
    return (
        f"{net.path}: its validation error was still falling, by {100 * gained.gain:.2f} % of the rows over the last "
        f"{since:.3g} epochs: it is not learnt yet; remove that folder and give --epochs {math.ceil(4 * epochs)}"
    )


def answer(found: dict[str, Any], folder: Path, nets: Sequence[Any] = ()) -> Answer:
    """Return the errors of all methods in the table's order, those of several seeds also as their mean.

    Args:
        found: what `classifying.classify` returned.
        folder: of the run.
        nets: the runs of the networks that were trained; those that have not learnt enough are told under the table.
    """
    from reverie.report.sections_classify import in_order, seeds_of

    results, said = in_order(found["results"]), []
    for name, records in seeds_of(results).items():
        if len(records) > 1:
            total = train_command.over_seeds([100.0 * one["test"].value for one in records])
            found.setdefault("seeds", {})[name] = total
            low, high = total["low"], total["high"]
            said.append(
                f"{name}: {total['value']:.2f} % over {len(records)} seeds, 95 % interval [{low:.2f}, {high:.2f}]"
            )
    rows = [
        [
            one["title"] + (" (from before)" if one["kept"] else ""),
            one["chosen"] + (f", seed {one['seed']}" if one.get("seed") else ""),
            f"{100 * one['test'].value:.2f}",
            f"{100 * one['low']:.2f} to {100 * one['high']:.2f}",
            f"{one['seconds']:.1f}",
        ]
        for one in results
    ]
    head = ["method", "chosen", "test error, %", "95 % interval", "seconds"]
    learnt = found["rows"]["train"] if found["labels"] is None else found["labels"]
    first = f"{found['data']}: learnt from {learnt:,} rows, {found['rows']['test']:,} test rows"
    hint = f"`reverie report {folder}` shows who is taken for whom."
    unripe = [line for net in nets if (line := unlearnt(net, found)) is not None]
    shown = [first, console.table(head, rows, right=(2, 3, 4)), *said, *unripe, hint]
    return Answer({**found, "results": results, "hints": unripe}, shown)
