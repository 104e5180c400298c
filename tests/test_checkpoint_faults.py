"""A checkpoint survives whatever happens while it is written: a fault, or the process's end, at every system call."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from reverie import files
from reverie.errors import ReverieError
from reverie.train import checkpoint
from reverie.train.checkpoint import load, peek, save, state_hash

_CALLS = ("open", "write", "fsync", "close", "replace", "unlink")


class Killed(BaseException):
    """The process is gone: nothing it would have done afterwards happens, not even its clean-up."""


class FaultyOs:
    """Stands for the module `os`; counts the system calls that change something, and spoils one.

    Args:
        at: which call, from 0; None spoils none.
        how: ``fail`` raises `error` instead of the call; ``kill-before`` and ``kill-after`` end the process there;
            ``kill-within`` ends it with half of a write done (other calls cannot be halved and are not done).
        error: errno of ``fail``.
    """

    def __init__(self, at: int | None = None, how: str = "fail", error: int = errno.ENOSPC) -> None:
        self.at, self.how, self.error = at, how, error
        self.calls: list[str] = []
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in _CALLS:
            return real

        def call(*arguments: Any) -> Any:
            if self.dead:
                raise Killed
            number = len(self.calls)
            self.calls.append(name)
            return real(*arguments) if number != self.at else self._spoil(name, real, arguments)

        return call

    def _spoil(self, name: str, real: Any, arguments: tuple[Any, ...]) -> Any:
        if self.how == "fail":
            if name == "close":
                real(*arguments)  # a failing close closes all the same
            raise OSError(self.error, os.strerror(self.error))
        self.dead = True
        if self.how == "kill-after":
            real(*arguments)
        elif self.how == "kill-within" and name == "write":
            os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
        raise Killed


def state_of(n: int) -> dict[str, Any]:
    weights = jnp.arange(6.0).reshape(2, 3) + n
    return {
        "model": {"w": weights, "half": jnp.full((2,), n, jnp.bfloat16)},
        "step": jnp.array(n),
        "ok": jnp.array(True),
    }


LIKE = state_of(0)


def same(a: Any, b: Any) -> bool:
    """Bit for bit."""
    return jax.tree.structure(a) == jax.tree.structure(b) and state_hash(a) == state_hash(b)


def one_line(error: pytest.ExceptionInfo[ReverieError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


HOWS = ["fail", "kill-before", "kill-after", "kill-within"]


def attempt(folder: Path, faulty: FaultyOs, before: int | None, step: int, value: int) -> str:
    """Save state `value` under a spoilt `os`; say whether the old, the new or no checkpoint is there afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", faulty)
        with contextlib.suppress(Killed, ReverieError):
            save(folder, step, state_of(value), {"value": value})
    if peek(folder) is None:
        assert before is None, "the checkpoint is gone"
        return "none"
    state, extra = load(folder, LIKE)
    assert extra["value"] in (before, value)
    assert same(state, state_of(extra["value"])), "the json and the arrays are of two checkpoints"
    return "new" if extra["value"] == value else "old"


def every_fault(
    root: Path, before: tuple[int, int] | None, step: int, value: int, how: str
) -> Iterator[tuple[Path, str]]:
    """Yield a folder and what is in it, for a fault at each system call of one save."""
    for at in range(200):
        folder = root / f"{how}-{at}"
        folder.mkdir(parents=True)
        if before is not None:
            save(folder, before[0], state_of(before[1]), {"value": before[1]})
        faulty = FaultyOs(at, how)
        yield folder, attempt(folder, faulty, before and before[1], step, value)
        if len(faulty.calls) <= at:
            return
    raise AssertionError("the writer never came to an end")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("before", [None, (1, 1), (2, 1), (2, 2)], ids=["first", "next", "same-step", "same"])
def test_a_fault_at_any_system_call_leaves_a_checkpoint(
    tmp_path: Path, before: tuple[int, int] | None, how: str
) -> None:
    seen = []
    for folder, found in every_fault(tmp_path, before, 2, 2, how):
        seen.append(found)
        if how == "fail":
            assert not any(name.endswith(".tmp") for name in names(folder))
        # And the next save works and leaves nothing else behind.
        save(folder, 3, state_of(3), {"value": 3})
        assert same(load(folder, LIKE)[0], state_of(3))
        assert names(folder) == ["checkpoint-3.safetensors", "checkpoint.json"]
    assert len(seen) > 10, "a writer of so few calls syncs nothing"
    assert seen[-1] == "new"
    assert before == (2, 2) or seen[0] == ("none" if before is None else "old")


def test_a_failed_save_says_so_and_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    save(tmp_path, 1, state_of(1), {"value": 1})
    for code, words in (
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "no permission"),
        (errno.EIO, "cannot be written"),
    ):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ReverieError) as error:
            patch.setattr(files, "os", FaultyOs(1, "fail", code))
            save(tmp_path, 2, state_of(2))
        one_line(error, words, str(tmp_path))
        assert names(tmp_path) == ["checkpoint-1.safetensors", "checkpoint.json"]


def test_a_writer_in_the_wrong_order_would_be_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants: the json before the arrays; arrays of the same name replaced under the json that names the old ones."""

    def json_first(folder: Path, meta: dict[str, Any], data: bytes) -> None:
        files.write_atomic(folder / checkpoint.FILE, files.to_json(meta))
        files.write_atomic(folder / meta["file"], data)

    for name, mutant, before in (("_publish", json_first, (1, 1)), ("_current", lambda folder: {}, (2, 1))):
        with monkeypatch.context() as patch, pytest.raises((ReverieError, AssertionError)):
            patch.setattr(checkpoint, name, mutant)
            for _ in every_fault(tmp_path / name, before, 2, 2, "kill-after"):
                pass


@contextlib.contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow past `size` bytes: the system itself refuses, after writing a part."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    save(tmp_path, 1, {"w": jnp.zeros(10)})
    with disk_of(4096), pytest.raises(ReverieError) as error:
        save(tmp_path, 2, {"w": jnp.zeros(10_000)})
    one_line(error, "disk is full", "checkpoint-2.safetensors")
    assert names(tmp_path) == ["checkpoint-1.safetensors", "checkpoint.json"]
    load(tmp_path, {"w": jnp.zeros(10)})


def test_a_reader_beside_a_writer_always_finds_a_whole_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 0, state_of(0), {"value": 0})

    def write() -> None:
        for n in range(1, 60):
            save(tmp_path, n // 2, state_of(n), {"value": n})

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        state, extra = load(tmp_path, LIKE)
        assert same(state, state_of(extra["value"]))
    writer.join()
    assert load(tmp_path, LIKE)[1]["value"] == 59
