"""Sample health: planted failures are flagged, each in words; held-out rows in the samples' place are not."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.test_parzen import plane
from tests.toys import dataset

import reverie
from reverie import cli, picturing
from reverie import data as data_floor
from reverie.errors import ReverieError
from reverie.evaluate import diagnose, health
from reverie.report import sections_health
from reverie.report.reading import RunView
from reverie.train.folder import RunFolder

NAMES = tuple("0123456789")


@cache
def digits(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return 900 training rows of digits and their classes, 400 held-out rows, and 400 more with theirs."""
    data = data_floor.load("digits", binarisation="means")
    x, y = (np.concatenate([of(s) for s in ("train", "valid", "test")]) for of in (data.rows, data.labels))
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order].astype(np.float32), y[order]
    return x[:900], y[:900], x[900:1300], x[1300:1700], y[1300:1700]


def seen(made: np.ndarray, labelled: bool = True, seed: int = 0) -> dict[str, str]:
    """Return the findings that are no ok, text to level."""
    train, labels, held, _, _ = digits(seed)
    found = health.examine(train, held, made, labels if labelled else None, NAMES, seed=seed)
    return {f["text"]: f["level"] for f in found.findings if f["level"] != "ok"}


@pytest.mark.parametrize("labelled", [True, False])
def test_held_out_rows_are_healthy_samples(labelled: bool) -> None:
    """Of seven alarms at a thousandth each, three sets of rows raise one with probability 0.021 at most."""
    assert [seen(digits(seed)[3], labelled, seed) for seed in range(3)] == [{}] * 3


def test_a_copied_training_set_is_memorising() -> None:
    train, made, rng = digits(0)[0], digits(0)[3], np.random.default_rng(0)
    for copied in (train[:400], train[:400] + 0.02 * rng.standard_normal((400, 64)), np.r_[made[:360], train[:40]]):
        assert any(text.startswith("Memorising") and level == "problem" for text, level in seen(copied).items())


def test_a_collapsed_generator_is_flagged_for_it() -> None:
    made, rng = digits(0)[3], np.random.default_rng(0)
    one = seen(made[:1] + 0.05 * rng.standard_normal((400, 64)))
    assert any(text.startswith("Collapsed: samples are") for text in one)
    ten = seen(made[rng.integers(0, 40, 400)] + 0.01 * rng.standard_normal((400, 64)))
    assert any(text.startswith("Collapsed") and "repeat" in text for text in ten), "forty rows again and again"


def test_missing_classes_are_named() -> None:
    _, _, _, made, labels = digits(0)
    found = seen(made[~np.isin(labels, (4, 7))])
    assert any(text.startswith("Missing from the samples: 4, 7.") for text in found)
    # Without labels cells stand for classes: sevens and fours have some of their own.
    assert any("Missing" in text or "Shares" in text for text in seen(made[~np.isin(labels, (4, 7))], labelled=False))
    # One class in three places of ten: nothing is missing, and shares are off.
    often = np.r_[made, made[labels == 3].repeat(5, axis=0) + 0.1]
    assert any(text.startswith("Shares are off") for text in seen(often[:: len(often) // 400]))


def test_independent_columns_can_be_told_and_their_size_is_one() -> None:
    free = np.random.default_rng(0).permuted(digits(0)[3], axis=0)
    texts = [text for text in seen(free) if text.startswith("Samples can be told")]
    assert texts and float(texts[0].split("discrepancy is ")[1].split()[0]) == pytest.approx(1.0, abs=0.2)


def test_permutation_tests_are_uniform_where_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 p-values of equal laws: each below 0.5 with probability a half; |z| < 4.5 is false once in 10^5."""
    monkeypatch.setattr(health, "PERMUTATIONS", 199)
    rng, below = np.random.default_rng(0), []
    for _ in range(40):
        x = rng.normal(size=(120, 3)).astype(np.float32)
        for found in (
            health.difference(x[:40], x[40:80], x[80:], rng),
            health.diversity(x[:40], x[40:80], x[80:], rng),
        ):
            note = next(iter(found.records.values())).note or ""
            below.append(float(note.split("p = ")[1].split()[0].rstrip(")")) < 0.5)
    z = (np.mean(np.reshape(below, (40, 2)), axis=0) - 0.5) * 2 * np.sqrt(40)
    assert (abs(z) < 4.5).all()


def test_records_say_what_they_are() -> None:
    train, labels, held, made, _ = digits(0)
    found = health.examine(train, held, made, labels, NAMES)
    assert set(found.records) == {"near_copies", "class_distance", "discrepancy", "diversity", "repeats"}
    assert all(record.kind == "estimate" and record.note for record in found.records.values())
    far = ((made[:, None].astype(np.float64) - train[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found.pictures["nearest"], far.argmin(axis=1))
    np.testing.assert_allclose(found.pictures["distances"], np.sqrt(far.min(axis=1)), rtol=1e-4)


@pytest.mark.parametrize(("rows", "words"), [(10, "too few"), (30, "not finite")])
def test_what_cannot_be_looked_at_is_refused(rows: int, words: str) -> None:
    train, _, held, made, _ = digits(0)
    made = made[:rows] * (np.nan if rows == 30 else 1.0)
    with pytest.raises(ReverieError, match=words):
        health.examine(train, held, made)


def test_rows_that_repeat_training_rows_leave_a_ratio_that_means_something() -> None:
    """Three binary columns: every held-out row has been seen, and a distance of 0 is no divisor."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (600, 3)).astype(np.float32)
    found = health.copies(rows[:400], rows[400:500], rows[500:], rng)
    (text,), note = found.findings, str(found.records["near_copies"].note)
    assert text[0] == "ok" and "100.0 % of samples, 100.0 % of held-out rows repeat a training row exactly" in text[1]
    assert "so that their distances have no ratio" in note and "median distance" not in note
    # Half of the held-out rows are seen again: the ratio is of the others, which are as far away as the samples.
    train, _, held, made, _ = digits(0)
    again = np.r_[train[:200], held[:200]]
    note = str(health.copies(train, again, made, rng).records["near_copies"].note)
    ratio = float(note.split("median distance ")[1].split()[0])
    assert 0.8 < ratio < 1.25 and "0.0 % of samples, 50.0 % of held-out rows repeat a training row exactly" in note


def test_equal_rows_are_at_no_distance_at_all() -> None:
    rows = (1000 + np.random.default_rng(0).random((50, 30))).astype(np.float32)
    assert (health.nearest(rows, rows)[0] == 0).all()
    assert (health.nearest(np.r_[rows, rows], np.r_[rows, rows], own=True)[0] == 0).all()


def test_what_has_no_distances_is_said_of_health_and_not_of_windows() -> None:
    rng = np.random.default_rng(0)
    holed = data_floor.load(np.where(rng.random((100, 4)) < 0.2, np.nan, rng.normal(size=(100, 4))))
    with pytest.raises(ReverieError, match=r"^health: .* has missing cells, and distances .* fill them in first$"):
        health.look(plane(), holed)
    assert not health.tellable(holed) and health.tellable(dataset(200))


def test_too_few_rows_for_a_look_cost_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.random.default_rng(0).integers(0, 2, (60, 6))
    np.savez(tmp_path / "few.npz", train=rows[:30], valid=rows[30:45], test=rows[45:])
    monkeypatch.chdir(tmp_path)
    reverie.train("gan", tmp_path / "few.npz", run=tmp_path / "run", epochs=2, hidden=(8,), latent=2,
                  discriminator_hidden=(8,), batch=10)  # fmt: skip
    assert cli.main(["evaluate", "run", "--samples", "20", "--health"]) == 2
    told = capsys.readouterr()
    assert told.out.startswith("parzen ~") and "health: 15 rows to compare are too few" in told.err
    assert cli.main(["evaluate", "run", "--samples", "20", "--health", "--json"]) == 2
    record = json.loads(capsys.readouterr().out)
    assert record["parzen"]["value"] is not None and "too few" in record["health"]["error"]


def test_few_rows_say_that_small_differences_go_unseen() -> None:
    train, _, held, made, _ = digits(0)
    told = [health.examine(train, rows, made).findings for rows in (held[:50], held[:100])]
    said = [[f["level"] for f in found if "Only 50 rows" in f["text"]] for found in told]
    assert said == [["warning"], []]


class Held:
    """What the doors need of a run: a folder, a model and its data."""

    def __init__(self, path: Path, model: Any, data: Any) -> None:
        self.folder, self.path, self.model, self.data, self.facts = RunFolder(path), path, model, data, data
        self.record = {"model": "plane", "data": data.to_json()}


def test_a_look_is_kept_told_and_shown(tmp_path: Path) -> None:
    data = dataset(100)
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "model": "plane", "data": data.to_json()}))
    found = picturing.health(Held(tmp_path, plane(), data), seed=1)  # type: ignore[arg-type]
    assert set(found) == {"records", "findings"}
    section = sections_health.health(RunView.read(tmp_path))
    assert section is not None
    kinds = [block.kind for row in section.rows for block in row]
    assert kinds == ["notes", "table", "figure", "figure", "figure"]
    told = diagnose.diagnose(diagnose.gather(tmp_path))
    assert {f["text"] for f in found["findings"]} <= {f["text"] for f in told}
    # Of other weights it is not told, nor shown.
    (tmp_path / "checkpoint.json").write_text(json.dumps({"sha256": "other"}))
    assert sections_health.health(RunView.read(tmp_path)) is None
    assert not [f for f in diagnose.diagnose(diagnose.gather(tmp_path)) if "copies" in f["text"]]


def test_a_sample_stands_over_its_nearest_training_row(tmp_path: Path) -> None:
    data = dataset(100)
    found = health.look(plane(), data, seed=3)
    train = data.rows("train").astype(np.float64)
    gaps = ((found.pictures["samples"][:, None] - train[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found.pictures["neighbours"], data.rows("train")[gaps.argmin(axis=1)])
    assert health.look(plane(), data, seed=3).findings == found.findings
