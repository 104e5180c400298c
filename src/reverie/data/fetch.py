"""Published files: found in `REVERIE_DATA` or in the cache, or fetched from one of several mirrors.

What is trusted is the content: every array read from a published file is compared with its known SHA-256, whatever
container it came in (a .gz of another compressor, an uncompressed copy, a rebuilt archive).  Where no SHA-256 of the
arrays is known, a file at hand is trusted as far as its reader can check it, and the data set's notes say so.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from reverie.errors import ReverieError

_GZIP = b"\x1f\x8b"
_TIMEOUT = 30


@dataclass(frozen=True)
class Published:
    """A file that the world can download.

    Attributes:
        folder, name: where it lies below `REVERIE_DATA` or the cache.
        urls: of the file, most reliable first.
        arrays: SHA-256 of the bytes of every array that is read from it, by name; None where it is not known.
        parse: gives those arrays from the file's uncompressed content; a `ReverieError` of its own says what is wrong.
        keep: whether the arrays are worth keeping beside the file, being slow to read (their SHA-256 must be known).
        sha256: of the file as the mirrors give it, where it is known.
        also: other names under which a file with the same content is known.
    """

    folder: str
    name: str
    urls: tuple[str, ...]
    arrays: Mapping[str, str | None]
    parse: Callable[[bytes], dict[str, np.ndarray]]
    keep: bool = False
    sha256: str | None = None
    also: tuple[str, ...] = ()


def cache_folder() -> Path:
    """Return ``REVERIE_CACHE``, or ``~/.cache/reverie``."""
    given = os.environ.get("REVERIE_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "reverie"


def find(file: Published) -> Path | None:
    """Return where the file is: below `REVERIE_DATA` (in its folder or flat) or in the cache, compressed or not."""
    plain = file.name.removesuffix(".gz")
    given = os.environ.get("REVERIE_DATA")
    for root in ([Path(given)] if given else []) + [cache_folder()]:
        for place in (root / file.folder, root):
            for name in dict.fromkeys((file.name, plain, f"{plain}.gz", *file.also)):
                if (place / name).is_file():
                    return place / name
    return None


def is_here(file: Published) -> bool:
    """Say whether the file, or what is read from it, is on this machine."""
    return find(file) is not None or (file.keep and all(_kept(file, name).is_file() for name in file.arrays))


def arrays(file: Published) -> dict[str, np.ndarray]:
    """Return the arrays of a published file, downloading it if it is not here.

    Raises:
        ReverieError: when the file at hand is another one, or none of the mirrors can be reached.
    """
    kept = _load_kept(file)
    if kept is not None:
        return kept
    path = find(file)
    if path is not None:
        try:
            found = _checked(file, _read(path))
        except ReverieError as error:
            raise ReverieError(f"{path}: {error}; replace or remove it") from None
        if found is None:
            raise ReverieError(f"{path}: is not the published file, its content differs; replace or remove it")
    else:
        found = _download(file)
    if file.keep:
        for name, array in found.items():
            _store(_kept(file, name), _npy(array))
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReverieError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def _checked(file: Published, content: bytes) -> dict[str, np.ndarray] | None:
    """Return the arrays if every one is the known one, else None.

    Raises:
        ReverieError: when the file's own reader says what is wrong.
    """
    try:
        while content[:2] == _GZIP:
            content = gzip.decompress(content)
        found = file.parse(content)
    except (ValueError, OSError, EOFError, IndexError, KeyError, TypeError, zlib.error):
        return None
    known = {name: digest for name, digest in file.arrays.items() if digest is not None}
    right = found.keys() == file.arrays.keys() and all(_hash(found[n]) == digest for n, digest in known.items())
    return found if right else None


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _kept(file: Published, name: str) -> Path:
    known = file.arrays[name]
    assert known is not None, f"{file.name}: an array of unknown SHA-256 cannot be kept"
    return cache_folder() / "arrays" / f"{file.folder}-{name}-{known[:16]}.npy"


def _load_kept(file: Published) -> dict[str, np.ndarray] | None:
    found = {}
    for name in file.arrays if file.keep else ():
        try:
            found[name] = np.load(_kept(file, name), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if _hash(found[name]) != file.arrays[name]:
            return None
    return found or None


def _store(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; a cache that cannot be written is no cache, and no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _download(file: Published) -> dict[str, np.ndarray]:
    failures = []
    for url in file.urls:
        host = urlsplit(url).hostname or url
        try:
            content = _fetch(url, file.sha256)
        except Exception as error:
            # A mirror may fail in any way; the next one is asked.
            failures.append(f"{host}: {type(error).__name__}")
            continue
        found = None
        with contextlib.suppress(ReverieError):
            found = _checked(file, content)
        if found is None:
            failures.append(f"{host}: gave another file")
            continue
        _store(cache_folder() / file.folder / Path(urlsplit(url).path).name, content)
        return found
    raise ReverieError(
        f"{file.folder}/{file.name}: is not here and no mirror gave it ({'; '.join(failures)}); "
        f"download {file.urls[0]} and what else of {file.folder} is missing, put the files into a folder and name that "
        "folder in REVERIE_DATA"
    )


def _fetch(url: str, sha256: str | None) -> bytes:
    """Return what `url` gives; the one place that touches the network."""
    import logging

    import pooch

    # Its own log says for every file what reverie says in one line.
    pooch.get_logger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        known = f"sha256:{sha256}" if sha256 else None
        path = pooch.retrieve(url, known, "file", folder, downloader=pooch.HTTPDownloader(timeout=_TIMEOUT))
        return Path(path).read_bytes()
