"""The run folder: made once, held by one, never overwritten, and every refusal is one line that says what to do."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reverie import files
from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.files import is_of
from reverie.train import checkpoint, folder, provenance
from reverie.train.folder import RunFolder, list_runs
from reverie.train.journal import Journal


def refused(*words: str) -> Any:
    """Expect a `ReverieError` of one line with these words in this order."""
    return pytest.raises(ReverieError, match=r"\A[^\n]*" + r"[^\n]*".join(map(re.escape, words)) + r"[^\n]*\Z")


def content(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def trained(run: RunFolder) -> RunFolder:
    run.update(model="vae", seed=0)
    checkpoint.save(run.path, 1, {"w": jnp.zeros(3)})
    return run


# --- making ----------------------------------------------------------------------------------------------------------


def test_what_was_said_of_other_weights_is_not_read(tmp_path: Path) -> None:
    run = RunFolder.create("vae", "toy", path=tmp_path / "run")
    run.add_evaluation("test/exact", {"log_likelihood": {"value": -1.0}})
    assert run.weights is None and list(run.evaluations()) == ["test/exact"], "of no weights in particular"
    run.checkpoint_json.write_text(json.dumps({"format": 1, "sha256": "first"}))
    assert run.add_evaluation("test/elbo", {"log_likelihood": {"value": -2.0}})["weights"] == "first"
    assert list(run.evaluations()) == ["test/exact", "test/elbo"]
    run.checkpoint_json.write_text(json.dumps({"format": 1, "sha256": "second"}))
    assert run.weights == "second" and list(run.evaluations()) == ["test/exact"]
    found = [is_of(record, "second") for record in ({"weights": "second"}, {"weights": "first"}, {"weights": None}, {})]
    assert found == [True, False, False, True] and is_of({"weights": "first"}, None)


def test_runs_are_numbered_on() -> None:
    made = [RunFolder.create("vae", "digits").path for _ in range(2)]
    assert made == [Path("runs/vae-digits-1"), Path("runs/vae-digits-2")]
    made[0].joinpath("run.lock").unlink()
    made[0].rmdir()
    assert RunFolder.create("vae", "digits").path == Path("runs/vae-digits-3")
    assert RunFolder.create("vae", "my data/é (2)").path == Path("runs/vae-my-data-é-2-1")
    assert RunFolder.create("vae", "digits", root="elsewhere").path == Path("elsewhere/vae-digits-1")


def test_two_processes_never_get_the_same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all had looked before any had made its folder."""
    monkeypatch.setattr(folder, "_last_number", lambda root, stem: 0)
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(RunFolder.create("vae", "d").path)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [Path(f"runs/vae-d-{n}") for n in range(1, 9)]


def test_a_folder_with_a_checkpoint_is_not_trained_over() -> None:
    run = trained(RunFolder.create("vae", "digits", path="here/mine"))
    before = content(run.path)
    with refused("here/mine", "has a checkpoint", "reverie resume here/mine"):
        RunFolder.create("vae", "digits", path="here/mine")
    assert content(run.path) == before


def test_a_folder_without_a_checkpoint_starts_over() -> None:
    run = RunFolder.create("vae", "digits", path="mine")
    run.update(model="vae", seed=0)
    run.add_evaluation("test/x", {}, {"values": np.zeros(2)})
    Journal(run.metrics).append({"step": 1})
    for left in (
        "report.html",
        "data.npz",
        "diagnoses.json",
        "checkpoint-5.safetensors",
        ".run.json.7.tmp",
        "my notes.txt",
    ):
        run.path.joinpath(left).write_text("left")
    again = RunFolder.create("iwae", "digits", path="mine")
    assert content(again.path) == {"my notes.txt": b"left", "run.lock": b""}
    assert again.update(model="iwae") == {"format": 1, "model": "iwae"}


def test_an_empty_folder_is_taken_and_a_full_one_is_not() -> None:
    Path("empty").mkdir()
    assert RunFolder.create("vae", "digits", path="empty").path == Path("empty")
    Path("thesis").mkdir()
    for name, text in (("data.npz", "mine"), ("run.json", '{"format": "mine"}')):
        Path("thesis", name).write_text(text)
        with refused("thesis", "neither empty nor a run folder", "name a new folder"):
            RunFolder.create("vae", "digits", path="thesis")
        assert Path("thesis", name).read_text() == text
    Path("file").write_text("")
    for path in ("file", "file/run", "file/deep/run"):
        with refused(path, "is a file", "name a"):
            RunFolder.create("vae", "digits", path=path)


def test_a_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with refused("runs/vae-d-1", "no permission"):
        RunFolder.create("vae", "d")


# --- holding ---------------------------------------------------------------------------------------------------------

HOLD = """
    import sys, time
    from reverie.train.folder import RunFolder
    with RunFolder(sys.argv[1]).lock():
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    RunFolder.create("vae", "digits", path="mine")
    command = [sys.executable, "-c", textwrap.dedent(HOLD), "mine"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_named_and_its_end_lets_go(holder: subprocess.Popen[str]) -> None:
    run = RunFolder("mine")
    for attempt in (lambda: run.lock().__enter__(), lambda: RunFolder.create("vae", "digits", path="mine")):
        with refused("mine", f"in use by process {holder.pid}", "wait for it or stop it"):
            attempt()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with run.lock():
        assert run.lock_file.read_text() == f"{os.getpid()}\n"
    assert run.lock_file.read_bytes() == b""


def test_a_lock_is_let_go_after_an_error_and_changes_no_byte() -> None:
    run = trained(RunFolder.create("vae", "digits", path="mine"))
    before = content(run.path)
    with pytest.raises(ZeroDivisionError), run.lock():
        _ = 1 / 0
    with run.lock(), refused("in use by process"):
        run.lock().__enter__()
    assert content(run.path) == before
    with refused("nowhere", "no such run folder"):
        RunFolder("nowhere").lock().__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written() -> None:
    run = trained(RunFolder.create("vae", "digits", path="mine"))
    run.lock_file.chmod(0o444)
    run.path.chmod(0o555)
    try:
        for attempt in (lambda: run.lock().__enter__(), lambda: run.update(a=1), lambda: run.save_arrays("a")):
            with refused("mine", "no permission"):
                attempt()
    finally:
        run.path.chmod(0o755)


# --- reading and writing ---------------------------------------------------------------------------------------------


def test_run_json_is_kept_up() -> None:
    run = RunFolder.create("vae", "digits")
    run.update(model="vae", status="running", loss=float("nan"), segments=({"path": Path("a")},))
    assert run.update(status="finished")["status"] == "finished"
    wanted = {"format": 1, "model": "vae", "status": "finished", "loss": None, "segments": [{"path": "a"}]}
    assert run.read() == json.loads(run.run_json.read_text()) == wanted


def test_what_is_no_run_is_said_in_one_line() -> None:
    trained(RunFolder.create("mem-vae", "digits"))
    for name in ("mem-vae-digit-1", "runs/mem-vea-digits-1"):
        with refused(name, "no such run folder", "did you mean 'runs/mem-vae-digits-1'?"):
            RunFolder(name).read()
    with refused("xyz", "no such run folder", "reverie runs"):
        RunFolder("xyz").read()
    Path("photos").mkdir()
    with refused("photos", "not a run folder", "run.json"):
        RunFolder("photos").read()
    with refused("never", "never began"):
        RunFolder.create("vae", "digits", path="never").read()


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "damaged"), ('{"format": 1,', "damaged"), ("[]", "damaged"), ('{"format": 2}', "newer reverie")],
)
def test_a_spoilt_run_json(text: str, words: str) -> None:
    run = trained(RunFolder.create("vae", "digits"))
    run.run_json.write_text(text)
    with refused("run.json", words):
        run.read()
    with refused("run.json", words):
        run.update(status="finished")
    assert run.run_json.read_text() == text
    run.evaluation.write_text("{")
    with refused("evaluation.json", "damaged"):
        run.evaluations()


def test_evaluations_are_added() -> None:
    run = RunFolder.create("vae", "digits")
    assert run.evaluations() == {}
    estimate = Estimate.of_rows(np.array([-1.0, -2.0]), kind="lower_bound", estimator="importance-5")
    values = {"values": np.array([-1.0, -2.0], np.float32), "indices": np.arange(2)}
    stored = run.add_evaluation("test/importance-5", {"log_likelihood": estimate}, values)
    run.add_evaluation("valid/elbo", {"log_likelihood": estimate.to_json()})
    assert stored["rows"] == "arrays/evaluation-test-importance-5.npz"
    assert list(run.evaluations()) == ["test/importance-5", "valid/elbo"]
    assert Estimate.from_json(run.evaluations()["test/importance-5"]["log_likelihood"]) == estimate
    back = run.load_arrays("evaluation-test/importance-5")
    assert back.keys() == values.keys()
    np.testing.assert_array_equal(back["values"], values["values"])


def test_evaluations_of_several_processes_are_all_kept() -> None:
    """Threads of separate `RunFolder`s: flock keeps open files apart, whoever opened them."""
    path = RunFolder.create("vae", "digits").path
    work = [
        threading.Thread(target=lambda n=n: RunFolder(path).add_evaluation(f"test/{n}", {"n": n}, {"a": np.array(n)}))
        for n in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert {key: entry["n"] for key, entry in RunFolder(path).evaluations().items()} == {
        f"test/{n}": n for n in range(8)
    }


named = st.dictionaries(
    st.text("abfile_0", min_size=1, max_size=6),
    hnp.arrays(st.sampled_from([np.float32, np.int64, np.bool_, "U3"]), hnp.array_shapes(min_dims=0, min_side=0)),
    max_size=3,
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=named)
def test_arrays_come_back(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    run = RunFolder(tmp_path)
    first = run.save_arrays("units", **arrays).read_bytes()
    back = run.load_arrays("units")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
    assert run.save_arrays("units", **arrays).read_bytes() == first
    assert run.array_names() == ["units"]


def test_arrays_that_are_refused() -> None:
    run = RunFolder.create("vae", "digits")
    with pytest.raises(ValueError, match="objects"):
        run.save_arrays("bad", a=np.array([None]))
    assert run.array_names() == []
    run.save_arrays("samples", file=np.zeros(1), name=np.zeros(2))
    assert run.load_arrays("samples").keys() == {"file", "name"}
    with refused("arrays/sample.npz", "did you mean 'samples'?"):
        run.load_arrays("sample")
    whole = run.arrays.joinpath("samples.npz").read_bytes()
    for spoilt in (whole[:-30], b"", b"nothing"):
        run.arrays.joinpath("samples.npz").write_bytes(spoilt)
        with refused("samples.npz", "damaged"):
            run.load_arrays("samples")
    assert run.save_arrays("../../out", a=np.zeros(1)).resolve().parent == run.arrays.resolve()


def test_a_full_disk_keeps_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(RunFolder.create("vae", "digits"))
    run.add_evaluation("test/x", {"n": 1}, {"a": np.zeros(3)})
    before = content(run.path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    writes = (lambda: run.update(a=1), lambda: run.add_evaluation("test/x", {"n": 2}), lambda: run.save_arrays("b"))
    for write in writes:
        with refused("the disk is full"):
            write()
    assert content(run.path) == before


def test_runs_are_listed_in_natural_order() -> None:
    assert list_runs() == []
    for name in ("runs/vae-d-10", "runs/vae-d-2", "runs/five/seed-0", "runs/five/seed-1"):
        trained(RunFolder.create("vae", "d", path=name))
    Path("runs/other").mkdir()
    found = [str(run.path) for run in list_runs()]
    assert found == ["runs/five/seed-0", "runs/five/seed-1", "runs/vae-d-2", "runs/vae-d-10"]


# --- provenance ------------------------------------------------------------------------------------------------------


def test_provenance_names_versions_and_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    record = folder.provenance()
    assert set(record["versions"]) >= {"reverie", "jax", "jaxlib", "numpy", "equinox", "optax", "python"}
    assert record["versions"]["numpy"] == np.__version__
    assert re.search(r"\(\d+ cores?\)", record["hardware"])
    text = json.dumps(record)
    assert not re.search(r"(/[\w.-]+){2,}", text), "a path of this machine"
    monkeypatch.setenv("PATH", "")
    assert folder.provenance()["commit"] is None


def test_the_commit_says_when_the_source_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Neither the person's own configuration nor a hook that runs these tests has a say.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    source = tmp_path / "src" / "reverie"
    source.mkdir(parents=True)
    assert provenance.commit(tmp_path) is None
    (source / "a.py").write_text("a = 1\n")
    git("init")
    assert provenance.commit(tmp_path) is None
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first")
    clean = provenance.commit(tmp_path)
    assert clean is not None and re.fullmatch(r"[0-9a-f]{40}", clean)
    (tmp_path / "notes").write_text("not source")
    assert provenance.commit(tmp_path) == clean
    (source / "a.py").write_text("a = 2\n")
    assert provenance.commit(tmp_path) == f"{clean}-dirty"
