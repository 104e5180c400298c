"""What training tells while it runs, and what it leaves in the hand of whoever stopped it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reverie
from reverie.errors import Interrupted, ReverieError
from reverie.listing import described
from reverie.progress import Quiet
from reverie.train.folder import RunFolder


class Listener(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_what_was_understood_is_said_and_a_stopped_run_is_named_and_goes_on(tmp_path: Path) -> None:
    listener, folder = Listener(), tmp_path / "a folder; of my own"
    with pytest.raises(Interrupted) as stopped:
        reverie.train("vae", "digits", run=folder, minutes=1e-9, latent=(2,), hidden=((8,),), progress=listener)
    assert stopped.value.run == folder and f"reverie resume {folder}" in str(stopped.value)
    run = reverie.load(folder)
    assert run.record["status"] == "stopped"
    assert tuple(listener.said) == run.data.notes and any("1,797 rows" in note for note in listener.said)


def test_the_same_call_finishes_several_seeds_that_were_stopped(tmp_path: Path) -> None:
    tiny = {"latent": (2,), "hidden": ((8,),), "valid_samples": 2}
    with pytest.raises(Interrupted):
        reverie.train("vae", "digits", run=tmp_path / "many", seeds=2, steps=40, minutes=1e-9, **tiny)
    runs = reverie.train("vae", "digits", run=tmp_path / "many", seeds=2, steps=40, **tiny)
    assert isinstance(runs, list) and [run.record["seed"] for run in runs] == [0, 1]
    assert [run.record["status"] for run in runs] == ["finished"] * 2 and len(runs[0].record["segments"]) == 2
    with pytest.raises(ReverieError, match="made with another latent; give the same command"):
        reverie.train("vae", "digits", run=tmp_path / "many", seeds=2, steps=40, **{**tiny, "latent": (3,)})


def test_a_run_whose_process_is_gone_is_not_called_running(tmp_path: Path) -> None:
    run = reverie.train("vae", "digits", run=tmp_path / "run", steps=5, latent=(2,), hidden=((8,),), valid_samples=2)
    folder = RunFolder(run.path)
    folder.update(status="running")
    assert described(folder)["status"] == "killed"
    with folder.lock():
        assert described(folder)["status"] == "running"


def test_what_was_said_of_earlier_weights_is_not_said_of_later_ones(tmp_path: Path) -> None:
    tiny = {"latent": (2,), "hidden": ((8,),), "valid_samples": 2}
    run = reverie.train("vae", "digits", run=tmp_path / "run", epochs=1, **tiny)
    assert isinstance(run, reverie.Run)
    before = run.evaluate(samples=5, rows=50)["log_likelihood"]
    told = (run.path / "evaluation.json").read_bytes()
    # Nothing is left to do, so that it holds still.
    assert list(run.resume().folder.evaluations()) == list(run.folder.evaluations()) != []
    steps = run.record["segments"][-1]["to_step"]
    listener = Listener()
    later = run.resume(epochs=2, progress=listener)
    assert listener.said[0] == f"going on from step {steps} of {2 * steps} (epoch 1 of 2)"
    assert later.folder.evaluations() == {} and described(later.folder)["test"] is None
    assert (run.path / f"evaluation-step-{steps}.json").read_bytes() == told
    after = later.evaluate(samples=5, rows=50)["log_likelihood"]
    assert after.value != before.value and len(later.folder.evaluations()) == 1


def test_few_rows_cost_the_report_one_section_and_not_the_page(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 2, (60, 6))
    np.savez(tmp_path / "few.npz", train=rows[:30], valid=rows[30:45], test=rows[45:])
    run = reverie.train("gan", tmp_path / "few.npz", run=tmp_path / "run", epochs=2, hidden=(8,), latent=2,
                        discriminator_hidden=(8,), batch=10)  # fmt: skip
    assert isinstance(run, reverie.Run)
    with pytest.raises(ReverieError, match="health: 15 rows to compare are too few to tell; have 20 or more"):
        run.health()
    assert run.report().exists() and not (run.path / "health.json").exists()


def test_names_and_help_are_where_one_looks() -> None:
    assert {"train", "load", "Run"} <= set(dir(reverie)) and "Any" not in dir(reverie)
    assert "samples" in (reverie.Run.evaluate.__doc__ or "") + (reverie.Run.impute.__doc__ or "")
