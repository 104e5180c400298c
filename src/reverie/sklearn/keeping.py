"""A fitted model: a run folder with nothing in it but the weights that count, and the same folder as bytes.

What is pickled of an estimator is JSON and safetensors in the run's own form, which `load` reads and checks as it does
any run: its checkpoint names the SHA-256 of the weights.  Training rows are not among it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

import equinox as eqx

from reverie.run import Run, load
from reverie.train import checkpoint
from reverie.train.folder import RunFolder

#: What makes a model again: how it was trained, its weights, and of an energy what is known of log Z.
_RUN, _LOG_Z = "run.json", "log_z.json"


def workplace() -> Path:
    """Return a new temporary folder; `belongs` says how long it stays."""
    return Path(tempfile.mkdtemp(prefix="reverie-"))


def belongs(folder: Path, run: Run) -> Run:
    """Have a temporary folder go when its run is no longer used, or the program ends."""
    weakref.finalize(run, _remove, folder, os.getpid())
    return run


def _remove(folder: Path, owner: int) -> None:
    # A forked process has the run too, and would take the folder from under its parent.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def slim(run: Run) -> Run:
    """Return the run in a temporary folder of its own with the weights that count alone, its model already built."""
    found = unpacked(packed(run))
    found._trained = run._trained
    return found


def packed(run: Run) -> dict[str, bytes]:
    """Return the files that make the model again, by name."""
    place = workplace()
    try:
        meta = dict(checkpoint.peek(run.path) or {})
        extra = {name: meta[name] for name in ("stage", "before", "kept_step", "kept_score", "seconds", "total_step")}
        # The optimisers' states and the weights of the last step are for those who go on training.
        checkpoint.save(place, meta["step"], {"kept": eqx.filter(run.model, eqx.is_array)}, extra)
        files = {path.name: path.read_bytes() for path in sorted(place.iterdir())}
    finally:
        shutil.rmtree(place, ignore_errors=True)
    more = {name: run.path / name for name in (_RUN, _LOG_Z)}
    return files | {name: path.read_bytes() for name, path in more.items() if path.exists()}


def unpacked(files: Mapping[str, bytes]) -> Run:
    """Return the run of `packed`, in a temporary folder of its own."""
    place = workplace()
    for name, data in files.items():
        (place / Path(name).name).write_bytes(data)
    return belongs(place, load(place))


def new_folder(path: str | Path | None, model: str) -> Path:
    """Return where to train: the next ``<model>-rows-<n>`` in `path`, or a temporary folder."""
    return workplace() / "run" if path is None else RunFolder.create(model, "rows", root=path).path
