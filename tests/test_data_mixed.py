"""Tables of numbers and text: which columns are categories, what is refused, and that names go out as they came in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from reverie import cli, data
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.baseline import independent_rows
from reverie.train.fit import mean_log_scale

RNG = np.random.default_rng(0)
COLOURS = ("blue", "green", "red")


def table(path: Path, rows: int = 60, **columns: Any) -> Path:
    """A table of a real column, one of text, and whatever else."""
    own = {"size": np.round(RNG.normal(10, 3, rows), 2), "colour": np.asarray(COLOURS)[np.arange(rows) % 3], **columns}
    lines = [",".join(own), *(",".join(map(str, row)) for row in zip(*own.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(spec: Any, pattern: str, **wish: Any) -> str:
    with pytest.raises(ReverieError) as caught:
        data.load(spec, **wish)
    said = str(caught.value)
    assert "\n" not in said and re.search(pattern, said), said
    return said


def test_text_becomes_categories_and_two_numbers_too(tmp_path: Path) -> None:
    rooms, smoker = np.arange(60) % 5 + 1, np.arange(60) % 2 + 3
    found = data.load(str(table(tmp_path / "t.csv", rooms=rooms, smoker=smoker)))
    assert (found.likelihood, found.measure, found.column_levels) == ("mixed", "density", (0, 3, 0, 2))
    assert found.categories == (None, COLOURS, None, ("3", "4"))
    train = found.rows("train")
    assert set(np.unique(train[:, 1])) == {0.0, 1.0, 2.0} and set(np.unique(train[:, 3])) == {0.0, 1.0}
    np.testing.assert_allclose([train[:, 0].std(), train[:, 2].std()], 1.0, atol=1e-4)
    # Numbers alone have a scale.
    assert found.log_scale == pytest.approx(np.log(np.asarray(found.scale)[[0, 2]]).sum())
    assert mean_log_scale(found) == pytest.approx(found.log_scale)
    said = " ".join(found.notes)
    for part in (
        "Column 'colour': 3 categories (blue, green, red).",
        "Column 'smoker': 2 categories (3, 4), two numbers.",
        "Column 'rooms': 5 whole numbers, taken as numbers; --categories rooms",
        "Law: mixed",
    ):
        assert part in said
    asked = data.load(str(tmp_path / "t.csv"), categories=["rooms"])
    assert asked.categories is not None and asked.categories[2] == ("1", "2", "3", "4", "5")


def test_tables_without_text_are_what_they_were(tmp_path: Path) -> None:
    x = RNG.normal(size=(40, 3))
    assert data.load(x).likelihood == "gaussian" and data.load(x).categories is None
    mixed = data.load(x, likelihood="mixed")
    assert mixed.categories == (None,) * 3 and mixed.log_scale == pytest.approx(data.load(x).log_scale)
    assert data.load(RNG.integers(0, 4, (60, 5))).likelihood == "categorical"
    only = data.load(RNG.integers(0, 2, (60, 3)), likelihood="mixed")
    assert (only.measure, only.log_scale, only.column_levels) == ("mass", 0.0, (2, 2, 2))


def test_missing_cells_stay_missing_in_any_column(tmp_path: Path) -> None:
    colour = np.asarray(["red", "NA", "blue", "", "none", "?"])[np.arange(60) % 6]
    found = data.load(str(table(tmp_path / "t.csv", colour=colour)))
    assert found.categories == (None, ("blue", "red")) and found.missing and not found.whole
    assert np.isnan(found.splits["train"].x[:, 1]).mean() > 0.5
    assert any("'none' in 10 cells is taken as missing" in note for note in found.notes)
    named = found.named(found.restore(found.rows("train")))
    assert {v for v in named[:, 1] if isinstance(v, str)} == {"blue", "red"}
    assert all(v != v for v in named[np.isnan(found.rows("train")[:, 1]), 1])


def test_constant_columns_are_left_out_and_given_back(tmp_path: Path) -> None:
    found = data.load(str(table(tmp_path / "t.csv", planet=["earth"] * 60, gravity=[9.81] * 60)))
    assert found.constant.tolist() == [False, False, True, True] and np.isnan(found.rows("train")[:, 2:]).all()
    assert any("Column 'planet' is always earth" in note for note in found.notes)
    back = found.named(found.restore(np.zeros((2, 4))))
    assert back[0].tolist()[2:] == ["earth", 9.81]
    # A category that the training rows happen to have alone is not constant.
    assert found.whole and found.missing


def test_what_is_recorded_is_enough_to_know_the_columns(tmp_path: Path) -> None:
    found = data.load(str(table(tmp_path / "t.csv")))
    back = Dataset.from_json(json.loads(json.dumps(found.to_json())))
    assert (back.categories, back.column_levels, back.measure) == (found.categories, found.column_levels, "density")
    np.testing.assert_array_equal(back.level_counts, np.zeros((2, 3)))
    # The hash covers names as well as codes.
    other = (tmp_path / "t.csv").read_text().replace("green", "grue")
    (tmp_path / "u.csv").write_text(other)
    renamed = data.load(str(tmp_path / "u.csv"))
    np.testing.assert_array_equal(renamed.splits["train"].x, found.splits["train"].x)
    assert renamed.hash != found.hash and data.load(str(tmp_path / "t.csv")).hash == found.hash


@pytest.mark.parametrize("header", [True, False])
def test_a_table_whose_first_line_is_text_and_numbers_is_understood(header: bool, tmp_path: Path) -> None:
    lines = [f"{i / 7:.3f},{COLOURS[i % 3]}" for i in range(30)]
    (tmp_path / "t.csv").write_text("\n".join((["size,colour"] if header else []) + lines) + "\n")
    found = data.load(str(tmp_path / "t.csv"))
    assert sum(found.size(split) for split in found.splits) == 30
    assert found.columns == (("size", "colour") if header else None) and found.categories == (None, COLOURS)
    assert any("First line" in note or "first line holds numbers" in note for note in found.notes) != header


@pytest.mark.parametrize(
    ("columns", "wish", "pattern"),
    [
        ({"id": [f"u{i}" for i in range(60)]}, {}, "column 'id' holds text such as 'u0', 60 different ones in 60 rows"),
        ({"age": ["x", *range(59)]}, {}, "column 'age' holds numbers, and text such as 'x' in row 1; mend"),
        ({}, {"likelihood": "gaussian"}, "column 'colour' holds categories, which gaussian does not take"),
        ({}, {"binarisation": "threshold"}, "column 'colour' holds categories, which threshold does not take"),
        ({}, {"categories": ["color"]}, "categories: .* no column 'color'; did you mean 'colour'"),
        ({"class": ["a", "b"] * 30}, {"categories": ["class"]}, "no column 'class'; it holds classes: give it another"),
    ],
)
def test_what_is_refused_names_the_column(columns: dict, wish: dict, pattern: str, tmp_path: Path) -> None:
    assert "t.csv" in refused(str(table(tmp_path / "t.csv", **columns)), pattern, **wish)


def test_text_that_looks_like_an_identifier_can_be_asked_for(tmp_path: Path) -> None:
    path = str(table(tmp_path / "t.csv", id=[f"u{i}" for i in range(60)], age=["x", *range(59)]))
    found = data.load(path, categories=["id", "age"])
    assert found.column_levels == (0, 3, 60, 60)
    refused(RNG.normal(size=(30, 4, 4)), "images have no columns", likelihood="mixed")


def test_new_rows_have_the_codes_of_training(tmp_path: Path) -> None:
    found = data.load(str(table(tmp_path / "t.csv", smoker=np.arange(60) % 2)))
    new = tmp_path / "new.csv"
    new.write_text("smoker,more,colour,size\n1,9,red,2.5\n,9,,\n0.0,9,blue,1\n")
    np.testing.assert_array_equal(found.like(new), [[2.5, 2, 1], [np.nan, np.nan, np.nan], [1, 0, 0]])
    # Without names, columns are in their places; arrays hold codes.
    (tmp_path / "bare.csv").write_text("2.5,green,1\n3.5,red,0\n")
    np.testing.assert_array_equal(found.like(tmp_path / "bare.csv"), [[2.5, 1, 1], [3.5, 2, 0]])
    np.testing.assert_array_equal(found.like(np.asarray([[2.5, 1, 1.0]])), [[2.5, 1, 1]])
    for text, pattern in (
        ("size,colour,smoker\n1,blu,0\n", "column 'colour' has no category 'blu' in training, which row 1 .*'blue'"),
        ("size,colour,smoker\n1,red,0\n1,red,7\n", r"column 'smoker' has no category '7' .* row 2 .*\(it has 0, 1\)"),
        ("size,colour,smoker\nbig,red,0\n", "column 'size' holds text such as 'big', and numbers in training"),
    ):
        new.write_text(text)
        with pytest.raises(ReverieError, match=pattern) as caught:
            found.like(new)
        assert "new.csv" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ReverieError, match="not the code of a category"):
        found.like(np.asarray([[2.5, 3.0, 1.0]]))
    with pytest.raises(ReverieError, match="holds text; give numbers"):
        data.load_array(tmp_path / "t.csv")


def test_a_model_of_numbers_takes_no_text(tmp_path: Path) -> None:
    found = data.load({"x": RNG.normal(size=(40, 2)), "columns": np.asarray(["a", "b"])})
    (tmp_path / "new.csv").write_text("a,b\n1,2\n3,four\n")
    with pytest.raises(ReverieError, match="column 'b' holds text such as 'four', and numbers in training"):
        found.like(tmp_path / "new.csv")


def test_the_baseline_is_a_normal_law_or_frequencies_for_each_column(tmp_path: Path) -> None:
    colour = np.asarray(["red"] * 30 + ["blue"] * 20 + [""] * 10)
    found = data.load(str(table(tmp_path / "t.csv", colour=colour)))
    x, test = found.splits["train"].x.astype(float), found.splits["test"].x.astype(float)
    codes = x[:, 1][~np.isnan(x[:, 1])]
    p = (np.asarray([(codes == 0).sum(), (codes == 1).sum()]) + 1) / (len(codes) + 2)
    want = norm.logpdf(test[:, 0], x[:, 0].mean(), x[:, 0].std())
    want += np.where(np.isnan(test[:, 1]), 0.0, np.log(p)[np.nan_to_num(test[:, 1]).astype(int)])
    np.testing.assert_allclose(independent_rows(found, "test"), want, atol=1e-5)


def test_the_command_tells_and_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(table(tmp_path / "t.csv", rooms=np.arange(60) % 5))
    assert cli.main(["data", path, "--categories", "rooms"]) == 0
    assert "Column 'rooms': 5 categories (0, 1, 2, 3, 4)." in capsys.readouterr().out
    assert cli.main(["data", "--categories", "rooms"]) == 2
    assert "rooms of what? name it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cell", "words"),
    [("3,{i}", "numbers with commas, such as '3,0'; write them with points"),
     ("2024-01-1{i}", "holds dates, such as '2024-01-10'; give .* leave it out .--drop x")],
)  # fmt: skip
def test_numbers_with_commas_and_dates_are_no_categories(cell: str, words: str, tmp_path: Path) -> None:
    lines = [f"{i};{cell.format(i=i % 8)};{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["age;x;kind", *lines]))
    with pytest.raises(ReverieError, match=words) as caught:
        data.load(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)
    assert data.load(tmp_path / "t.csv", categories=("x",)).column_levels[1] == 8


def test_a_column_that_counts_the_rows_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{i + 7},{rng.normal():.3f},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["id,x,kind", *lines]))
    assert any(note.startswith("Column 'id' counts the rows") for note in data.load(tmp_path / "t.csv").notes)
    (tmp_path / "t.csv").write_text("\n".join(["id,x,kind", *lines[::2]]))
    assert not any("counts the rows" in note for note in data.load(tmp_path / "t.csv").notes)
