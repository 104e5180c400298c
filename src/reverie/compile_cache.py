"""What was compiled is kept, so that the next command on the same model starts in a fraction of the time.

JAX keeps its executables itself, once it is told where; a warm cache gives the same bits as a cold one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import warnings
import zlib
from pathlib import Path

import jax

from reverie.data.fetch import cache_folder

#: Seconds of compiling from which an executable is kept: below, reading it back saves nothing that one notices.
WORTH_KEEPING = 0.3

_FOLDER, _SECONDS = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"


@functools.cache
def keep_compilations() -> None:
    """Have JAX keep compiled functions in ``xla`` below the cache folder, for this process from now on.

    Whoever has chosen for himself (``JAX_COMPILATION_CACHE_DIR``, or JAX's own configuration) is left alone, and so is
    a machine where there can be no such folder: nothing is kept then, and nothing is said.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or getattr(jax.config, _FOLDER, None):
        return
    folder = _folder()
    if folder is None:
        return
    _remove_broken(folder)
    # A full or read-only disk, or an entry that another process is just writing: JAX compiles and goes on, which is all
    # that a cache has to do, but would say so on the terminal at every function of every command.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry", UserWarning)
    if _SECONDS.upper() not in os.environ:
        jax.config.update(_SECONDS, WORTH_KEEPING)
    jax.config.update(_FOLDER, str(folder))


def _folder() -> Path | None:
    # RuntimeError: a user without a home.
    with contextlib.suppress(OSError, RuntimeError):
        folder = cache_folder().absolute() / "xla"
        # Its owner's alone: what is read from it is run.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder
    return None


def _remove_broken(folder: Path) -> None:
    """Remove entries that a killed process left half written: JAX never replaces one, and so would compile for ever.

    Only what is younger than the last look is read.
    """
    stamp, now = folder / "looked-at", time.time()
    with contextlib.suppress(OSError):
        since = stamp.stat().st_mtime if stamp.exists() else 0.0
        for entry in folder.glob("*-cache"):
            # One that cannot be read, or that another process has just removed, hides none of the others.
            with contextlib.suppress(OSError):
                # An entry that was being written at the last look may have been cut short since.
                if entry.stat().st_mtime >= since - 1.0 and not _whole(entry):
                    entry.unlink()
        stamp.touch()
        os.utime(stamp, (now, now))


def _whole(entry: Path) -> bool:
    content = entry.read_bytes()
    if content[:1] != b"\x78":
        # Packed by zstandard, where that is installed, which is left to JAX.
        return bool(content)
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(content)
    except zlib.error:
        return False
    return unpacker.eof
