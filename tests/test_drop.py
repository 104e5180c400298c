"""Columns left out of a table: which, how they are asked for, and new rows that have them or not."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import cli, data
from reverie.classifying import labelled_rows
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.report import sections_about
from reverie.report.reading import RunView

COLOURS = ("blue", "green", "red")
SIZES = np.random.default_rng(0).normal(10, 3, 60).round(2)


def columns(**more: Any) -> dict[str, Any]:
    """An identifier, a real column, a date and a column of categories, sixty rows each."""
    days = [f"2024-01-{i % 28 + 1:02}" for i in range(60)]
    names = [COLOURS[i % 3] for i in range(60)]
    return {"id": [f"u{i}" for i in range(60)], "size": SIZES, "day": days, "colour": names, **more}


def write(path: Path, table: dict[str, Any], header: bool = True) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*([list(table)] if header else []), *zip(*table.values(), strict=True)])
    return path


def without(table: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: cells for name, cells in table.items() if name not in names}


def test_all_columns_that_are_refused_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", columns(**{"old id": [f"v{i}" for i in range(60)]}))
    with pytest.raises(ReverieError) as caught:
        data.load(str(path))
    said = str(caught.value)
    for part in ("'id' holds text such as 'u0'", "'day' holds dates", "'old id' holds text", "leave them out"):
        assert part in said and "\n" not in said
    # What it advises is what can be typed.
    assert "--drop 'id,day,old id'" in said
    assert data.load(str(path), drop=["id", "day", "old id"]).columns == ("size", "colour")


def test_what_is_left_out_is_as_if_it_were_not_in_the_file(tmp_path: Path) -> None:
    found = data.load(str(write(tmp_path / "t.csv", columns())), drop=["id", "day"])
    alone = data.load(str(write(tmp_path / "u.csv", without(columns(), "id", "day"))))
    assert found.hash == alone.hash and found.dropped == (0, 2) and alone.dropped == ()
    assert "Left out: column 'id', column 'day'." in found.notes
    assert Dataset.from_json(json.loads(json.dumps(found.to_json()))).dropped == (0, 2)
    # A table of numbers alone, which is read another way.
    numbers = write(tmp_path / "n.csv", {"id": range(60), "a": SIZES, "b": SIZES[::-1]})
    assert data.load(str(numbers), drop=["id"]).likelihood == "gaussian"
    assert data.load(str(numbers), drop=["id"]).splits["train"].x.shape[1] == 2


def test_classes_can_be_left_out(tmp_path: Path) -> None:
    """Among them those with holes, and one of two columns that both look like classes."""
    two = write(tmp_path / "t.csv", {"size": SIZES, "class": ["a", "b"] * 30, "y": ["", "1"] * 30})
    for wish, said in (
        (None, "'class' and 'y' both look like classes"),
        (["class"], "row 1 has no class in column 'y'"),
    ):
        with pytest.raises(ReverieError, match=f"{said}.*--drop"):
            data.load(str(two), drop=wish)
    assert data.load(str(two), drop=["y"]).class_names == ("a", "b")
    assert data.load(str(two), drop=["class", "y"]).class_names is None


@pytest.mark.parametrize(
    ("source", "drop", "said"),
    [
        ("t.csv", ["idd"], "drop: .*t.csv has no column 'idd'; did you mean 'id'"),
        ("t.csv", list(columns()), "no column besides the classes and what is left out"),
        ("x.npy", ["1"], r"drop: .*x.npy is no .csv, .tsv, .txt with columns"),
        ("digits", ["1"], "drop: digits is no"),
        (np.eye(5), ["1"], "drop: data is no"),
    ],
)
def test_what_cannot_be_left_out_is_told(source: Any, drop: list[str], said: str, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", columns())
    np.save(tmp_path / "x.npy", np.eye(5))
    spec = str(tmp_path / source) if isinstance(source, str) and "." in source else source
    with pytest.raises(ReverieError, match=said) as caught:
        data.load(spec, drop=drop)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("header", [True, False])
def test_new_rows_have_these_columns_or_not(header: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", columns(), header)
    found = data.load(str(path), drop=["id", "day"] if header else ["1", "3"])
    want = np.stack([SIZES, np.arange(60) % 3], axis=1)
    few = without(columns(), "id", "day")
    for name, table, named in (
        ("whole", columns(), header), ("few", few, header), ("bare", columns(), False), ("bare few", few, False),
    ):  # fmt: skip
        np.testing.assert_array_equal(found.like(write(tmp_path / f"{name}.csv", table, named)), want)
    # By name, in any order and with one of the two; by place, of no other width.
    mixed = {"day": few["size"], **dict(reversed(few.items()))}
    if header:
        np.testing.assert_array_equal(found.like(write(tmp_path / "mixed.csv", mixed)), want)
    with pytest.raises(ReverieError, match="the model was trained on 2 columns"):
        found.like(write(tmp_path / "three.csv", mixed, False))


def test_a_run_leaves_them_out_from_training_to_its_last_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "t.csv", columns(size=[*[""] * 20, *SIZES[20:]]))
    new = columns(size=[*SIZES[:30], *[""] * 30])
    run = str(tmp_path / "run")
    options = ["--steps", "20", "--batch", "20", "--hidden", "5", "--drop", "id,day"]
    assert cli.main(["train", "nade", "--data", str(source), "--run", run, *options]) == 0
    assert "Left out: column 'id', column 'day'." in capsys.readouterr().err
    whole, few = write(tmp_path / "new.csv", new), write(tmp_path / "few.csv", without(new, "id", "day"))
    for verb in ("score", "impute"):
        outs = [tmp_path / f"{verb}-{path.name}" for path in (whole, few)]
        for path, out in zip((whole, few), outs, strict=True):
            assert cli.main([verb, run, "--input", str(path), "--out", str(out)]) == 0
        assert outs[0].read_bytes() == outs[1].read_bytes()
    filled = list(csv.reader((tmp_path / "impute-new.csv").read_text().splitlines()))
    assert filled[0] == ["size", "colour"] and all(row[0] for row in filled)
    opened = reverie.load(run)
    numbers = [opened.evaluate(data=path)["log_likelihood"].value for path in (whole, few)]
    assert numbers[0] == numbers[1]
    # The run finds its own rows again, and says how it was made.
    assert opened.data.hash == opened.record["data"]["hash"] and opened.record["data_arguments"]["drop"] == [
        "id",
        "day",
    ]
    assert "--drop id,day" in sections_about.command(RunView.read(Path(run)))


def test_labelled_rows_have_these_columns_or_not(tmp_path: Path) -> None:
    bits = np.random.default_rng(2).integers(0, 2, (60, 4))
    table = {"id": range(60), **{f"b{i}": column for i, column in enumerate(bits.T)}, "label": ["no", "yes"] * 30}
    whole, few = write(tmp_path / "t.csv", table), write(tmp_path / "few.csv", without(table, "id"))
    run = reverie.train("rbm", str(whole), drop=["id"], run=tmp_path / "run", steps=5, hidden=3, batch=10)
    assert isinstance(run, reverie.Run)
    found = [labelled_rows(run, given, "means") for given in (None, str(whole), str(few))]
    assert [data.columns for data, _ in found] == [("b0", "b1", "b2", "b3")] * 3
    assert len({data.hash for data, _ in found}) == 1
    # What reads them again leaves out what it can.
    assert [how.get("drop") for _, how in found] == [["id"], ["id"], None]


def test_the_command_shows_what_training_would_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "t.csv", columns()))
    assert cli.main(["data", path]) == 2
    assert cli.main(["data", path, "--drop", "id,day"]) == 0
    assert "60 rows, 2 columns" in capsys.readouterr().out
    assert cli.main(["data", "--drop", "id"]) == 2
    assert "drop: id of what? name it" in capsys.readouterr().err
