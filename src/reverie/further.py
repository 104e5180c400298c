"""Going on past a run's plan: whether that is worth it, and whether there is a learning rate left to do it with."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie.errors import ReverieError


def ends(record: Mapping[str, Any]) -> bool:
    """Say whether the learning rate of a recorded run is 0 at the end of its plan, so that more would teach nothing."""
    # Imported when it is wanted: it needs jax.
    from reverie.train.optimise import ends_at_nothing

    return ends_at_nothing(str((record.get("settings") or {}).get("schedule")))


def require_rate(path: Path, record: Mapping[str, Any], epochs: float) -> None:
    """Refuse to go on to `epochs` in total with a run whose schedule has ended at 0 by then.

    Raises:
        ReverieError: saying what to do instead.
    """
    planned = float(record["plan"]["epochs"])
    if epochs <= planned or not ends(record):
        return
    raise ReverieError(
        f"epochs: {path} learns nothing past its {planned:g} epochs, over which its rate falls to 0 (--schedule "
        f"{record['settings']['schedule']}); train anew with --epochs {epochs:g}, or from its weights with --init-from "
        f"{path}"
    )


def hint(run: Any) -> str | None:
    """Return what to do where the validation of a run still rises, None elsewhere."""
    from reverie.evaluate.rising import advice, rise
    from reverie.files import spoken

    found = rise(run.journal())
    return None if found is None else advice(found, shlex.quote(spoken(run.path)), ends(run.record))
