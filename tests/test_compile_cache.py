"""What is compiled is kept for the next process: it compiles less, trains the same bits, and never complains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from reverie.compile_cache import _remove_broken, keep_compilations

CHOICES = {"JAX_COMPILATION_CACHE_DIR": None, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 1.0}

#: Trains a little, and says how many executables came from the cache and how many went into it.
PROGRAM = """
import collections, json, sys
import jax
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event.rsplit("/", 1)[1]]))
import reverie
run = reverie.train("vae", "digits", run=sys.argv[1], steps=20, latent=(2,), hidden=((8,),), batch=20)
sha256 = json.loads((run.path / "checkpoint.json").read_text())["sha256"]
print(json.dumps({"sha256": sha256, "written": counts["cache_misses"], "read": counts["cache_hits"]}))
"""


def train(run: Path, cache: Path) -> dict:
    """Train in a process of its own, which keeps whatever it compiles, however quick, and says nothing on stderr."""
    env = {name: value for name, value in os.environ.items() if name not in CHOICES}
    env |= {"REVERIE_CACHE": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(run)], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "xla").glob("*-cache"))


@pytest.mark.slow
def test_the_next_process_compiles_nothing_and_reaches_the_same_bits_whatever_became_of_the_cache(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    cold = train(tmp_path / "cold", cache)
    before = entries(cache)
    assert cold["written"] == len(before) > 10

    warm = train(tmp_path / "warm", cache)
    assert warm["written"] == 0 and warm["read"] > cold["read"] and entries(cache) == before
    assert warm["sha256"] == cold["sha256"]

    half, empty, stuck = before[:3]
    size = half.stat().st_size
    half.write_bytes(half.read_bytes()[: size // 2])
    empty.write_bytes(b"")
    # A folder in an entry's place can be neither read nor replaced, as on a disk that fails.
    stuck.unlink()
    stuck.mkdir()
    again = train(tmp_path / "again", cache)
    assert again["sha256"] == cold["sha256"]
    assert half.stat().st_size > size // 2 and empty.stat().st_size > 0


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A process in which nothing was chosen; its cache folder, not made yet."""
    before = {name: getattr(jax.config, name.lower()) for name in CHOICES}
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    for name, default in CHOICES.items():
        monkeypatch.delenv(name, raising=False)
        jax.config.update(name.lower(), default)
    keep_compilations.cache_clear()
    with warnings.catch_warnings():
        yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name.lower(), value)
    keep_compilations.cache_clear()


def chosen() -> tuple[str | None, float]:
    folder, seconds = (getattr(jax.config, name.lower()) for name in CHOICES)
    return folder, seconds


def test_the_folder_is_its_owners_alone_and_quick_compilations_are_not_kept(fresh: Path) -> None:
    keep_compilations()
    assert chosen() == (str(fresh / "xla"), 0.3)
    assert (fresh / "xla").stat().st_mode & 0o077 == 0


def test_where_there_can_be_no_folder_nothing_is_kept(fresh: Path) -> None:
    fresh.write_text("where the folder should be")
    keep_compilations()
    assert chosen() == (None, 1.0)


def test_without_a_home_nothing_is_kept(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("REVERIE_CACHE")
    monkeypatch.setattr(Path, "home", homeless)
    keep_compilations()
    assert chosen() == (None, 1.0)


@pytest.mark.parametrize("by", ["environment", "configuration"])
def test_who_chose_a_folder_keeps_it(by: str, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "environment":
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    else:
        jax.config.update("jax_compilation_cache_dir", "own")
    before = chosen()
    keep_compilations()
    assert chosen() == before and not fresh.exists()


def test_only_what_is_new_since_the_last_look_is_read(fresh: Path) -> None:
    keep_compilations()
    old, new = fresh / "xla" / "old-cache", fresh / "xla" / "new-cache"
    for entry in (old, new):
        entry.write_bytes(zlib.compress(bytes(1000))[:-1])
    os.utime(old, (0, 0))
    _remove_broken(fresh / "xla")
    assert old.exists() and not new.exists()


def test_what_cannot_be_read_hides_nothing_that_is_broken(fresh: Path) -> None:
    keep_compilations()
    # So many, as a folder lists them in no order: all the broken ones come first in one of 12,870.
    for name in "abcdefgh":
        (fresh / "xla" / f"{name}-folder-cache").mkdir()
        (fresh / "xla" / f"{name}-broken-cache").write_bytes(b"")
    _remove_broken(fresh / "xla")
    assert not list((fresh / "xla").glob("*-broken-cache")) and len(entries(fresh)) == 8
