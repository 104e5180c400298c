"""Refit: once all is chosen the validation rows train, too, for runs, classifiers and what stands beside them."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import cli, training
from reverie import data as data_floor
from reverie.data.rows import hash_rows
from reverie.errors import Interrupted, ReverieError
from reverie.evaluate import baselines
from reverie.report.reading import RunView
from reverie.report.sections_about import command

#: Machines that are soon learnt, the second in stages, and their fine-tuning.
SMALL: dict[str, Any] = {"hidden": 4, "batch": 50, "epochs": 1}
DEEP: dict[str, Any] = {"hidden": (6, 4), "batch": 100, "pretrain": {"epochs": 0.2}}
SHORT: dict[str, Any] = {"epochs": 1, "baselines": "none"}


def sha(folder: Path) -> str:
    return json.loads((folder / "checkpoint.json").read_text())["sha256"]


def mine(rows: int = 120) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    sizes = {"train": rows, "valid": 30, "test": 40}
    found: dict[str, np.ndarray] = {s: (rng.random((n, 9)) < 0.4).astype(np.uint8) for s, n in sizes.items()}
    return found | {f"{s}_labels": np.arange(n) % 3 for s, n in sizes.items()}


def test_validation_rows_are_appended_and_hashed() -> None:
    apart, both = data_floor.load("digits"), data_floor.load("digits", refit=True)
    n, m = apart.size("train"), apart.size("valid")
    assert both.refit and not apart.refit and both.size("train") == n + m
    np.testing.assert_array_equal(both.splits["train"].x[:n], apart.splits["train"].x)
    np.testing.assert_array_equal(both.splits["train"].x[n:], apart.splits["valid"].x)
    np.testing.assert_array_equal(both.labels("train"), [*apart.labels("train"), *apart.labels("valid")])  # type: ignore[misc]
    for split in ("valid", "test"):
        np.testing.assert_array_equal(both.splits[split].x, apart.splits[split].x)
    assert both.hash == hash_rows(both.splits) != apart.hash
    assert both.to_json()["refit"] is True and f"the {m} validation rows train" in both.notes[-1]
    assert both.to_json()["apart"] == apart.hash and "apart" not in apart.to_json()
    # Joined once is joined: a second time would have rows count double.
    assert both.joined() is both


def test_rows_keep_the_scale_that_training_rows_gave_them() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, (100, 4))
    apart, both = data_floor.load(values), data_floor.load(values, refit=True)
    np.testing.assert_array_equal(both.scale, apart.scale)
    np.testing.assert_array_equal(both.rows("test"), apart.rows("test"))


def test_rows_on_disk_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "big.npy", np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32))
    monkeypatch.setenv("REVERIE_RESIDENT_BYTES", "100")
    with pytest.raises(ReverieError, match=r"refit: .*big\.npy is read from disk.*REVERIE_RESIDENT_BYTES"):
        data_floor.load(str(tmp_path / "big.npy"), refit=True)


def test_nothing_is_chosen_in_any_stage() -> None:
    data = data_floor.load("digits", refit=True)
    plan = training.resolve("dbm", {**DEEP, "select": "best"}, rows=data.size("train"))
    stages = training.stages_of(*plan.build(data), data)
    assert len(stages) > 1
    assert [(each.select == "best", each.validate) for each in stages] == [(False, None)] * len(stages)
    assert stages[-1].select == "last"
    without = training.stages_of(*plan.build(data_floor.load("digits")), data)
    assert without[-1].select == "best" and without[-1].validate is not None
    averaged = training.resolve("rbm", {"hidden": 5, "select": "average"}, rows=data.size("train"))
    assert averaged.build(data)[1].select == "average"


def test_stopped_and_gone_on_is_the_same_to_the_bit(tmp_path: Path) -> None:
    words = ["train", "rbm", "--data", "digits", "--run", str(tmp_path / "whole"), "--refit", "--select", "best"]
    assert cli.main([*words, *(f"--{name}={value}" for name, value in SMALL.items())]) == 0
    whole = reverie.load(tmp_path / "whole")
    assert whole.record["select"] == "last" and not any(line.get("valid") for line in whole.journal())
    with pytest.raises(Interrupted):
        reverie.train("rbm", "digits", run=tmp_path / "cut", refit=True, minutes=0.0, select="best", **SMALL)
    cut = reverie.load(tmp_path / "cut").resume()
    assert sha(cut.path) == sha(whole.path) and cut.data.refit and cut.data.size("train") == 1497
    assert "--refit" in shlex.split(command(RunView.read(whole.path)))


@pytest.fixture(scope="module")
def refitted(tmp_path_factory: pytest.TempPathFactory) -> reverie.Run:
    """A run on arrays with all rows."""
    run = reverie.train("rbm", mine(), run=tmp_path_factory.mktemp("refitted") / "run", refit=True, **SMALL)
    assert isinstance(run, reverie.Run)
    return run


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> reverie.Run:
    """A run on arrays with the training rows alone."""
    run = reverie.train("rbm", mine(), run=tmp_path_factory.mktemp("apart") / "run", **SMALL)
    assert isinstance(run, reverie.Run)
    return run


def test_arrays_kept_in_the_folder_are_joined_again_and_once(refitted: reverie.Run) -> None:
    with np.load(refitted.path / "data.npz") as kept:
        np.testing.assert_array_equal(kept["train"].reshape(-1, 9), mine()["train"])
        assert len(kept["train_labels"]) == 120
    found = reverie.load(refitted.path).data
    assert found.size("train") == 150 and found.refit and found.hash == refitted.record["data"]["hash"]
    assert found.apart == refitted.record["data"]["apart"] == data_floor.load(mine()).hash
    assert sum("Refit" in note for note in found.notes) == 1


def test_a_run_that_was_refitted_needs_no_name_for_it(refitted: reverie.Run) -> None:
    found = refitted.classify(**SHORT)
    assert Path(found["runs"][0]).name == "classifier" and found["rows"]["train"] == 150
    assert reverie.load(found["runs"][0]).data.refit
    with pytest.raises(ReverieError, match="trained with --refit"):
        refitted.classify(labels=20, baselines="none")


def test_arrays_brought_to_a_refitted_run_are_not_refitted_unasked(refitted: reverie.Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", **mine(60))
    other = str(tmp_path / "other.npz")
    plain, both = (refitted.classify(data=other, refit=refit, **SHORT) for refit in (False, True))
    assert (plain["rows"]["train"], both["rows"]["train"]) == (60, 90)
    assert [Path(found["runs"][0]).name for found in (plain, both)] == ["classifier-other", "classifier-other-refit"]
    kept = json.loads((refitted.path / "classification.json").read_text())["tables"]
    assert {"other", "other/refit"} <= set(kept)
    assert reverie.load(both["runs"][0]).data.size("train") == 90


def test_a_refitted_classifier_has_a_folder_and_a_table_of_its_own(apart: reverie.Run) -> None:
    apart.classify(**SHORT)
    found = apart.classify(refit=True, **{**SHORT, "baselines": "knn"})
    assert Path(found["runs"][0]).name == "classifier-refit" and found["rows"]["train"] == 150
    assert {one["method"]: one["fitted_rows"] for one in found["results"]} == {"fine-tuned/seed-0": 150, "knn": 150}
    assert next(one["valid"] for one in found["results"] if one["method"] != "knn") is None
    assert len(json.loads((apart.path / "classification.json").read_text())["tables"]) == 2
    net = reverie.load(apart.path / "classifier-refit")
    assert net.record["select"] == "last" and net.data.refit and net.data.size("train") == 150
    assert not apart.data.refit


def test_validation_rows_that_trained_judge_nothing(
    refitted: reverie.Run, apart: reverie.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", str(refitted.path), "--split", "valid", "--rows", "5"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "trained with --refit" in said and "use --split test" in said
    with pytest.raises(ReverieError, match="validation rows too"):
        refitted.health("valid")
    # Other splits are judged, and so are validation rows that were left out.
    assert refitted.evaluate("train", rows=5) and apart.evaluate("valid", rows=5)


def test_few_labels_and_refit_contradict_each_other(apart: reverie.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["classify", str(apart.path), "--refit", "--labels", "20"]) == 2
    assert "refit, labels" in capsys.readouterr().err
    assert not list(apart.path.glob("classifier*labels*"))


def seen(monkeypatch: pytest.MonkeyPatch, kind: Any, method: str) -> list[np.ndarray]:
    """Return a list that grows by the rows of each call of a scikit-learn method."""
    rows: list[np.ndarray] = []
    true = getattr(kind, method)

    def told(self: Any, x: np.ndarray, *more: Any, **named: Any) -> Any:
        rows.append(x)
        return true(self, x, *more, **named)

    monkeypatch.setattr(kind, method, told)
    return rows


def noisy(**how: Any) -> baselines.Problem:
    """Three classes of which the training rows alone make one neighbour a bad choice."""
    rng = np.random.default_rng(1)
    y = {split: np.arange(n) % 3 for split, n in (("train", 90), ("valid", 45), ("test", 60))}
    centres = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    x = {split: (centres[c] + rng.normal(size=(len(c), 2))).astype(np.float32) for split, c in y.items()}
    return baselines.Problem(x, y, (8,), **how)


def test_neighbours_are_chosen_on_training_rows_and_looked_for_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    fits, problem = seen(monkeypatch, KNeighborsClassifier, "fit"), noisy()
    apart = baselines.run("knn", problem)
    fits.clear()
    found = baselines.run("knn", replace(problem, refit=True))
    assert [len(rows) for rows in fits] == [90, 90, 90, 135]
    np.testing.assert_array_equal(fits[-1], np.concatenate([problem.x["train"], problem.x["valid"]]))
    # Chosen by rows that the chosen one had not seen: else one neighbour, itself, would never be wrong.
    assert found["valid"] == apart["valid"] > 0 and found["fitted_rows"] == 135
    assert found["chosen"] == f"{apart['chosen']}, chosen on 90 rows"
    k = int(apart["chosen"].split()[1])
    theirs = KNeighborsClassifier(k, algorithm="brute").fit(fits[-1], problem.all().y["train"])
    assert found["test"].value == pytest.approx(np.mean(theirs.predict(problem.x["test"]) != problem.y["test"]))


def test_the_net_learns_both_for_as_many_epochs_as_were_best(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.neural_network import MLPClassifier

    monkeypatch.setattr(baselines, "_EPOCHS", 3)
    few = noisy()
    problem = replace(few, x={split: rows.repeat(20, 0) for split, rows in few.x.items()})
    problem = replace(problem, y={split: classes.repeat(20) for split, classes in few.y.items()})
    fits = seen(monkeypatch, MLPClassifier, "partial_fit")
    found = baselines.run("mlp", replace(problem, refit=True))
    sizes = [len(rows) for rows in fits]
    best = int(found["chosen"].rsplit("epoch ", 1)[1])
    assert set(sizes) == {1800, 2700} and sizes.count(2700) == best and found["fitted_rows"] == 2700
    assert sizes == sorted(sizes)
    monkeypatch.undo()
    x, y = problem.all().x["train"], problem.all().y["train"]
    net = MLPClassifier((8,), batch_size=100, random_state=0)
    for _ in range(best):
        net.partial_fit(x, y, classes=np.arange(3))
    assert found["test"].value == pytest.approx(np.mean(net.predict(problem.x["test"]) != problem.y["test"]))
