"""Runs that cannot be lost: whatever happens to a run's folder, disk or data is one clear line, and nothing is gone."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import reverie
from reverie import files
from reverie.errors import Interrupted, ReverieError

TINY: dict[str, Any] = {"hidden": ((8,),), "latent": (2,), "steps": 30}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run on digits, one stopped at its first checkpoint, and one on a file."""
    root = tmp_path_factory.mktemp("runs")
    reverie.train("vae", "digits", run=root / "whole", **TINY)
    with pytest.raises(Interrupted):
        reverie.train("vae", "digits", run=root / "cut", minutes=0.0, **TINY)
    np.save(root / "rows.npy", np.random.default_rng(0).normal(size=(60, 4)))
    reverie.train("vae", str(root / "rows.npy"), run=root / "file", batch=10, **TINY)
    return {path.stem: path for path in root.iterdir()}


@pytest.fixture
def copy(made: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a copy of a run that may be spoilt."""
    return lambda name: Path(shutil.copytree(made[name], tmp_path / name))


def refused(call: Callable[[], Any], *words: str) -> None:
    """Insist that `call` is refused by one line with these words."""
    with pytest.raises(ReverieError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def weights(folder: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(reverie.load(folder).model) if hasattr(leaf, "shape")]


def meta(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "checkpoint.json").read_text())


def resumes_to_the_whole(folder: Path, whole: Path) -> bool:
    reverie.load(folder).resume()
    return meta(folder)["sha256"] == meta(whole)["sha256"] and reverie.load(folder).record["status"] == "finished"


class FullDisk:
    """Stands for the module `os`; once `folder` has a checkpoint, so many more writes fit on the disk."""

    def __init__(self, folder: Path, left: int) -> None:
        self.folder, self.left, self.refusals = folder, left, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: Any) -> int:
        if (self.folder / "checkpoint.json").exists():
            if self.left <= 0:
                self.refusals += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.left -= 1
        return os.write(descriptor, data)


# After the first checkpoint come three lines of the journal, the last checkpoint's two files, and run.json.
@pytest.mark.parametrize("left", [0, 2, 3, 4, 5])
def test_a_disk_that_fills_while_training(
    left: int, made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, folder = FullDisk(tmp_path / "run", left), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", disk)
        refused(lambda: reverie.train("vae", "digits", run=folder, **TINY), str(folder), "the disk is full", "kept")
    assert disk.refusals
    assert all(np.isfinite(leaf).all() for leaf in weights(folder)), "a checkpoint is there and loads"
    assert not list(folder.rglob("*.tmp"))
    assert resumes_to_the_whole(folder, made["whole"])
    assert [line["step"] for line in reverie.load(folder).journal()] == [13, 26, 30]


def test_a_disk_that_is_full_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    # A folder beside that has a checkpoint: there is no room from the first write on.
    (tmp_path / "checkpoint.json").touch()
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", FullDisk(tmp_path, 0))
        refused(lambda: reverie.train("vae", "digits", run=folder, **TINY), str(folder), "the disk is full")
    assert reverie.train("vae", "digits", run=folder, **TINY).record["status"] == "finished"


def test_a_disk_that_fills_while_evaluating(copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy("whole")
    reverie.load(folder).evaluate(samples=3)
    before = content(folder)
    for left in (0, 1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", FullDisk(folder, left))
            refused(lambda: reverie.load(folder).evaluate(samples=2), str(folder), "the disk is full")
        now = content(folder)
        assert now.items() >= before.items(), "what was there is there"
    assert set(reverie.load(folder).folder.evaluations()) == {"test/importance-3"}
    reverie.load(folder).evaluate(samples=2)
    assert set(reverie.load(folder).folder.evaluations()) == {"test/importance-3", "test/importance-2"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(copy: Callable[[str], Path], made: dict[str, Path], tmp_path: Path) -> None:
    folder, locked = copy("cut"), tmp_path / "locked"
    locked.mkdir()
    before = content(folder)
    for path in (locked, folder / "run.lock", folder):
        path.chmod(0o555)
    try:
        new = lambda: reverie.train("vae", "digits", run=locked / "run", **TINY)  # noqa: E731
        for attempt in (new, reverie.load(folder).resume, lambda: reverie.load(folder).evaluate(samples=2)):
            refused(attempt, "no permission to write there")
        assert reverie.load(folder).sample(2).shape == (2, 8, 8), "what writes nothing works"
    finally:
        for path in (locked, folder, folder / "run.lock"):
            path.chmod(0o755)
    assert content(folder) == before
    assert resumes_to_the_whole(folder, made["whole"])


@pytest.mark.parametrize("how", ["truncated", "altered", "missing"])
def test_a_checkpoint_that_was_spoilt(how: str, copy: Callable[[str], Path], made: dict[str, Path]) -> None:
    folder = copy("cut")
    arrays = folder / meta(folder)["file"]
    good = arrays.read_bytes()
    if how == "missing":
        arrays.unlink()
    else:
        arrays.write_bytes(good[:-100] if how == "truncated" else good[:-100] + bytes(100))
    before = content(folder)
    words = ("missing, though" if how == "missing" else "truncated or altered", "put a copy of it back")
    for attempt in (
        lambda: reverie.load(folder).model,
        lambda: reverie.load(folder).evaluate(samples=2),
        lambda: reverie.train("vae", "digits", run=folder.parent / "on", init_from=folder, **TINY),
    ):
        refused(attempt, arrays.name, *words)
    assert content(folder) == before and not (folder.parent / "on").exists()
    refused(reverie.load(folder).resume, arrays.name, *words)
    arrays.write_bytes(good)
    assert resumes_to_the_whole(folder, made["whole"])


def test_a_checkpoint_json_that_was_spoilt(copy: Callable[[str], Path], made: dict[str, Path]) -> None:
    folder = copy("cut")
    good = (folder / "checkpoint.json").read_text()
    for text, words in (
        (good[: len(good) // 2], "damaged"),
        (json.dumps({**json.loads(good), "format": 2}), "was written by a newer reverie"),
    ):
        (folder / "checkpoint.json").write_text(text)
        for attempt in (lambda: reverie.load(folder).model, reverie.load(folder).resume):
            refused(attempt, "checkpoint.json", words)
        # Nor is it trained over, as if there were no checkpoint.
        refused(lambda: reverie.train("vae", "digits", run=folder, **TINY), "reverie resume")
    (folder / "checkpoint.json").write_text(good)
    assert resumes_to_the_whole(folder, made["whole"])


def test_data_that_are_gone_or_changed(copy: Callable[[str], Path], made: dict[str, Path]) -> None:
    folder, rows = copy("file"), made["rows"]
    good, before = rows.read_bytes(), content(folder)
    asks = [lambda: reverie.load(folder).evaluate(samples=2), lambda: reverie.load(folder).resume(epochs=20)]
    try:
        for spoil, words in (
            (rows.unlink, "no file or folder"),
            (lambda: np.save(rows, np.load(rows, allow_pickle=False) * 2.0), "the data have changed since"),
            (lambda: rows.write_bytes(good[:300]), "damaged"),
        ):
            rows.write_bytes(good)
            spoil()
            for ask in asks:
                refused(ask, str(rows), words)
            # What a model must know of its data is in its folder.
            assert reverie.load(folder).sample(2).shape == (2, 4)
            assert np.isfinite(reverie.load(folder).score(np.zeros((3, 4)), samples=2).values).all()
        assert content(folder) == before
    finally:
        rows.write_bytes(good)
    assert np.isfinite(asks[0]()["log_likelihood"].value)
    assert asks[1]().record["status"] == "finished"


def test_going_on_from_another_models_run(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("whole")
    before = content(folder)
    for other in ({"latent": (3,)}, {"hidden": ((9,),)}):
        settings = {**TINY, **other}
        refused(
            lambda settings=settings: reverie.train("vae", "digits", init_from=folder, **settings),
            "init-from", "does not fit", "give the same widths",
        )  # fmt: skip
    refused(lambda: reverie.train("vae", "digits", init_from=tmp_path / "nowhere", **TINY), "nowhere", "no such run")
    assert content(folder) == before
    assert not (tmp_path / "runs").exists(), "no empty run is left behind"


def test_a_run_of_a_newer_format(copy: Callable[[str], Path], made: dict[str, Path]) -> None:
    folder = copy("cut")
    good = (folder / "run.json").read_text()
    (folder / "run.json").write_text(json.dumps({**json.loads(good), "format": 2, "model": "of tomorrow"}))
    before = content(folder)
    refused(lambda: reverie.load(folder), "run.json", "format 2 was written by a newer reverie", "upgrade")
    refused(lambda: reverie.train("vae", "digits", run=folder, **TINY), "has a checkpoint already")
    assert content(folder) == before
    (folder / "run.json").write_text(good)
    assert resumes_to_the_whole(folder, made["whole"])


HOLD = (
    "import sys; from reverie.train.folder import RunFolder\n"
    "with RunFolder(sys.argv[1]).lock():\n    print('held', flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def held(copy: Callable[[str], Path]) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A stopped run that another process writes in."""
    folder = copy("cut")
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield folder, process
        process.kill()


def test_a_folder_in_use_by_another_process(held: tuple[Path, subprocess.Popen[str]], made: dict[str, Path]) -> None:
    folder, process = held
    before = content(folder)
    refused(reverie.load(folder).resume, str(folder), f"in use by process {process.pid}", "wait for it or stop it")
    assert content(folder) == before
    assert all(np.isfinite(leaf).all() for leaf in weights(folder)), "reading needs no lock"
    process.kill()
    process.wait()
    assert resumes_to_the_whole(folder, made["whole"])
