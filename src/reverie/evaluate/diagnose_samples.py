"""What numbers of samples say of a run: Parzen windows beside training rows', and the findings of a look at samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from reverie.files import is_of


def windows(facts: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Say what a Parzen number above that of the training rows means."""
    for key, entry in (facts.get("evaluation") or {}).items():
        gain = _value(entry, "parzen") - _value(entry, "parzen_of_training_rows")
        if key.startswith("test/") and gain > 0:
            yield (
                "ok",
                f"Parzen windows around what it generates score {gain:.1f} nats more than around as many training "
                "rows: smoother than the data, which is not better.",
            )
            return


def _value(entry: Any, metric: str) -> float:
    record = entry.get(metric) if isinstance(entry, Mapping) else None
    return float(record["value"]) if isinstance(record, Mapping) and record.get("value") is not None else math.nan


def health(facts: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Repeat what a look at the samples found (`evaluate.health`), where it was of the weights that are there now."""
    record = facts.get("health") or {}
    if not is_of(record, facts.get("weights")):
        return
    for finding in record.get("findings") or ():
        if isinstance(finding, Mapping) and finding.get("level") in ("ok", "warning", "problem"):
            yield finding["level"], str(finding.get("text"))
