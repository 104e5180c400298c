"""Tables are made by runs that go on where they stopped, and say what made each number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reverie import tabling
from reverie.errors import ReverieError
from reverie.evaluate import tables
from reverie.run import load, train

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
    from reverie.errors import Interrupted

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
    assert len(rows) == 24
