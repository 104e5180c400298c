"""Tables are made by runs that go on where they stopped, and say what made each number."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reverie import cli, models, tabling
from reverie.data import load as load_data
from reverie.errors import Interrupted, ReverieError
from reverie.estimate import Estimate
from reverie.evaluate import classification, parzen, tables
from reverie.evaluate.claims import NOTES, Claim
from reverie.evaluate.parzen import SANITY
from reverie.report import tables as shown
from reverie.run import load, train
from reverie.training import differences, resolve

TINY = {"latent": (2,), "hidden": ((8,),), "batch": 50, "select": "last", "valid_samples": 5}


@pytest.fixture
def one_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tables.Claim:
    """A table of one row that digits can fill in a second."""
    _, claim = tabling.all_claims("iwae")[0]
    evaluation = {"estimator": "importance", "samples": 5}
    small = replace(
        claim, data="digits", split_rule=None, binarisation=None, settings=TINY, epochs=4, evaluation=evaluation,
        budgets={"smoke": {"epochs": 2}, "cpu": {"epochs": 3}, "paper": {}},
    )  # fmt: skip
    monkeypatch.setattr(tabling, "all_claims", lambda name=None: [("iwae", small)])
    monkeypatch.setenv("REVERIE_RESULTS", str(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    return small


def test_a_row_is_made_once_per_budget_and_says_what_made_it(one_row: tables.Claim) -> None:
    assert tabling.collect()[0]["ours"] is None
    (row,) = tabling.run_table(budget="smoke")
    assert row["ours"]["n"] == 300 and row["ours"]["estimator"] == "importance-5"
    assert (row["epochs"], row["paper_epochs"], row["budget"]) == (pytest.approx(2, abs=0.05), 4, "smoke")
    assert row["command"] and row["hardware"] and row["ours_beside"]["active units"].isdigit()
    before = tables.result_path(one_row, tabling.results_folder()).read_bytes()
    tabling.run_table(budget="smoke")
    assert tables.result_path(one_row, tabling.results_folder()).read_bytes() == before
    (row,) = tabling.run_table(budget="cpu")
    assert row["budget"] == "cpu"


def test_a_row_that_was_stopped_goes_on(one_row: tables.Claim) -> None:
    folder = Path("runs/tables") / one_row.table / f"{tables.slug(one_row)}-smoke"
    with pytest.raises(Interrupted):
        train("iwae", "digits", run=folder, epochs=2, minutes=0.0, **TINY)
    tabling.run_table(budget="smoke")
    assert load(folder).record["status"] == "finished"
    assert len(load(folder).record["segments"]) == 2


def test_a_run_of_other_settings_is_not_taken_for_the_row(one_row: tables.Claim) -> None:
    folder = Path("runs/tables") / one_row.table / f"{tables.slug(one_row)}-smoke"
    train("iwae", "digits", run=folder, epochs=2, **{**TINY, "latent": (3,)})
    with pytest.raises(ReverieError, match="another latent than this row asks for; move it away or delete it"):
        tabling.run_table(budget="smoke")


def test_what_does_not_exist_is_named() -> None:
    with pytest.raises(ReverieError, match="iwae"):
        tabling.all_claims("iwea")
    with pytest.raises(ReverieError, match="smoke"):
        tabling.run_table(budget="smok")
    with pytest.raises(ReverieError, match="no row"):
        tabling.run_table("iwae", rows="nothing*")


def test_the_lecture_s_rows_are_all_claimed() -> None:
    rows = {(c.table, c.row, c.column): c.published for _, c in tabling.all_claims()}
    assert rows["iwae", "VAE, 1 layer, k=1", "mnist"] == -86.76
    assert rows["iwae", "IWAE, 2 layers, k=50", "mnist"] == -82.90
    assert rows["density", "MEM-IWAE-50", "ocr-letters"] == -26.90
    assert rows["recognition", "DBM", "ocr-letters"] == 0.0840
    assert rows["recognition", "SVM", "norb-small"] == 0.116
    assert rows["boltzmann-likelihood", "DBM 500-1000", "mnist"] == -84.62
    assert rows["gae", "GAE, 4 layers", "mnist"] == -94.66
    assert rows["parzen", "GAE, 2 layers", "mnist"] == 460.73
    assert rows["parzen", "deep GSN", "tfd"] == 1890 and rows["parzen", "VAE", "mnist"] == 296.77
    assert rows["density", "NADE", "mnist"] == -88.86 and rows["density", "NADE", "ocr-letters"] == -27.22
    assert rows["density", "DBN", "mnist"] == -84.55 and rows["density", "IWAE-50, 2 layers", "mnist"] == -82.90
    assert rows["density", "DARN", "mnist"] == -84.13 and rows["density", "RWS-NADE", "ocr-letters"] == -26.43
    assert rows["density", "RWS-SBN", "mnist"] == -85.48 and rows["density", "RWS-SBN", "ocr-letters"] == -29.99
    assert len(rows) == 24 + 4 + 7 + 21 + 28 + 8 + 6 + 8 + 160


def test_windows_have_the_rows_that_no_model_made_and_figures_that_were_read_alone() -> None:
    claims = {(c.row, c.column): (model, c) for model, c in tabling.all_claims("parzen")}
    unread = {place for place, (_, c) in claims.items() if c.published is None}
    made = {"AAE", "GAE, 1 layer", "GAE, 2 layers", "GAN", "GMMN+AE", "VAE"}
    assert unread == {(row, "frey-faces") for row in (*made, *SANITY)} | {(row, "mnist") for row in SANITY}
    assert all((c.source is None) == (place in unread) for place, (_, c) in claims.items())
    faces = [c for (_, column), (_, c) in claims.items() if column == "tfd"]
    assert len(faces) == 9 and not any(tables.runnable(c) for c in faces)
    assert {row for (row, column) in claims if column == "tfd"} == {*made, "DBN", "stacked CAE", "deep GSN"}
    assert "Toronto faces are not freely available" in tables.missing(faces[0])
    nobody = {row for (row, _), (model, _) in claims.items() if model is None}
    assert nobody == {*SANITY, "stacked CAE", "deep GSN"}
    owned = [c for model, c in claims.values() if model and c.column == "mnist"]
    assert {c.row for c in owned} == made | {"DBN"} and all(tables.runnable(c) for c in owned)


@pytest.mark.parametrize("name", SANITY)
def test_a_row_that_no_model_made_is_windows_around_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (claim,) = [c for _, c in tabling.all_claims("parzen") if (c.row, c.column) == (name, "mnist")]
    claims: list[tuple[str | None, Claim]] = [(None, replace(claim, column="digits", data="digits"))]
    monkeypatch.setattr(tabling, "all_claims", lambda name=None: claims)
    monkeypatch.setenv("REVERIE_RESULTS", str(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    assert cli.main(["table", "parzen", "--run", "--budget", "smoke", "--row", name, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["model"] is None and row["published"] is None and row["source"] is None and not Path("runs").exists()
    ours = Estimate.from_json(row["ours"])
    wanted = parzen.sanity(load_data("digits", binarisation="means"), samples=500, rows=200)[name]
    assert ours.value == pytest.approx(wanted.value, rel=1e-6) and ours.n == 200 and ours.kind == "estimate"
    assert row["protocol"] == f"digits, split default, means, {wanted.estimator}, 200 rows"
    (line,) = shown.cells([row])
    assert line[2] == "– [1] [2]" and line[3].startswith("≈ ") and line[4] == "–"
    assert f"| – | parzen: {name} | – [1] [2], **{ours.value:.2f}**" in "\n".join(_script("readme").results([row]))
    with pytest.raises(ReverieError, match=r"evaluate\.modelless: its claim .* shares the file"):
        tables.collect([*claims, *claims])


def test_the_protocol_of_windows_says_that_they_see_grey_rows_grey() -> None:
    (claim,) = [c for _, c in tabling.all_claims("parzen") if (c.row, c.column) == ("VAE", "mnist")]
    ours = Estimate(1.0, 0.1, 0.0, 10_000, "estimate", "parzen-10000", binarisation="means")
    data = {"split_rule": "default", "binarisation": "dynamic"}
    run: Any = SimpleNamespace(record={"data": data}, evaluate=lambda **_: {"parzen": ours, "log_likelihood": ours})
    words = tabling._evaluated(run, claim, 0, None)[1]["protocol"]
    assert words == "mnist, split default, means, parzen-10000"
    words = tabling._evaluated(run, replace(claim, metric="log_likelihood"), 0, None)[1]["protocol"]
    assert "dynamic (test rows drawn once)" in words, "of a likelihood they are binary"


SMALL = {"hidden": 12, "batch": 50, "select": "last", "valid_every": 100.0}
LIKELY = Claim(
    table="likelihood", row="RBM", column="digits", published=-20.0, source="quoted", kind="lower_bound", data="digits",
    settings={**SMALL, "hidden": 500}, epochs=100, binarisation="sampled-fixed",
    budgets={"smoke": {**SMALL, "epochs": 1, "binarisation": None}}, notes=("threshold",),
)  # fmt: skip
TOLD = Claim(
    table="errors", row="RBM", column="digits", published=0.02, source="deck", metric="classification_error",
    data="digits", settings={}, epochs=100, run_of=("likelihood", "RBM"),
    budgets={"smoke": {"evaluation": {"epochs": 2}}}, notes=("batches", "threshold"),
)  # fmt: skip
NEAREST = Claim(
    table="errors", row="k-NN", column="digits", published=0.03, source="deck", metric="classification_error",
    data="digits", settings={}, epochs=None, baseline="knn",
    budgets={"smoke": {"evaluation": {"labels": 40}}, "cpu": {}},
)  # fmt: skip
AFAR = replace(NEAREST, column="norb-small", data="norb-small", at_hand_only=True)


@pytest.fixture
def two_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A table of likelihoods and one of errors that share a run, a baseline and data that nobody has."""
    claims = [("rbm", LIKELY), ("rbm", TOLD), ("classifier", NEAREST), ("classifier", AFAR)]
    monkeypatch.setattr(tabling, "all_claims", lambda name=None: [c for c in claims if name in (None, c[1].table)])
    monkeypatch.setenv("REVERIE_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REVERIE_DATA", str(tmp_path / "data"))
    (tmp_path / "results").mkdir()


def test_two_rows_judge_one_run_and_the_second_goes_on_where_it_was_stopped(two_tables: None) -> None:
    folder = Path("runs/tables/likelihood/rbm-digits-smoke")
    with pytest.raises(Interrupted):
        train("rbm", "digits", run=folder, epochs=1, minutes=0.0, **SMALL)
    error, *_ = tabling.run_table("errors", budget="smoke", rows="RBM")
    assert len(load(folder).record["segments"]) == 2 and not Path("runs/tables/errors").exists()
    net = load(folder / "classifier")
    assert net.record["plan"]["epochs"] == 2 and net.record["init_from"]["run"] == folder.name
    ours = Estimate.from_json(error["ours"])
    wrong = round(ours.value * ours.n)
    assert (ours.low, ours.high) == classification.wilson(wrong, 300) and ours.kind == "exact"
    assert error["better"] == "smaller" and error["protocol"] == (
        "digits, split default, 1,297 / 200 / 300 rows, stack learnt from threshold rows, classifier from means"
    )
    result = tables.read_result(TOLD, tabling.results_folder())
    assert result is not None and result["settings"]["hidden"] == 12
    assert result["settings"]["classifier"]["epochs"] == 2 and result["seconds"] >= 0 and result["seeds"] == [0]
    # The other table takes the run as it is, and drawing rows once, which is the paper's alone, is not asked for.
    (row,) = tabling.run_table("likelihood", budget="smoke")
    assert len(load(folder).record["segments"]) == 2
    assert row["ours"]["kind"] == "exact" and row["protocol"] == "digits, split default, threshold, enumerated"
    assert row["better"] == "larger" and row["paper_epochs"] == 100


def test_a_baseline_is_fitted_without_a_run_and_again_on_a_larger_budget(two_tables: None) -> None:
    def made(budget: str) -> dict[str, Any]:
        return next(r for r in tabling.run_table("errors", budget=budget, rows="k*", column="digits") if r["ours"])

    few = made("smoke")
    assert not Path("runs").exists() and few["epochs"] is None
    assert few["protocol"].startswith("digits, split default, 40 of 1,297 / 200 / 300 rows, means, k nearest")
    low, value, high = (few["ours"][name] for name in ("low", "value", "high"))
    assert (low, high) == classification.wilson(round(300 * value), 300) and low < value < high
    path = tables.result_path(NEAREST, tabling.results_folder())
    before = path.read_bytes()
    assert made("smoke") == few and path.read_bytes() == before
    all_rows = made("cpu")
    assert all_rows["budget"] == "cpu" and all_rows["ours"]["value"] < value
    before = path.read_bytes()
    made("smoke")
    assert path.read_bytes() == before, "a smaller budget takes nothing away"


def test_rows_that_cannot_be_run_say_why_and_stop_nothing(two_tables: None, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tabling.run_table("errors", budget="smoke", column="norb-small")
    assert [r["missing"] for r in rows] == ["not run", "not run", "not run: the data are not at hand"]
    never = replace(LIKELY, not_run="no machine takes these rows")
    assert tables.missing(never) == "not run: no machine takes these rows" and not tables.runnable(never)


def test_a_row_of_a_run_that_there_is_not_is_named(two_tables: None) -> None:
    with pytest.raises(ReverieError, match="judges Nobody of likelihood"):
        tabling._owner(replace(TOLD, run_of=("likelihood", "Nobody")))
    with pytest.raises(ReverieError, match="epochs are not known; give --budget cpu"):
        lost = replace(LIKELY, epochs=None)
        tabling._trained("rbm", lost, lost, Path("runs/none"), 0, "paper", None)


#: What runs that were begun by hand were made with; the rows must take them for their own.
BEGUN = {
    ("boltzmann-likelihood", "RBM 500, CD-25", "mnist"): ("rbm", 200, {
        "hidden": 500, "rate": 0.05, "sweeps": 1, "chains": 200, "valid_every": 50, "select": "last"}),
    ("boltzmann-likelihood", "DBM 500-1000", "mnist"): ("dbm", 120, {
        "hidden": (500, 1000), "rate": 0.003, "momentum.end": 0.9, "sweeps": 1, "mean_field": 8, "valid_every": 25,
        "select": "last", "pretrain.epochs": 20, "pretrain.grow": 10}),
    ("recognition", "DBM", "ocr-letters"): ("dbm", 60, {
        "hidden": (1000, 1000), "rate": 0.003, "momentum.end": 0.9, "mean_field": 8, "pretrain.epochs": 20,
        "pretrain.grow": 10, "select": "last"}),
}  # fmt: skip


@pytest.mark.parametrize("place", BEGUN)
def test_runs_begun_by_hand_are_the_rows(place: tuple[str, str, str]) -> None:
    from reverie.settings import to_json

    model, epochs, given = BEGUN[place]
    owner, claim = next((m, c) for m, c in tabling.all_claims() if (c.table, c.row, c.column) == place)
    asked = tables.with_budget(claim, "cpu")
    plan = resolve(model, given, epochs=epochs, seed=0, rows=1)
    record = {"settings": to_json(plan.settings), "model": model, "plan": {"epochs": plan.epochs}, "seed": 0}
    assert owner == model and asked.binarisation is None
    assert differences(record, resolve(owner, asked.settings, epochs=asked.epochs, seed=0, rows=1)) == []


def test_every_row_that_can_run_has_a_budget_of_seconds_and_its_own_run() -> None:
    claims = [c for _, c in tabling.all_claims() if c.table in ("recognition", "boltzmann-likelihood")]
    for claim in claims:
        asked = tabling._asked(claim, "smoke")
        assert claim.baseline or (asked.epochs or 9) <= 1, claim.row
        for budget in ("cpu", "paper"):
            assert claim.baseline or tabling._asked(claim, budget).epochs, claim.row
    folders = [tables.result_path(c) for c in claims]
    assert len(set(folders)) == len(folders)
    (told,) = [c for c in claims if (c.row, c.column, c.table) == ("DBM", "mnist", "recognition")]
    assert tabling._owner(told)[1].row == "DBM 500-1000" and tabling._asked(told, "cpu").epochs == 120


def test_likelihood_rows_name_their_binarisation_and_second_hand_figures_are_marked() -> None:
    rows = tabling.collect("boltzmann-likelihood")
    words = ("dynamic", "threshold", "sampled-fixed", "binarisation not stated")
    assert all(any(word in row["protocol"] for word in words) for row in rows)
    quoted = {row["row"] for row in rows if row["source"] == "quoted"}
    assert quoted == {"RBM 500, CD-25", "DBM 500-1000", "DBN 500-2000"}
    assert {row["kind"] for row in rows} == {"estimate", "lower_bound", "exact"}
    assert all(("(quoted)" in line[2]) == (line[0] in quoted) for line in shown.cells(rows))


def test_every_footnote_is_used_and_printed_with_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    used = {name for _, claim in tabling.all_claims() for name in claim.notes}
    assert used == set(NOTES)
    assert cli.main(["table", "recognition"]) == 0
    printed = capsys.readouterr().out
    assert "[2] The deck says 42,152 letters" in printed and "22.14 [2]" in printed
    assert cli.main(["table", "recognition", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["notes"]["ocr-size"] == NOTES["ocr-size"] and "grown" not in answer["notes"]


def _of(ours: Estimate | None, **more: Any) -> dict[str, Any]:
    base = {"table": "t", "row": "r", "column": "c", "published": -84.62, "metric": "log_likelihood", "source": "deck"}
    return {**base, "ours": None if ours is None else ours.to_json(), **more}


def test_what_a_row_is_can_be_read_off_its_cells() -> None:
    error: dict[str, Any] = {"metric": "classification_error", "published": 0.0095}
    share = Estimate(0.0132, 0.0011, 0.0, 10_000, "exact", "classify", unit="fraction", low=0.0111, high=0.0156)
    rows = [
        _of(None, missing="not run"),
        _of(None, missing="not run: the data are not at hand", **error),
        _of(Estimate(-86.37, 0.2, 0.0, 100, "lower_bound", "ais"), kind="lower_bound", source="quoted"),
        _of(Estimate(-86.0, 0.2, 0.1, 100, "bracket", "ais", low=-86.5, high=-85.5), kind="estimate"),
        _of(share, **error, notes={"batches": "Sixty."}),
    ]
    assert [line[2:5] for line in shown.cells(rows)] == [
        ["−84.62", "not run", "–"],
        ["0.95", "not run: the data are not at hand", "–"],
        ["≥ −84.62 (quoted)", "≥ −86.37 ± 0.20", "−1.75"],
        ["≈ −84.62", "∈ [−86.50, −85.50] ± 0.20", "[−1.88, −0.88]"],
        ["0.95 [1]", "= 1.32 [1.11, 1.56]", "+0.37"],
    ]
    below = shown.plain(rows).splitlines()[-3:]
    assert below[0].startswith("Errors in per cent, less is better") and below[1].startswith("Quoted")
    assert below[2] == "[1] Sixty."
    for text in (shown.markdown(rows), str(shown.html(rows))):
        assert "[1] Sixty." in text and "at second hand" in text


@pytest.mark.parametrize("width", [60, 80, 120, 300])
def test_a_table_folds_in_a_terminal_and_never_in_a_pipe(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["table", "iwae"]) == 0
    piped = capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.main(["table", "iwae"]) == 0
    seen = capsys.readouterr().out
    seen = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert max(map(len, seen.splitlines())) <= width and "−86.76" in seen and "difference" in seen
    # What says how a number was made gives way first, and it is said.
    assert ("Without" in seen, "commit" in piped) == (width < 200, True)
    assert (seen == piped) == (width == 300)
    rows = {str(claim.row) for _, claim in tabling.all_claims("iwae")}
    assert sum(line.startswith(tuple(rows)) for line in piped.splitlines()) == len(rows), "a row is a line"


def _script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_and_the_pages_of_models_carry_the_footnotes() -> None:
    from reverie import models

    share = Estimate(0.0132, 0.0011, 0.0, 10_000, "exact", "classify", unit="fraction", low=0.0111, high=0.0156)
    made = {"model": "m", "epochs": None, "paper_epochs": None, "budget": "cpu", "commit": None}
    row = _of(share, metric="classification_error", published=0.0095, notes={"batches": "Sixty."}, **made)
    lines = list(_script("readme").results([row, _of(None, notes={"other": "Not run."}, **made)]))
    assert "0.95 [1], = 1.32 [1.11, 1.56] (budget cpu, no commit)" in lines[1] and lines[-1] == "[1] Sixty."
    page = "\n".join(_script("model_pages").page("dbm", models.load_module("dbm")))
    assert "| recognition | DBM | ocr-letters | 8.40 %" in page and NOTES["ocr-size"] in page
    assert "−84.62 bound" in page and np.char.count(page, "another source that quotes it") == 1


def test_tasks_of_one_network_are_judged_by_its_run_and_means_by_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memn2n = models.load_module("memn2n")
    how = {"data": "tiny-stories", "settings": {"width": 6, "hops": 1, "restarts": 1}, "epochs": 1.0,
           "budgets": {"smoke": {}}, "published": None, "source": None}  # fmt: skip
    owner = Claim(table="babi", row="all", column="c", metric="error_rate", **how)
    one = replace(owner, table="babi-tasks", row="1", column="joint", run_of=("babi", "all", "c"))
    again = replace(one, row="2")
    mean = Claim(table="babi", row="mean", column="c", metric="error_rate", mean_of=("babi-tasks", "joint"),
                 **{**how, "settings": {}, "epochs": None})  # fmt: skip
    monkeypatch.setattr(memn2n, "CLAIMS", (owner, one, again, mean))
    monkeypatch.setattr(tabling.models, "discover", lambda: ["memn2n"])
    monkeypatch.setattr(tabling.modelless, "CLAIMS", ())
    (tmp_path / "results").mkdir()
    monkeypatch.setenv("REVERIE_RESULTS", str(tmp_path / "results"))
    with pytest.raises(ReverieError, match="babi, mean: needs 1, 2; first: reverie table babi-tasks --run"):
        tabling.run_table("babi", budget="smoke", rows="mean")
    tabling.run_table("babi-tasks", budget="smoke")
    # One run for both, and counted once.
    assert len(list(Path("runs/tables").glob("*/*"))) == 1
    (row,) = [r for r in tabling.run_table("babi", budget="smoke", rows="mean") if r["row"] == "mean"]
    ours = tables.read_result(again, tmp_path / "results")["ours"]
    assert row["ours"]["value"] == pytest.approx(ours.value) and row["ours"]["estimator"] == "mean-of-2"
    assert row["ours"]["standard_error"] == pytest.approx(ours.standard_error / 2**0.5)
    assert ours.low < ours.value < ours.high and ours.n == 500
