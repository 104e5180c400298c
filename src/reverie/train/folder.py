"""A run is a folder: its files by name, who may write them, and what they must look like to be read."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReverieError, nearest
from reverie.files import cannot_write, is_of, npz_bytes, read_json, remove, to_json, write_atomic
from reverie.train.provenance import provenance

__all__ = ["FORMAT", "RunFolder", "list_runs", "provenance"]

FORMAT = 1
#: What starting over removes: reverie's own files, and nothing that somebody else put there.
_OWN = re.compile(
    r"(run|evaluation(-step-\d+)?|checkpoint|diagnoses|health|log_z)\.json|metrics\.jsonl|report\.html|data\.npz"
    r"|checkpoint-\d+(-next)?\.safetensors|\..+\.tmp|arrays"
)


class RunFolder:
    """The folder of one run; docs/design.md has the table of its files.

    Reading needs no lock: every file is replaced atomically.  Training holds `lock`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.run_json = self.path / "run.json"
        self.checkpoint_json = self.path / "checkpoint.json"
        self.metrics = self.path / "metrics.jsonl"
        self.evaluation = self.path / "evaluation.json"
        self.arrays = self.path / "arrays"
        self.report = self.path / "report.html"
        self.lock_file = self.path / "run.lock"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.checkpoint_json.exists()

    @property
    def is_run(self) -> bool:
        """Whether reverie made this folder, even if it was killed before it wrote anything in it."""
        return self.lock_file.exists() or (self.run_json.exists() and _names_a_model(self.run_json))

    @staticmethod
    def create(model: str, data_name: str, root: str | Path = "runs", path: str | Path | None = None) -> RunFolder:
        """Return a folder to train in: ``<root>/<model>-<data>-<n>`` with the next free n, or `path`.

        A folder whose run never reached a checkpoint is emptied of reverie's files and used again.

        Raises:
            ReverieError: when `path` holds a checkpoint, is in use, is no run folder, or cannot be made.
        """
        if path is not None:
            return _take(RunFolder(path))
        stem = "-".join(re.sub(r"[^\w.]+", "-", part).strip("-") or "data" for part in (model, data_name))
        number = _last_number(Path(root), stem)
        while True:
            number += 1
            folder = RunFolder(Path(root) / f"{stem}-{number}")
            # mkdir is the referee between two processes that chose the same number.
            if _make(folder):
                return folder

    def must_be_fresh(self) -> None:
        """Insist that there is no checkpoint that training from the start would overwrite.

        Raises:
            ReverieError: says how to resume.
        """
        if self.has_checkpoint:
            raise ReverieError(
                f"{self.path}: has a checkpoint already; go on with `reverie resume {self.path}` or name another folder"
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing; the system lets go when the process ends, however it ends.

        Raises:
            ReverieError: when another process holds it (its number is named), or the folder is read-only.
        """
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            raise ReverieError(f"{self.path}: no such run folder{self._suggest()}") from None
        except OSError as error:
            raise cannot_write(self.lock_file, error) from error
        try:
            self._claim(descriptor)
            try:
                yield
            finally:
                # Emptied, so that a finished run that is resumed stays the same to the byte.
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    @property
    def held(self) -> bool:
        """Whether a process is writing here."""
        try:
            with self.lock_file.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _claim(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            number = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            who = f"process {number}" if number.isdigit() else "another process"
            raise ReverieError(f"{self.path}: in use by {who}; wait for it or stop it, then try again") from None
        except OSError as error:
            raise ReverieError(
                f"{self.path}: cannot be locked on this file system ({error.strerror}); use a folder on a local disk"
            ) from error
        # On a full disk the lock holds all the same, without a number to name.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def read(self) -> dict[str, Any]:
        """Return ``run.json``.

        Raises:
            ReverieError: when the folder is missing or no run (the nearest one is named), or the file is damaged or
                of a newer format.
        """
        record = read_json(self.run_json, FORMAT)
        if record is not None:
            return record
        if not self.path.exists():
            raise ReverieError(f"{self.path}: no such run folder{self._suggest()}")
        if self.is_run:
            raise ReverieError(f"{self.path}: has no run.json, its training never began; train into it again")
        raise ReverieError(f"{self.path}: not a run folder, it has no run.json{self._suggest()}")

    def update(self, **fields: Any) -> dict[str, Any]:
        """Set fields of ``run.json``, atomically, and return all of it."""
        with self._turn():
            record = {"format": FORMAT, **(read_json(self.run_json, FORMAT) or {}), **fields}
            write_atomic(self.run_json, to_json(record, indent=1))
        return record

    @property
    def weights(self) -> str | None:
        """The SHA-256 of the checkpoint, by which what is said of weights says of which; None without a checkpoint."""
        return (read_json(self.checkpoint_json) or {}).get("sha256")

    def evaluations(self) -> dict[str, Any]:
        """Return what ``evaluation.json`` has of the weights that are there now: ``<split>/<estimator>`` to records."""
        weights = self.weights
        found = (read_json(self.evaluation) or {}).items()
        return {key: entry for key, entry in found if not isinstance(entry, Mapping) or is_of(entry, weights)}

    def put_evaluations_by(self, step: int) -> None:
        """Keep what was said of the weights of a step as ``evaluation-step-<n>.json``: of later ones it is not true."""
        with self._turn():
            if self.evaluation.exists():
                self.evaluation.replace(self.path / f"evaluation-step-{step}.json")

    def add_evaluation(
        self, key: str, record: Mapping[str, Any], rows: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, Any]:
        """Add or replace one evaluation, and return it as stored.

        Args:
            key: ``<split>/<estimator>``.
            record: certified records (`Estimate` or its JSON) by metric.
            rows: per-row arrays (``values``, ``variances``, ``indices``), stored beside under ``arrays/``.
        """
        stored = dict(record) if self.weights is None else {**record, "weights": self.weights}
        if rows is not None:
            stored["rows"] = str(self.save_arrays(f"evaluation-{key}", **rows).relative_to(self.path))
        with self._turn():
            write_atomic(self.evaluation, to_json({**self.evaluations(), key: stored}, indent=1))
        return dict(self.evaluations()[key])

    def array_names(self) -> list[str]:
        """Return the names that `load_arrays` knows."""
        return sorted(path.stem for path in self.arrays.glob("*.npz") if not path.name.startswith("."))

    def save_arrays(self, name: str, /, **arrays: Any) -> Path:
        """Write ``arrays/<name>.npz`` atomically, without objects, the same bytes for the same arrays."""
        path = self._array_path(name)
        data = npz_bytes(arrays)
        with self._turn():
            try:
                self.arrays.mkdir(exist_ok=True)
            except OSError as error:
                raise cannot_write(self.arrays, error) from error
            write_atomic(path, data)
        return path

    def load_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of ``arrays/<name>.npz``.

        Raises:
            ReverieError: when the file is missing or damaged.
        """
        path = self._array_path(name)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except FileNotFoundError:
            known = self.array_names()
            raise ReverieError(f"{path}: no such arrays{nearest(path.stem, known)}") from None
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile):
            raise ReverieError(f"{path}: damaged or no .npz; delete it and compute it again") from None

    def _array_path(self, name: str) -> Path:
        return self.arrays / f"{re.sub(r'[^-+.=,%0-9A-Za-z_]', '-', name).lstrip('.')}.npz"

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Let processes that change a file of this folder do so one after the other; not to be nested."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            raise ReverieError(f"{self.path}: no such run folder{self._suggest()}") from None
        try:
            # A network file system may not lock folders; files are still replaced whole.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _suggest(self) -> str:
        places = {str(run.path) for root in (self.path.parent, Path("runs")) for run in list_runs(root)}
        return nearest(str(self.path), sorted(places - {str(self.path)})) or "; see `reverie runs`"


def list_runs(root: str | Path = "runs") -> list[RunFolder]:
    """Return `root` if it is a run and those two folders deep in it (``train --seeds`` nests), in natural order."""
    patterns = ("run.json", "*/run.json", "*/*/run.json")
    found = {path.parent for pattern in patterns for path in Path(root).glob(pattern)}
    return [RunFolder(path) for path in sorted(found, key=_natural)]


def _take(folder: RunFolder) -> RunFolder:
    """Return an existing folder, emptied of what a run without a checkpoint left, or make it."""
    if _make(folder):
        return folder
    if not folder.path.is_dir():
        raise ReverieError(f"{folder.path}: is a file; name a folder for the run")
    if any(folder.path.iterdir()) and not folder.is_run:
        raise ReverieError(f"{folder.path}: neither empty nor a run folder; name a new folder for the run")
    folder.must_be_fresh()
    with folder.lock():
        folder.must_be_fresh()
        for path in sorted(folder.path.iterdir()):
            if not _OWN.fullmatch(path.name):
                continue
            for file in path.glob("*.npz") if path.is_dir() else (path,):
                remove(file)
    return folder


def _make(folder: RunFolder) -> bool:
    """Make the folder, marked as a run's; return False where it exists already."""
    try:
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        folder.path.mkdir()
        folder.lock_file.touch()
    except FileExistsError:
        if folder.path.parent.is_dir():
            return False
        raise ReverieError(f"{folder.path}: {folder.path.parent} is a file; name another folder") from None
    except NotADirectoryError:
        raise ReverieError(f"{folder.path}: a part of this path is a file; name another folder") from None
    except OSError as error:
        raise cannot_write(folder.path, error) from error
    return True


def _last_number(root: Path, stem: str) -> int:
    numbers = [re.fullmatch(rf"{re.escape(stem)}-(\d+)", path.name) for path in root.glob(f"{stem}-*")]
    return max((int(found[1]) for found in numbers if found), default=0)


def _natural(path: Path) -> list[Any]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _names_a_model(run_json: Path) -> bool:
    try:
        record = read_json(run_json, FORMAT) or {}
    except ReverieError:
        return False
    return "format" in record and "model" in record
