"""What is asked of a trained model, and what it must refuse: missing cells, classes, and being stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import asking, picturing
from reverie.errors import Interrupted, ReverieError
from reverie.progress import Quiet

TINY: dict[str, Any] = {"hidden": ((8,),), "latent": (2,), "batch": 20, "steps": 20}


def table(n: int = 100) -> np.ndarray:
    """Real columns far from [0, 1], which hang together."""
    rng = np.random.default_rng(0)
    return 50.0 + rng.normal(size=(n, 2)) @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(n, 4))


def holed(n: int = 100) -> np.ndarray:
    rows = table(n)
    rows[np.random.default_rng(1).random(rows.shape) < 0.2] = np.nan
    return rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run on whole rows, one on rows with missing cells, one that is told classes."""
    root = tmp_path_factory.mktemp("runs")
    labelled = {"x": table(), "y": np.asarray(["cat", "dog"])[np.arange(100) % 2]}
    reverie.train("vae", table(), run=root / "whole", **TINY)
    reverie.train("vae", holed(), run=root / "holed", **TINY)
    reverie.train("vae", labelled, run=root / "classes", conditional=True, **TINY)
    return {name: root / name for name in ("whole", "holed", "classes")}


ASKED = {
    "score": lambda run, x: run.score(x, samples=3).values,
    "encode": lambda run, x: run.encode(x),
    "evaluate": lambda run, x: np.asarray(run.evaluate(data=x, samples=3)["log_likelihood"].value),
}


@pytest.mark.parametrize("verb", ASKED)
def test_a_missing_cell_is_refused_by_a_model_that_never_saw_one(verb: str, runs: dict[str, Path]) -> None:
    assert np.isfinite(ASKED[verb](reverie.load(runs["whole"]), table()[:8])).all()
    with pytest.raises(ReverieError, match="is missing; fill it first with `impute`") as caught:
        ASKED[verb](reverie.load(runs["whole"]), holed()[:8])
    assert "\n" not in str(caught.value)
    assert np.isfinite(ASKED[verb](reverie.load(runs["holed"]), holed()[:8])).all()


@pytest.mark.parametrize("name", ["whole", "holed"])
def test_missing_cells_are_filled_in_the_same_with_and_without_the_training_data(
    name: str, runs: dict[str, Path]
) -> None:
    rows = holed()[:8]
    without, beside = reverie.load(runs[name]), reverie.load(runs[name])
    assert beside.data.resident, "loads them"
    filled = without.impute(rows, iterations=3)
    assert "data" not in without.__dict__, "impute needs no training rows"
    np.testing.assert_array_equal(filled, beside.impute(rows, iterations=3))
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[~np.isnan(rows)], rows[~np.isnan(rows)])


def test_missing_cells_of_real_columns_start_where_those_columns_are(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in `impute` and in the report: 0 is the mean of a column in the model's units, [0, 1] is not its range."""
    centres = []
    real = asking.imputing.impute

    def spy(*arguments: Any, **how: Any) -> Any:
        centres.append(how["centre"])
        return real(*arguments, **how)

    monkeypatch.setattr(asking.imputing, "impute", spy)
    run = reverie.load(runs["whole"])
    run.impute(holed()[:4], iterations=1)
    picturing.imputation(run)
    assert len(centres) == 2
    for centre in centres:
        np.testing.assert_array_equal(centre, np.zeros(4))


@pytest.mark.parametrize("verb", ["encode", "impute"])
def test_a_class_conditional_model_must_be_told_the_class(verb: str, runs: dict[str, Path]) -> None:
    run, how = reverie.load(runs["classes"]), {"iterations": 1} if verb == "impute" else {}
    with pytest.raises(ReverieError, match=f"{verb} must be told the class .* one of cat, dog") as caught:
        getattr(run, verb)(table()[:4], **how)
    assert "\n" not in str(caught.value)
    cat, dog = (
        getattr(run, verb)(holed()[:4] if verb == "impute" else table()[:4], label=c, **how) for c in ("cat", "dog")
    )
    assert np.isfinite(cat).all() and not np.array_equal(cat, dog)
    with pytest.raises(ReverieError, match="is not class-conditional"):
        getattr(reverie.load(runs["whole"]), verb)(table()[:4], label="cat", **how)


class Signalling(Quiet):
    """Shows nothing, and sends this process a signal when the first rows are done."""

    def __init__(self, number: signal.Signals) -> None:
        self.number, self.told = number, 0

    def task(self, description: str, total: float) -> Signalling:
        return self

    def update(self, done: float, **numbers: float) -> None:
        self.told += 1
        if self.told == 1:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_evaluation_that_is_stopped_goes_on_to_the_same_numbers(
    number: signal.Signals, runs: dict[str, Path]
) -> None:
    run = reverie.load(runs["whole"])
    how: dict[str, Any] = {"split": "train", "samples": 20, "block": 30, "seed": int(number)}
    whole = run.evaluate(**how)["log_likelihood"]
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted, match=r"after 30 of 80 rows; .* the same command goes on"):
        run.evaluate(progress=Signalling(number), **how)
    (partial,) = run.folder.arrays.glob("partial-train-importance-20.npz")
    with np.load(partial, allow_pickle=False) as kept:
        assert kept["values"].shape == (30,)
    # Another number of samples meanwhile neither takes nor loses what is kept.
    run.evaluate("train", samples=3)
    watch = Signalling(signal.SIGCONT)
    again = run.evaluate(progress=watch, **how)["log_likelihood"]
    assert watch.told == 2, "50 rows were left: two blocks"
    assert again == whole and not partial.exists()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_scores_that_are_stopped_say_so(runs: dict[str, Path]) -> None:
    with pytest.raises(Interrupted, match="score: stopped after 8 of 8 rows; the same command"):
        reverie.load(runs["whole"]).score(table()[:8], samples=2, progress=Signalling(signal.SIGTERM))


def test_ctrl_c_ends_a_long_evaluation_with_one_line_and_130(runs: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "reverie", "evaluate", str(runs["whole"]), "--split", "train", "--json"]
    long = subprocess.Popen([*command, "--samples", "2000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    partial, until = runs["whole"] / "arrays" / "partial-train-importance-2000000.npz", time.monotonic() + 240
    while not partial.exists() and long.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    long.send_signal(signal.SIGINT)
    out, err = long.communicate(timeout=240)
    assert long.returncode == 130, (out + err).decode()
    assert "the same command goes on" in json.loads(out)["error"] and "Traceback" not in err.decode()
    assert partial.exists()
    short = subprocess.run([*command, "--samples", "4"], capture_output=True, check=False)
    assert short.returncode == 0, short.stderr.decode()
    assert json.loads(short.stdout)["log_likelihood"]["n"] == 80
    assert partial.exists(), "what was done of the long one is not lost"
