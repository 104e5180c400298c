"""What is asked of a trained model, and what it must refuse: missing cells, classes, and being stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import reverie
from reverie import cli, masking, picturing, showing, using
from reverie import data as data_floor
from reverie.data import load
from reverie.data.dataset import Dataset
from reverie.errors import Interrupted, ReverieError, an
from reverie.evaluate import impute as imputing
from reverie.evaluate.baseline import independent_baseline
from reverie.progress import Quiet
from reverie.train import checkpoint
from reverie.train.folder import RunFolder

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
    real = imputing.impute

    def spy(*arguments: Any, **how: Any) -> Any:
        centres.append(how["centre"])
        return real(*arguments, **how)

    monkeypatch.setattr(imputing, "impute", spy)
    run = reverie.load(runs["whole"])
    run.impute(holed()[:4], iterations=1)
    picturing.imputation(run)
    assert len(centres) == 2
    for centre in centres:
        np.testing.assert_array_equal(centre, np.zeros(4))


def flat(n: int = 100) -> np.ndarray:
    rows = table(n)
    rows[:, 1] = 3.5
    return rows


@pytest.fixture(scope="module")
def constant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on rows whose second column is always 3.5."""
    return reverie.train("vae", flat(), run=tmp_path_factory.mktemp("runs") / "flat", **TINY).path


def test_a_constant_column_comes_back_as_it_is(constant: Path) -> None:
    run = reverie.load(constant)
    assert (run.sample(5)[:, 1] == 3.5).all() and (run.sample(5, mean=True)[:, 1] == 3.5).all()
    rows = flat(8)
    rows[0, 0] = rows[1, 1] = np.nan
    rows[2, 1] = 0.7
    filled = run.impute(rows, iterations=3)
    assert np.isfinite(filled).all() and filled[1, 1] == 3.5
    np.testing.assert_array_equal(filled[~np.isnan(rows)], rows[~np.isnan(rows)])
    masked = run.impute(rows, np.arange(32).reshape(8, 4) % 2 == 0, iterations=3)
    assert (masked[:, 1] == 3.5).all(), "also where the mask says that 0.7 is not known"


def test_a_guess_of_a_constant_column_is_never_shown_to_the_model(constant: Path) -> None:
    """It was trained without the column; frames are what the encoder meets in the iteration after."""
    run = reverie.load(constant)
    rows, centre = masking.soft_view(run.facts, flat(2)), imputing.centre_of(run.facts)
    found = imputing.impute(run.model, rows, np.zeros((2, 4), bool), iterations=2, frames=(1, 2), centre=centre)
    assert np.isnan(found.frames[:, :, 1]).all() and np.isfinite(found.frames[:, :, [0, 2, 3]]).all()


def test_a_constant_column_has_no_share_in_a_score(constant: Path) -> None:
    run, other = reverie.load(constant), flat(8)
    other[:, 1] = -4.0
    scores = run.score(flat(8), samples=3).values
    assert np.isfinite(scores).all() and np.isfinite(run.encode(flat(8))).all()
    np.testing.assert_array_equal(run.score(other, samples=3).values, scores)
    assert np.isfinite(run.evaluate(samples=3)["log_likelihood"].value)
    assert all(np.isfinite(line["elbo"]) for line in run.journal())
    # The column is missing from the model's view alone: of the others it never saw a missing cell.
    with pytest.raises(ReverieError, match="is missing; fill it first"):
        run.score(holed()[:8], samples=3)


def test_a_grey_cell_that_is_missing_stays_so_when_it_is_cut() -> None:
    images = np.random.default_rng(0).random((30, 8, 8))
    images[:, 0, 0] = np.nan
    images[0, 0, 0] = 0.4
    facts = load(images, binarisation="threshold")
    np.testing.assert_array_equal(
        np.isnan(masking.soft_view(facts, images.reshape(30, 64))), np.isnan(images.reshape(30, 64))
    )


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("nomask.csv", "mask: no such file nomask.csv; check the path"),
        ("./masks/nomask", "mask: no such file ./masks/nomask"),
        ("dorp:0.6", "'dorp:0.6' is not one of drop:P, rect:R, half, nan"),
        (np.ones((4, 5), bool), r"mask: shape \(4, 5\) does not fit the rows; give shape \(4, 4\), 1 where"),
        (np.ones((4, 2, 3), bool), r"mask: shape \(4, 2, 3\) does not fit"),
        (np.ones(()), r"mask: shape \(\) does not fit"),
    ],
)
def test_a_mask_that_is_not_there_or_does_not_fit(mask: Any, said: str, runs: dict[str, Path]) -> None:
    with pytest.raises(ReverieError, match=said) as caught:
        reverie.load(runs["whole"]).impute(table(4), mask, iterations=1)
    assert "\n" not in str(caught.value)


def test_scores_of_no_samples_are_refused(runs: dict[str, Path]) -> None:
    with pytest.raises(ReverieError, match="samples: 0 is not a number of samples; give 1 or more"):
        reverie.load(runs["whole"]).score(table()[:4], samples=0)


class Drawing:
    """A run that draws the same rows each time, with its training data or, without `data`, none."""

    def __init__(self, facts: Dataset, rows: np.ndarray, gone: bool = False) -> None:
        self.facts, self.rows, self.gone = facts, rows, gone

    @property
    def data(self) -> Dataset:
        if self.gone:
            raise ReverieError("data.npz: gone")
        return self.facts

    def sample(self, n: int, **how: Any) -> np.ndarray:
        return self.rows[:n]


@pytest.mark.parametrize("gone", [False, True])
def test_pictures_of_real_values_are_on_the_scale_of_the_training_rows(
    gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stretched from their own least to their greatest, a black background would turn grey."""
    rows = 200 * np.random.default_rng(0).random((60, 4, 4)) - 100
    found = data_floor.load(rows.astype(np.float32), likelihood="gaussian")
    train = found.splits["train"].x
    drawn = np.full((1, 4, 4), train.min() - 50)
    drawn[0, 0, 0] = train.max()
    drawn[0, 0, 1] = train.min()
    monkeypatch.setattr(using, "load", lambda folder: Drawing(found, drawn, gone))
    using.sample(tmp_path, number=1, out=tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        pixels = np.asarray(image)[0, [0, 20]].tolist()
    assert pixels[0] == 255 and (pixels[1] > 0) == gone, "black is the least of the training rows, where they are"


def test_the_scale_of_a_picture_is_that_of_its_law() -> None:
    """A grey model whose draws are all pale must look pale, whatever the least and greatest of them are."""
    assert showing.limits(Drawing(data_floor.load(table()), table())) is None  # type: ignore[arg-type]
    bits = (np.random.default_rng(0).random((60, 4, 4)) < 0.5).astype(np.uint8)
    for rows, law, ends in (
        (bits, None, (0.0, 1.0)),
        (255 * bits, "bernoulli", (0.0, 255.0)),
        (5 * bits, "categorical", (0.0, 5.0)),
    ):
        found = data_floor.load(rows, likelihood=law)
        assert showing.limits(Drawing(found, rows)) == ends, law  # type: ignore[arg-type]


class Remembering:
    """As much of a run with a memory as a look into it asks for."""

    def __init__(self, path: Path) -> None:
        self.folder, self.path, self.model, self.data = RunFolder(path), path, None, None
        self.record: dict[str, Any] = {}


def test_the_report_takes_the_look_into_the_memory_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def look(*_: Any, seed: int, **how: Any) -> dict[str, np.ndarray]:
        looks.append(seed)
        return {"layers": np.asarray(["top"])}

    run: Any = Remembering(RunFolder.create("vae", "toy", path=tmp_path / "run").path)
    run.folder.add_evaluation("test/x", {}, {})
    checkpoint.save(run.path, 1, {"w": jnp.zeros(3)})
    monkeypatch.setattr(picturing.asking, "need", lambda *_: SimpleNamespace(memories={}))
    monkeypatch.setattr(picturing.microscope, "look", look)
    monkeypatch.setattr(picturing, "able", lambda run: {"memory"})
    for name in ("samples", "reconstructions", "imputation", "units", "codes", "gather", "independent_baseline"):
        monkeypatch.setattr(picturing, name, lambda *_, **__: None)
    monkeypatch.setattr(picturing, "diagnose", lambda facts: [])
    monkeypatch.setattr("reverie.report.page.write", lambda path: path)
    assert list(picturing.memory(run)) == ["layers"]
    for _ in range(2):
        picturing.report(run)
    assert looks == [0], "the one of `reverie memory` is there"
    picturing.report(run, seed=5)
    checkpoint.save(run.path, 2, {"w": jnp.ones(3)})
    picturing.report(run, seed=5)
    (run.folder.arrays / "memory.npz").write_bytes(b"PK")
    picturing.report(run, seed=5)
    assert looks == [0, 5, 5, 5], "another seed, other weights, a damaged file"


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


def test_a_row_without_a_known_cell_has_no_score_and_is_not_in_the_mean(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, rows = reverie.load(runs["holed"]), holed()[:6]
    rows[[1, 4]] = np.nan
    found = run.score(rows, samples=3)
    alone = run.score(rows[[0, 2, 3, 5]], samples=3)
    np.testing.assert_array_equal(np.isnan(found.values), [False, True, False, False, True, False])
    np.testing.assert_array_equal(found.values[[0, 2, 3, 5]], alone.values)
    assert found.record.value == alone.record.value and (found.record.n, found.record.rows_of) == (4, 6)
    assert "2 of 6 rows have no known cell" in str(found.record.note)
    np.savetxt(tmp_path / "in.csv", rows, delimiter=",", header="a,b,c,d", comments="")
    out = tmp_path / "out.csv"
    assert cli.main(["score", str(run.path), "--input", str(tmp_path / "in.csv"), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "2 of 6 rows have no known cell" in told and "nan" not in told.split("lowest")[1]
    assert [line.split(",")[1] == "" for line in out.read_text().splitlines()[1:]] == np.isnan(found.values).tolist()
    with pytest.raises(ReverieError, match="no row has a known cell"):
        run.score(rows[[1, 4]])
    # An evaluation of the same rows says the same.
    told, few = (run.evaluate(data=x, samples=3)["log_likelihood"] for x in (rows, rows[[0, 2, 3, 5]]))
    assert told.value == pytest.approx(found.record.value) == few.value
    assert (told.n, told.rows_of, few.rows_of) == (4, 6, None) and "2 of 6 rows have no known cell" in str(told.note)
    assert not list(run.folder.arrays.glob("partial-own-*")), "no row is left to be done"
    with pytest.raises(ReverieError, match="none of 2 own rows has a known cell"):
        run.evaluate(data=rows[[1, 4]])


def test_rows_of_a_split_without_a_known_cell_are_in_no_mean(tmp_path: Path) -> None:
    """Neither in that of the test rows, nor in that of validation, nor in that of independent columns."""
    parts = {"train": holed(), "valid": holed(40), "test": holed(40)}
    empty = np.full((10, parts["train"].shape[1]), np.nan)
    blank = {name: x if name == "train" else np.concatenate([x, empty]) for name, x in parts.items()}
    runs = [reverie.train("vae", x, run=tmp_path / name, **TINY) for name, x in (("all", parts), ("some", blank))]
    valid = [[line["valid"] for line in run.journal() if "valid" in line][-1] for run in runs]
    test = [run.evaluate(samples=3)["log_likelihood"] for run in runs]
    assert [(v["n"], v["rows_of"]) for v in valid] == [(40, None), (40, 50)]
    assert [(t.n, t.rows_of) for t in test] == [(40, None), (40, 50)] and test[0].value == test[1].value
    assert "10 of 50 rows have no known cell" in str(test[1].note)
    means = [independent_baseline(run.data) for run in runs]
    assert means[0].value == means[1].value and (means[1].n, means[1].rows_of) == (40, 50)


def test_who_cannot_be_told_a_class_is_not_sent_to_an_option_that_is_not_there(tmp_path: Path) -> None:
    labelled = {"x": np.random.default_rng(0).integers(0, 2, (60, 6)), "y": np.arange(60) % 2}
    tiny: dict[str, Any] = {"vae": {"latent": (2,), "hidden": ((4,),), "batch": 10}, "nade": {"hidden": 4, "batch": 10}}
    said = {}
    for name, how in tiny.items():
        for kind, rows in (("classes", labelled), ("none", labelled["x"])):
            run = reverie.train(name, rows, run=tmp_path / f"{name}-{kind}", steps=2, **how)
            assert isinstance(run, reverie.Run)
            with pytest.raises(ReverieError, match="is not class-conditional") as caught:
                run.sample(2, label="1")
            said[name, kind] = str(caught.value)
    assert "train with --conditional, or leave it out" in said["vae", "classes"]
    assert "a nade never is (" in said["nade", "classes"] and "vae" in said["nade", "classes"]
    assert "train with --conditional" not in said["nade", "classes"]
    assert all("have no classes; leave it out" in said[name, "none"] for name in tiny)


def test_models_have_their_articles() -> None:
    told = "a nade, an orderless-nade, an rbm, a gaussian-rbm, an aae, a vae, an iwae, a gmmn, a lapgan, a dbm, a VAE"
    assert ", ".join(an(word.split()[1]) for word in told.split(", ")) == told
    assert an("Network") == "a Network" and an("MEM-VAE") == "a MEM-VAE" and an("IWAE") == "an IWAE"


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
