"""Runs in pairs, published numbers beside ours, the least to beat, and what the numbers say of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from tests.toys import dataset, rows_of

from reverie.data.dataset import Rows
from reverie.errors import ReverieError
from reverie.estimate import Estimate, crossing, paired_difference
from reverie.evaluate import tables
from reverie.evaluate.arena import _rank, compare
from reverie.evaluate.baseline import independent_baseline
from reverie.evaluate.claims import Claim
from reverie.evaluate.diagnose import diagnose, gather
from reverie.evaluate.log_z import LogZ
from reverie.report import sections_energy
from reverie.report.blocks import estimate_cell

CERTIFICATE = {"kind": "lower_bound", "estimator": "importance-1000", "measure": "mass", "binarisation": "dynamic",
               "split": "test", "data_hash": "abc"}  # fmt: skip


def run(
    path: Path, values: np.ndarray, *, indices: np.ndarray | None = None, variance: float = 0.01,
    key: str = "test/importance-1000", **changes: Any,
) -> Path:  # fmt: skip
    """Write the part of a run folder that the arena reads."""
    (path / "arrays").mkdir(parents=True, exist_ok=True)
    (path / "run.json").write_text(json.dumps({"format": 1, "model": "vae"}))
    certificate = {**CERTIFICATE, "estimator": key.split("/")[1], **changes}
    record = Estimate.of_rows(values, row_variances=np.full(len(values), variance), **certificate)
    name = f"arrays/evaluation-{key.replace('/', '-')}.npz"
    where = np.arange(len(values)) if indices is None else indices
    np.savez(path / name, values=values, variances=np.full(len(values), variance), indices=where)
    file = path / "evaluation.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**stored, key: {"log_likelihood": record.to_json(), "rows": name}}))
    return path


def scores(n: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-80, 10, n)


def test_a_paired_difference_is_known_better_than_either_number(tmp_path: Path) -> None:
    base = scores()
    better = base + np.random.default_rng(1).normal(0.5, 1.0, 200)
    a, b = run(tmp_path / "mem-vae", better), run(tmp_path / "vae", base)
    found = compare([a, b])
    assert list(found) == ["mem-vae - vae"]
    pair = found["mem-vae - vae"]
    expected = paired_difference(better, base)
    assert {k: pair[k] for k in expected} == expected
    assert pair["better"] == "mem-vae" and pair["n"] == 200 and pair["standard_error"] < 0.1
    assert pair["monte_carlo_error"] == pytest.approx(np.sqrt(2 * 200 * 0.01) / 200)
    assert pair["values"] == pytest.approx([better.mean(), base.mean()])
    assert compare([b, a])["vae - mem-vae"]["better"] == "mem-vae"
    json.dumps(found)


def test_a_single_row_has_no_spread_to_tell() -> None:
    one = Estimate.of_rows(np.array([-80.0]), kind="exact", estimator="enumerated")
    assert str(one) == "= -80.00 nats (exact, enumerated, n=1)"
    assert estimate_cell(one).endswith("</data>") and "±" not in estimate_cell(one)
    two = Estimate.of_rows(np.array([-80.0, -82.0]), kind="exact", estimator="enumerated")
    assert "-81.00 +- 1.00 nats" in str(two) and "±" in estimate_cell(two)


def test_a_bracket_tells_the_error_of_its_ends() -> None:
    ends = {"low": -86.5, "high": -86.3}
    assert str(Estimate(-86.4, 0.6, 0.04, 300, "bracket", "ais-100x1000", **ends)) == (
        "in [-86.50, -86.30] +- 0.60 nats (bracket, ais-100x1000, n=300, ends +- 0.04)"
    )
    assert "ends" not in str(Estimate(-86.4, 0.6, 0.0, 300, "bracket", "ais-100x1000", **ends))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        ((9.9, 0.02), (10.2, 0.02), None),
        ((10.01, 0.02), (10.0, 0.02), "cross by 0.010, within their errors (0.028)"),
        ((10.2, 0.02), (10.0, 0.02), "cross by 0.200, more than their errors (0.028)"),
    ],
)
def test_sides_that_cross_are_told(low: tuple[float, float], high: tuple[float, float], words: str | None) -> None:
    said = crossing(low, high)
    assert said is None if words is None else words in (said or "")
    rounds = [{"temperatures": 100, "ends": [
        {"name": name, "kind": kind, "value": value, "error": error}
        for (name, kind), (value, error) in (
            (("forward", "lower_bound"), low), (("raise", "upper_bound"), (9.0, 0.1)), (("reverse", "estimate"), high)
        )
    ]}]  # fmt: skip
    note = LogZ.from_json({
        "value": 10.0, "low": 9.9, "high": 10.2, "error": 0.01, "ess": 50.0, "worst": 0.1, "estimator": "ais-100x100",
        "rounds": rounds, "chains": 100,
    }).crossing  # fmt: skip
    assert note == said == sections_energy._crossing(rounds[0]["ends"])


def refitted(path: Path, values: np.ndarray, apart: str | None, **changes: Any) -> Path:
    found = run(path, values, data_hash="joined", **changes)
    data = {"hash": "joined", **({"apart": apart} if apart else {})}
    (found / "run.json").write_text(json.dumps({"format": 1, "model": "vae", "data": data}))
    return found


def test_a_refitted_run_is_compared_on_the_same_test_rows(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", scores())
    found = compare([refitted(tmp_path / "refitted", scores() + 1.0, "abc"), plain])
    assert found["refitted - plain"]["difference"] == pytest.approx(1.0)
    for name, apart in (("another", "abd"), ("unknown", None)):
        with pytest.raises(ReverieError, match="their data differs"):
            compare([refitted(tmp_path / name, scores(), apart), plain])


def test_validation_rows_that_trained_are_not_compared(tmp_path: Path) -> None:
    key, split = "valid/importance-1000", {"split": "valid"}
    plain = run(tmp_path / "plain", scores(), key=key, **split)
    with pytest.raises(ReverieError, match="their data differs"):
        compare([refitted(tmp_path / "refitted", scores(), "abc", key=key, **split), plain], split="valid")


def test_the_interval_covers_at_its_level(tmp_path: Path) -> None:
    """1,000 pairs of 50 rows without a difference: the normal interval holds 0 in 94.4 % of them; 91 to 97 allowed."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        pair = paired_difference(random.normal(size=50), random.normal(size=50))
        inside += pair["low"] <= 0 <= pair["high"]
    assert 910 < inside < 970


def test_no_difference_is_not_called_one(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", scores(seed=1)), run(tmp_path / "b", scores(seed=2))
    pair = compare([a, b])["a - b"]
    assert pair["better"] is None and pair["low"] < 0 < pair["high"]


def test_rows_are_aligned_by_their_index(tmp_path: Path) -> None:
    base, shuffle = scores(), np.random.default_rng(3).permutation(200)
    a = run(tmp_path / "a", base + 1.0)
    b = run(tmp_path / "b", base[shuffle], indices=shuffle)
    pair = compare([a, b])["a - b"]
    assert pair["difference"] == pytest.approx(1.0) and pair["standard_error"] < 1e-9
    some = run(tmp_path / "c", base[50:], indices=np.arange(50, 200))
    partial = compare([a, some])["a - c"]
    assert partial["n"] == 150 and partial["difference"] == pytest.approx(1.0)
    assert any("150 rows" in note for note in partial["notes"])


def test_three_runs_make_three_pairs(tmp_path: Path) -> None:
    runs = [run(tmp_path / name, scores(seed=i)) for i, name in enumerate("abc")]
    assert list(compare(runs)) == ["a - b", "a - c", "b - c"]
    twins = [run(tmp_path / name / "seed-0", scores(seed=i)) for i, name in enumerate("xy")]
    assert list(compare(twins)) == ["x/seed-0 - y/seed-0"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"data_hash": "other"}, "data"),
        ({"binarisation": "sampled-fixed"}, "binarisation"),
        ({"measure": "density"}, "measure"),
        ({"unit": "bits"}, "unit"),
        ({"split": "valid"}, "split"),
        ({"indices": np.arange(500, 700)}, "share 0 of their rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    a, b = run(tmp_path / "first", scores()), run(tmp_path / "second", scores(), **changes)
    with pytest.raises(ReverieError, match=f"first and second cannot be compared.*{word}") as caught:
        compare([a, b])
    assert "\n" not in str(caught.value)


def test_every_pair_is_checked_for_common_rows(tmp_path: Path) -> None:
    a = run(tmp_path / "a", scores(100), indices=np.arange(100))
    b = run(tmp_path / "b", scores(60), indices=np.arange(60))
    c = run(tmp_path / "c", scores(40), indices=np.arange(60, 100))
    with pytest.raises(ReverieError, match="b and c share"):
        compare([a, b, c])


def test_the_best_evaluation_that_all_have_is_taken(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", scores()), run(tmp_path / "b", scores())
    run(a, scores() + 1, key="test/importance-5000")
    assert compare([a, b])["a - b"]["estimators"] == ["importance-1000"] * 2
    run(b, scores(), key="test/importance-5000")
    assert compare([a, b])["a - b"]["difference"] == pytest.approx(1.0)
    run(a, scores() + 2, key="test/ais-16x1000")
    run(b, scores(), key="test/ais-16x1000")
    assert compare([a, b])["a - b"]["difference"] == pytest.approx(2.0)
    assert compare([a, b], estimator="importance-1000")["a - b"]["difference"] == pytest.approx(0.0)
    with pytest.raises(ReverieError, match="has no test/elbo-1"):
        compare([a, b], estimator="elbo-1")


def test_all_rows_are_taken_before_some_and_many_samples_before_few() -> None:
    keys = ["test/ais-16x9/200", "test/elbo-9000", "test/importance-50", "test/importance-1000", "test/ais-16x9"]
    assert max(reversed(keys[:4]), key=_rank) == keys[3]
    assert sorted(set(keys), key=_rank) == keys


def test_different_estimators_and_close_gaps_are_noted(tmp_path: Path) -> None:
    a = run(tmp_path / "a", scores() + 0.1, key="test/importance-5000")
    notes = compare([a, run(tmp_path / "b", scores())])["a - b"]["notes"]
    assert any("judged by importance-5000" in note for note in notes) and any("under 0.3" in note for note in notes)


@pytest.mark.parametrize("what", ["nothing", "one", "no evaluation", "damaged", "no rows", "short rows", "twice"])
def test_a_run_that_is_not_ready_is_one_line(tmp_path: Path, what: str) -> None:
    a, b = run(tmp_path / "a", scores()), run(tmp_path / "b", scores())
    folders = [a, b]
    if what == "nothing":
        folders = [a, tmp_path / "none"]
    elif what == "one":
        folders = [a]
    elif what == "no evaluation":
        (b / "evaluation.json").unlink()
    elif what == "damaged":
        (b / "evaluation.json").write_text("{")
    elif what == "no rows":
        (b / "arrays" / "evaluation-test-importance-1000.npz").write_bytes(b"PK")
    elif what == "short rows":
        np.savez(b / "arrays" / "evaluation-test-importance-1000.npz", values=np.zeros(3), variances=np.zeros(2),
                 indices=np.arange(3))  # fmt: skip
    else:
        folders = [a, a]
    with pytest.raises(ReverieError) as caught:
        compare(folders)
    assert "\n" not in str(caught.value)


def claim(**changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "table": "density", "row": "MEM-VAE", "column": "mnist", "published": -84.41, "source": "deck", "data": "mnist",
        "settings": {"k": 1}, "epochs": 3000, "split_rule": "mem", "binarisation": "dynamic",
        "evaluation": {"estimator": "importance", "samples": 5000}, "beside": {"active units": "30"},
        "budgets": {"smoke": {"epochs": 1, "batch": 20, "evaluation": {"rows": 10}}},
    }  # fmt: skip
    return Claim(**{**fields, **changes})


OURS = Estimate(-85.0, 0.1, 0.01, 10000, "lower_bound", "importance-5000")


def test_a_result_goes_round(tmp_path: Path) -> None:
    path = tables.write_result(
        tmp_path, "mem-vae", claim(), OURS, beside={"active units": "28"}, seeds=[0, 1], epochs=30, steps=15000,
        commit="abc1234", command="reverie table density --run", hardware="2 cores", date="2026-11-21",
        versions={"jax": "0.10.2"}, budget="cpu", protocol="mnist, dynamic",
    )  # fmt: skip
    assert path == tmp_path / "density" / "mem-vae-mnist.json"
    rows = tables.collect([("vae", claim(row="VAE", published=-85.69)), ("mem-vae", claim())], tmp_path)
    assert [row["ours"] for row in rows] == [None, OURS.to_json()]
    mine = rows[1]
    assert (mine["seeds"], mine["epochs"], mine["paper_epochs"], mine["commit"]) == (2, 30, 3000, "abc1234")
    assert mine["protocol"] == "mnist, dynamic" and mine["ours_beside"] == {"active units": "28"}
    assert rows[0]["protocol"] == "mnist, split mem, dynamic, importance-5000"
    from reverie.report.tables import cells

    assert len(cells(rows)) == 2


def test_results_of_another_claim_or_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tables.write_result(tmp_path, "mem-vae", claim(), OURS, epochs=1)
    with pytest.raises(ReverieError, match=r"another claim [(]its published differ"):
        tables.collect([("mem-vae", claim(published=-84.0))], tmp_path)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "format": 2}))
    with pytest.raises(ReverieError, match="newer"):
        tables.collect([("mem-vae", claim())], tmp_path)
    for text in ("{", "[]", json.dumps({**record, "ours": None})):
        path.write_text(text)
        with pytest.raises(ReverieError, match="damaged"):
            tables.collect([("mem-vae", claim())], tmp_path)


def test_tables_are_chosen_by_name_and_rows_are_distinct() -> None:
    pairs = [("mem-vae", claim()), ("iwae", claim(table="iwae"))]
    assert [row["table"] for row in tables.collect(pairs, "nowhere", "iwae")] == ["iwae"]
    with pytest.raises(ReverieError, match="did you mean 'density'"):
        tables.collect(pairs, "nowhere", "densty")
    with pytest.raises(ReverieError, match="shares the file"):
        tables.collect([("a", claim()), ("b", claim(row="mem vae"))], "nowhere")


def test_a_budget_overrides_the_claim_and_says_what_is_missing(tmp_path: Path) -> None:
    small = tables.with_budget(claim(), "smoke")
    assert (small.epochs, small.evaluation, dict(small.settings)) == (1, {"rows": 10}, {"k": 1, "batch": 20})
    assert tables.with_budget(claim(), "paper") == claim()
    with pytest.raises(ReverieError, match="did you mean 'smoke'"):
        tables.with_budget(claim(), "smok")
    assert not tables.is_done(claim(), None)
    tables.write_result(tmp_path, "mem-vae", claim(), OURS, epochs=29.99)
    kept = tables.read_result(claim(), tmp_path)
    assert tables.is_done(dataclasses.replace(claim(), epochs=30), kept) and not tables.is_done(
        dataclasses.replace(claim(), epochs=300), kept
    )


def test_the_baseline_is_exact_for_gaussian_columns() -> None:
    data = dataset(scale=np.array([2.0, 0.5, 3.0, 1.0]), shift=1.0)
    train, test = (data.splits[s].x.astype(np.float64) for s in ("train", "test"))
    law = multivariate_normal(train.mean(axis=0), np.diag(train.var(axis=0)))
    record = independent_baseline(data)
    assert record.value == pytest.approx(law.logpdf(test).mean(), rel=1e-6)
    assert (record.kind, record.measure, record.monte_carlo_error) == ("exact", "density", 0.0)


@pytest.mark.parametrize("binarisation", ["as-is", "threshold", "dynamic"])
def test_the_baseline_is_exact_for_binary_columns(binarisation: str) -> None:
    grey = {
        s: Rows(np.random.default_rng(i).random((40, 3)).astype(np.float32)) for i, s in enumerate(("train", "test"))
    }
    if binarisation == "as-is":
        grey = {s: Rows((r.x > 0.7).astype(np.float32)) for s, r in grey.items()}
    data = dataset(splits=grey, shape=(3,), likelihood="bernoulli", binarisation=binarisation)
    seen = data.mean if binarisation == "dynamic" else data.rows("train").mean(axis=0)
    p, x = (40 * seen + 1) / 42, data.rows("test")
    expected = (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1).mean()
    assert independent_baseline(data).value == pytest.approx(expected, rel=1e-5)


def test_the_baseline_of_categories_sums_to_one_and_leaves_missing_cells_out() -> None:
    train = Rows(np.array([[0, 1], [0, 2], [1, 2]], np.float32))
    every = Rows(np.array([[a, b] for a in range(3) for b in range(3)], np.float32))
    data = dataset(splits={"train": train, "test": every}, shape=(2,), likelihood="categorical", levels=3)
    from reverie.evaluate.baseline import _Categorical

    assert np.exp(_Categorical(data)(every.x)).sum() == pytest.approx(1.0)
    holes = Rows(np.array([[0, np.nan]], np.float32))
    record = independent_baseline(dataclasses.replace(data, splits={"train": train, "test": holes}, missing=True))
    assert record.value == pytest.approx(np.log(3 / 6))


def texts(facts: dict[str, Any], level: str) -> str:
    return " | ".join(found["text"] for found in diagnose(facts) if found["level"] == level)


def entry(value: float | None, **changes: Any) -> dict[str, Any]:
    fields = {"value": 0.0 if value is None else value, "standard_error": 0.1, "monte_carlo_error": 0.01, "n": 100}
    record = Estimate(**{**fields, **CERTIFICATE, **changes}).to_json()  # type: ignore[arg-type]
    return {"log_likelihood": {**record, "value": value}}


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        ({"units": {"activity_0": np.zeros(10)}}, "problem", "posterior collapse: none of 10"),
        ({"units": {"activity_0": np.r_[1.0, np.zeros(49)]}}, "warning", "only 1 of 50"),
        ({"units": {"activity_0": np.ones(5), "activity_1": np.zeros(3)}}, "problem", "layer 1"),
        ({"units": {"activity_0": np.ones(5)}}, "ok", "5 of 5"),
        ({"run": {"settings": {"beta": 4.0}}}, "warning", "beta = 4"),
        ({"run": {"settings": {"warmup": 20.0}, "plan": {"epochs": 10}}}, "warning", "still growing"),
        ({"evaluation": {"test/exact": entry(-25.2)}, "baseline": {"value": -25.25}}, "problem",
         "only 0.05 nats above"),
        ({"evaluation": {"test/exact": entry(-24.2)}, "baseline": {"value": -25.25}}, "ok", "1.05 nats above"),
        ({"run": {"data": {"rows": {"test": 12}}}}, "warning", "only 12 test rows"),
        ({"run": {"data": {"missing": True}}}, "ok", "cells are missing"),
        ({"run": {"status": "failed", "reason": "step 3: loss is not finite"}}, "problem", "step 3"),
        ({"evaluation": {"test/importance-1000": entry(None)}}, "problem", "not a number"),
        ({"evaluation": {"test/importance-1000": entry(-90.0, monte_carlo_error=0.4)}}, "warning", "own error"),
        ({"evaluation": {"test/importance-1000": entry(-90.0)},
          "rows": {"test/importance-1000": {"ess": np.full(9, 2.0)}}}, "warning", "2.0 of 1000 draws"),
        ({"evaluation": {"test/importance-1000": entry(-90.0)}, "baseline": entry(-80.0)["log_likelihood"]}, "problem",
         "10.00 nats below"),
        ({"evaluation": {"test/importance-1000": entry(-70.0)}, "baseline": entry(-80.0)["log_likelihood"]}, "ok",
         "10.00 nats above"),
        ({"evaluation": {"test/importance-1000": entry(-90.0), "train/importance-1000": entry(-86.0)}}, "warning",
         "Overfitting: training rows score 4.00"),
        ({"evaluation": {"test/importance-1000": entry(-90.0), "train/importance-1000": entry(-89.8)}}, "ok",
         "no overfitting"),
        ({"memory": {"layers": np.array(["p.0"]), "usage_p.0": np.array([1.0, 0, 0, 0])}}, "warning", "3 of 4 slots"),
        ({"memory": {"layers": np.array(["p.0"]), "usage_p.0": np.ones(8), "entropy_p.0": np.full(5, np.log(8))}},
         "warning", "does not choose"),
        ({"memory": {"layers": np.array(["p.0"]), "disabled_p.0": np.array([[0.1, 0.2], [0.3, 0.2]])}}, "warning",
         "it is not used"),
    ],
)  # fmt: skip
def test_a_diagnosis_says_what_is_the_matter(facts: dict[str, Any], level: str, words: str) -> None:
    assert words in texts(facts, level)


def curve(values: list[float]) -> list[dict[str, Any]]:
    return [{"epoch": float(i + 1), "valid": {"value": v}} for i, v in enumerate(values)]


def test_the_validation_curve_is_looked_at() -> None:
    rising = curve([-100.0 + i for i in range(20)])
    said = texts({"metrics": rising, "folder": "x"}, "warning")
    assert "reverie resume x --epochs 40" in said and "by 4.00 nats over the last 4 epochs" in said
    errors = [{**line, "valid": {**line["valid"], "unit": "squares"}} for line in rising]
    assert "by 4.00 squares over the last 4 epochs" in texts({"metrics": errors}, "warning")
    assert "anew with `--epochs 40`" in texts({"metrics": rising, "ended": True}, "warning")
    fallen = curve([-90.0 + i for i in range(5)] + [-86.0 - 0.2 * i for i in range(20)])
    assert "best at epoch 5" in texts({"metrics": fallen}, "warning")
    assert "are the ones kept" in texts({"metrics": fallen, "run": {"select": "best"}}, "ok")
    windows = [{**line, "valid": {**line["valid"], "estimator": "parzen-1000"}} for line in fallen]
    assert "prefer what is blurred" in texts({"metrics": windows}, "warning")
    assert diagnose({"metrics": curve([-86.0] * 20)}) == []


def test_commands_name_the_folder_from_where_they_are_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(tmp_path / "runs" / "my run", scores())
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, curve([-100.0 + i for i in range(20)]))))
    for here, words in ((tmp_path, "resume 'runs/my run' --epochs 40"), (tmp_path / "runs", "resume 'my run' --ep"),
                        (folder / "arrays", f"resume '{folder}' --epochs 40")):  # fmt: skip
        monkeypatch.chdir(here)
        assert words in texts(gather(folder), "warning")


def test_a_sound_run_has_nothing_to_be_warned_of(tmp_path: Path) -> None:
    folder = run(tmp_path / "r", scores())
    np.savez(folder / "arrays" / "units.npz", activity_0=np.ones(8))
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "valid": {"value": -80}}\n{"torn')
    found = diagnose(gather(folder, Estimate(-200.0, 1.0, 0.0, 200, "exact", "independent-columns")))
    assert {f["level"] for f in found} == {"ok"} and len(found) == 2
    assert set(found[0]) == {"level", "text"}


def test_damaged_facts_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "arrays").mkdir()
    for name in ("run.json", "evaluation.json", "metrics.jsonl", "arrays/units.npz", "arrays/memory.npz"):
        (tmp_path / name).write_text("{")
    assert diagnose(gather(tmp_path)) == []
    assert diagnose({}) == []


def test_the_gravest_finding_comes_first() -> None:
    found = diagnose(
        {"units": {"activity_0": np.ones(5), "activity_1": np.zeros(3)}, "run": {"settings": {"beta": 2.0}}}
    )
    assert [f["level"] for f in found] == ["problem", "warning", "ok"]


def test_the_toys_are_what_they_say() -> None:
    """The baseline of the toy rows is that of standard normal columns, within five standard errors of 60 rows."""
    record = independent_baseline(dataset())
    assert abs(record.value - 4 * -0.5 * (1 + np.log(2 * np.pi))) < 5 * record.standard_error
    assert rows_of(3).shape == (3, 4)
