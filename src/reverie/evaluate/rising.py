"""Was a model still learning when its training ended?  One rule for the command line and the report.

Validations look at the same rows with the same random numbers, so that what moves them is learning, and the little ups
and downs of it.  A curve still rises where all of this holds:

- its last value, or the one before, is the best so far;
- its last fifth lies above the fifth before by a fiftieth or more of all it has risen, as of one that nears its end
  exponentially it does until five of its times are over;
- that is more than twice any fall from one validation to the next in those two fifths;
- and more than a twentieth of the standard error; of a share of few rows, half of it, which is a row or two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

#: Of all that was gained, and of the standard error, in nats or squares and in shares.
_PART, _ERROR, _SHARE = 0.02, 0.05, 0.5


class Rise(NamedTuple):
    """By how much the last validations rose, over how many epochs, how many there were in all, and the unit."""

    gain: float
    since: float
    epochs: float
    unit: str


def rise(journal: Sequence[Mapping[str, Any]]) -> Rise | None:
    """Return how a journal's validations rose at its end, None where that is no more than noise or nothing."""
    # Epochs and what is learnt are a stage's own.
    stage = journal[-1].get("stage", 0) if journal else 0
    lines = [line for line in journal if line.get("stage", 0) == stage and isinstance(line.get("valid"), Mapping)]
    whole = [line for line in lines if line.get("epoch") is not None and line["valid"].get("value") is not None]
    told = [(float(line["epoch"]), line["valid"]) for line in whole]
    if len(told) < 2:
        return None
    values = np.asarray([record["value"] for _, record in told])
    part, (epochs, last) = max(1, len(told) // 5), told[-1]
    gain = float(values[-part:].mean() - values[-2 * part : -part].mean())
    share = last.get("unit") == "fraction"
    noise = (_SHARE if share else _ERROR) * (last.get("standard_error") or 0.0)
    falls = -np.diff(values[-2 * part - 1 :])
    least = max(noise, _PART * float(values.max() - values[0]), 2.0 * float(falls.max(initial=0.0)))
    if gain < least or int(values.argmax()) < len(values) - 2:
        return None
    return Rise(gain, epochs - told[-1 - part][0], epochs, str(last.get("unit") or "nats"))


def advice(found: Rise, folder: str, ended: bool) -> str:
    """Return the sentence that tells of a rise, and what to do.

    Args:
        folder: of the run, as a shell takes it.
        ended: the learning rate is 0 by now, so that going on would teach nothing.
    """
    digits = 4 if found.unit == "fraction" else 2
    # Whole steps make whole epochs only nearly.
    longer = math.ceil(round(2 * found.epochs, 1))
    what = f"anew with `--epochs {longer}`" if ended else f"longer, with `reverie resume {folder} --epochs {longer}`"
    return (
        f"Validation was still rising at the end, by {found.gain:.{digits}f} {found.unit} over the last "
        f"{found.since:.3g} epochs: it is not learnt yet. Train {what}."
    )
