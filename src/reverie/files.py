"""Writing a file so that a kill, a full disk or a power cut leaves the old one or the new one, never a mixture.

Every system call goes through this module's `os`, the one seam where the tests inject faults.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReverieError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`: a temporary file beside it, fsync, rename, fsync of the folder.

    Raises:
        ReverieError: for a full disk or a read-only folder; the old file is untouched and no temporary one is left.
    """
    # Named after the process: two that write the same file (evaluations of one run) must not share it.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(temporary, data)
        os.replace(temporary, path)  # noqa: PTH105
        _sync_folder(path.parent)
    except OSError as error:
        remove(temporary)
        raise cannot_write(path, error) from error
    except BaseException:
        remove(temporary)
        raise


def write_making_folder(path: Path, data: bytes) -> None:
    """Make the folder of `path` where there is none, then `write_atomic`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    write_atomic(path, data)


def spoken(path: Path) -> str:
    """Return a path as a command should name it: from the current folder where it is inside it, else whole."""
    whole, here = path.resolve(), Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)


def is_of(record: Mapping[str, Any], weights: str | None) -> bool:
    """Say whether what is kept in a run folder is of `weights`, the SHA-256 of its checkpoint (`RunFolder.weights`).

    A record says it by its own ``weights``.  One that does not say is of no weights in particular, and a folder without
    a checkpoint has none to differ from.
    """
    return weights is None or "weights" not in record or record["weights"] == weights


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`; one call to the system may take only a part (a nearly full disk, more than 2 GiB)."""
    rest = memoryview(data)
    while len(rest):
        rest = rest[os.write(descriptor, rest) :]


def remove(path: Path) -> None:
    """Delete a file if that can be done; one that stays behind does no harm."""
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108


def cannot_write(path: Path, error: OSError) -> ReverieError:
    """Return the one line for a file that could not be written."""
    if error.errno in _FULL:
        return ReverieError(f"{path}: the disk is full; what was saved before is kept; free some space and go on")
    if error.errno in _READ_ONLY:
        return ReverieError(f"{path}: no permission to write there; make the folder writable or choose another one")
    return ReverieError(f"{path}: cannot be written ({error.strerror or error}); what was saved before is kept")


def read_json(path: Path, newest: int = 1) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None where there is no file.

    Raises:
        ReverieError: when it cannot be read, is damaged, or has a ``format`` newer than `newest`.
    """
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ReverieError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("format", newest), int):
        raise ReverieError(f"{path}: damaged, it is not the JSON that reverie wrote; put a copy of it back")
    if record.get("format", newest) > newest:
        raise ReverieError(
            f"{path}: format {record['format']} was written by a newer reverie (this one reads up to {newest}); "
            "upgrade reverie to use it"
        )
    return record


def to_json(record: Any, indent: int | None = None) -> bytes:
    """Return `record` as JSON and a newline; arrays become lists, records their `to_json`, undefined numbers null."""
    return (json.dumps(_plain(record), indent=indent, allow_nan=False) + "\n").encode()


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Return an .npz file; NumPy's own writer would take an array called ``file`` for where to write."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            array = np.asarray(value)
            if array.dtype.hasobject:
                raise ValueError(f"{name}: an array of objects cannot be stored")
            entry = zipfile.ZipInfo(f"{name}.npy")  # its time is 1980, whatever the clock says
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    if hasattr(value, "to_json"):
        value = value.to_json()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; the rename is done all the same.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(descriptor)
