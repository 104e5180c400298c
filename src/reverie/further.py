"""Going on with a run: from where; and past its plan whether that is worth it, and has a learning rate left."""

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


def whence(record: Mapping[str, Any], done: int, total: int, stages: int) -> str:
    """Return from which step a recorded run goes on, and from which epoch where all its steps are of one kind."""
    per_epoch = (record.get("plan") or {}).get("steps_per_epoch") if stages == 1 else None
    # Whole steps make whole epochs only nearly.
    epochs = f" (epoch {round(done / per_epoch, 1):g} of {round(total / per_epoch, 1):g})" if per_epoch else ""
    return f"going on from step {done:,} of {total:,}{epochs}"


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
