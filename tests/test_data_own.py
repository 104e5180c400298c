"""Own data in every form: read right, or refused in one line that names the file and what to do."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from reverie import data
from reverie.data.dataset import Dataset
from reverie.data.like import titles
from reverie.errors import ReverieError
from reverie.evaluate.baseline import independent_baseline

RNG = np.random.default_rng(0)


def real(n: int = 40, columns: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, columns)) * np.arange(1, columns + 1) + 5


def table(path: Path, header: list[str] | None, rows: Any, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(header)
        writer.writerows(rows)
    return path


def everything(found: Dataset) -> np.ndarray:
    """Return all stored rows, in an order that does not depend on the split."""
    rows = np.concatenate([found.splits[s].x[:] for s in ("train", "valid", "test")])
    return rows[np.lexsort(rows.T[::-1])]


def ordered(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T[::-1])]


def refused(spec: Any, pattern: str, **wish: Any) -> str:
    with pytest.raises(ReverieError) as caught:
        data.load(spec, **wish)
    text = str(caught.value)
    assert "\n" not in text and re.search(pattern, text), text
    return text


# --- arrays ---


def test_real_rows_are_scaled_by_the_training_rows_and_restored() -> None:
    rows = real(200)
    found = data.load(rows)
    assert (found.likelihood, found.binarisation, found.measure, found.shape) == ("gaussian", "as-is", "density", (3,))
    assert [found.size(s) for s in ("train", "valid", "test")] == [160, 20, 20]
    train = found.rows("train")
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(0), 1, atol=1e-5)
    np.testing.assert_allclose(found.restore(train), found.splits["train"].x, rtol=1e-5)
    assert found.log_scale == pytest.approx(np.log(found.scale).sum())
    np.testing.assert_allclose(everything(found), ordered(rows.astype(np.float32)))


@pytest.mark.parametrize("low, high", [(0, 1), (0, 255), (-1, 1), (0.1, 0.3)])
def test_two_values_are_binary(low: float, high: float) -> None:
    rows = np.where(RNG.random((50, 4)) < 0.5, low, high)
    found = data.load(rows)
    assert (found.likelihood, found.binarisation) == ("bernoulli", "as-is")
    assert set(np.unique(found.rows("train"))) == {0.0, 1.0}
    np.testing.assert_allclose(found.restore(found.rows("test")), found.splits["test"].x, rtol=1e-6)


def test_what_leaves_for_a_file_is_whole_where_the_column_was() -> None:
    """Under any law of a table, by column; of what is given nothing is rounded, nor are pictures."""
    rng = np.random.default_rng(0)
    real = np.column_stack([rng.integers(0, 90, 60), rng.normal(size=60), rng.integers(0, 90, 60)]).astype(float)
    real[3, 0] = np.nan
    said = np.asarray([[1.4, 0.6, -0.2], [2.6, 1.7, 0.8]])
    given = np.asarray([[1.4, np.nan, np.nan], [np.nan, np.nan, 0.8]])
    found = data.load(real)
    assert found.likelihood == "gaussian"
    for kept in (found, Dataset.from_json(json.loads(json.dumps(found.to_json())))):
        np.testing.assert_array_equal(kept.filed(said), [[1, 0.6, 0], [3, 1.7, 1]])
        np.testing.assert_array_equal(kept.filed(said, given), [[1.4, 0.6, 0], [3, 1.7, 0.8]])
    for law, rows in (("bernoulli", rng.integers(0, 2, (60, 3))), ("categorical", rng.integers(0, 5, (60, 3)))):
        found = data.load(rows)
        assert found.likelihood == law and found.to_json()["integers"] is True
        np.testing.assert_array_equal(Dataset.from_json(found.to_json()).filed(said), np.rint(said))
    pictures = data.load(rng.integers(0, 256, (60, 9, 9)))
    np.testing.assert_array_equal(pictures.filed(np.full((1, 81), 0.4)), np.full((1, 81), 0.4))


def test_whole_numbers_of_few_levels_are_categories() -> None:
    found = data.load(RNG.integers(-2, 4, (60, 5)))
    assert (found.likelihood, found.levels) == ("categorical", 6)
    assert found.rows("train").min() == 0 and found.rows("train").max() == 5
    assert found.restore(found.rows("train")).min() == -2


def drawings(n: int = 30, side: int = 8) -> np.ndarray:
    """Return grey images that are mostly black and white, with some pixels in between."""
    rng = np.random.default_rng(2)
    images = np.where(rng.random((n, side, side)) < 0.3, 255, 0)
    return np.where(rng.random(images.shape) < 0.1, rng.integers(0, 256, images.shape), images).astype(np.uint8)


def test_grey_drawings_are_bernoulli_means() -> None:
    found = data.load(drawings())
    assert (found.likelihood, found.binarisation, found.scale, found.shape) == ("bernoulli", "dynamic", 255.0, (8, 8))
    assert found.splits["train"].x.dtype == np.uint8
    assert set(np.unique(found.rows("test"))) == {0.0, 1.0}


@pytest.mark.parametrize("form", ["flat", "float", "flat float", "int64"])
def test_the_same_drawings_in_another_form_are_the_same(form: str) -> None:
    images = drawings()
    other = {
        "flat": images.reshape(30, -1),
        "float": images.astype(np.float64),
        "flat float": images.reshape(30, -1).astype(np.float32),
        "int64": images.astype(np.int64),
    }[form]
    assert data.load(other).hash == data.load(images).hash
    assert data.load(other).shape == (8, 8)
    assert data.load(other).scale == 255.0


def test_photographs_are_real() -> None:
    colour = RNG.integers(0, 256, (20, 8, 9, 3), dtype=np.uint8)
    found = data.load(colour)
    assert (found.likelihood, found.shape, found.width) == ("gaussian", (8, 9, 3), 216)
    assert np.ndim(found.scale) == 0
    assert data.load(colour, binarisation="dynamic").likelihood == "bernoulli"


def test_grey_in_zero_to_one_is_grey() -> None:
    found = data.load(drawings() / 255.0)
    assert (found.likelihood, found.scale) == ("bernoulli", 1.0)


def test_missing_cells_stay_missing() -> None:
    rows = real(60)
    rows[3, 1] = rows[40, 0] = np.nan
    found = data.load(rows)
    assert found.missing
    assert sum(np.isnan(found.rows(s)).sum() for s in found.splits) == 2
    assert np.isfinite(found.mean).all()
    assert any("2 cells are missing" in note for note in found.notes)


@pytest.mark.parametrize("binarisation", ["dynamic", "threshold", "sampled-fixed"])
def test_missing_cells_stay_missing_when_made_binary(binarisation: str) -> None:
    import jax

    images = drawings() / 255.0
    images[:, 0, 0] = np.where(np.arange(30) % 2, np.nan, 0.4)
    found = data.load(images, binarisation=binarisation)
    rows = np.concatenate([found.rows(s) for s in found.splits])
    assert np.isnan(rows[:, 0]).sum() == 15 and np.isnan(rows).sum() == 15
    prepared = np.asarray(found.prepare(jax.random.key(0), found.splits["train"].x))
    assert np.array_equal(np.isnan(prepared), np.isnan(found.splits["train"].x))
    assert set(np.unique(prepared[~np.isnan(prepared)])) == {0.0, 1.0}


def test_a_constant_column_is_left_out_and_given_back() -> None:
    import jax

    rows = real(30)
    rows[:, 1] = 0.1
    found, without = data.load(rows), data.load(rows[:, [0, 2]])
    assert found.missing and found.whole and found.constant.tolist() == [False, True, False]
    for split in found.splits:
        seen = found.rows(split)
        assert np.isnan(seen[:, 1]).all(), "a model sees the cells of the column as missing"
        np.testing.assert_array_equal(seen[:, [0, 2]], without.rows(split))
        np.testing.assert_array_equal(found.prepare(jax.random.key(0), found.splits[split].x), seen)
    assert found.log_scale == without.log_scale and found.mean[1] == 0.0
    # Whatever a model makes of it, and in the digits of the file: single precision has no 0.1.
    np.testing.assert_array_equal(found.restore(np.asarray([[0, -12, 0], [0, np.nan, 0]]))[:, 1], [0.1, 0.1])
    assert "Column 2 is always 0.1: left out of the likelihood, given back as it is." in found.notes
    assert independent_baseline(found).value == independent_baseline(without).value
    again = Dataset.from_json(json.loads(json.dumps(found.to_json())))
    assert again.whole and again.constant.tolist() == found.constant.tolist()


def test_a_column_that_only_the_training_rows_never_change_is_left_out_too() -> None:
    parts = {"train": real(20), "valid": real(5), "test": real(6)}
    parts["train"][:, 0] = 2.0
    found = data.load(parts)
    assert np.isnan(found.rows("test")[:, 0]).all() and found.shift[0] == 2.0
    assert any(note.startswith("Column 1 is always 2 in the training rows: left out") for note in found.notes)


def test_many_constant_columns_are_counted_not_listed() -> None:
    rows = np.column_stack([real(30), np.ones((30, 8))])
    notes = data.load(rows).notes
    assert sum("is always 1" in note for note in notes) == 5
    assert "3 more columns never change: left out of the likelihood, given back as it is." in notes


def test_classes_are_numbered_by_name() -> None:
    rows = real(9)
    found = data.load({"x": rows, "y": np.asarray(["b", "a", "c"] * 3)})
    assert found.class_names == ("a", "b", "c") and found.classes == 3
    back = np.concatenate([found.splits[s].y for s in found.splits])
    assert back.dtype == np.int32 and sorted(back.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_labels_follow_their_rows() -> None:
    rows = np.arange(60.0).reshape(30, 2)
    found = data.load({"rows": rows, "labels": np.arange(30) % 3})
    for x, y in found.splits.values():
        assert np.array_equal((x[:, 0] / 2) % 3, y)


def test_own_splits_are_kept_in_order() -> None:
    parts = {"train": real(20), "valid": real(5) + 1, "test": real(6) - 1}
    found = data.load(parts)
    assert found.split_rule == "own"
    for split, rows in parts.items():
        np.testing.assert_array_equal(found.splits[split].x, rows.astype(np.float32))


def test_keras_names_and_a_missing_validation_split() -> None:
    arrays = {"x_train": real(30), "y_train": np.arange(30) % 2, "x_test": real(8), "y_test": np.arange(8) % 2}
    found = data.load(arrays)
    assert [found.size(s) for s in ("train", "valid", "test")] == [27, 3, 8]
    assert np.array_equal(found.splits["test"].y, np.arange(8) % 2)


def test_what_a_run_keeps_of_arrays_is_read_back_as_it_was(tmp_path: Path) -> None:
    """As `run_data.keep_arrays` writes them: splits, classes as numbers."""
    for spec in ({"x": drawings(), "y": np.arange(30) % 3 + 5}, real(40), np.where(real(40) > 5, 255, 0)):
        for wish in ({}, {"binarisation": "sampled-fixed"}):
            if wish and isinstance(spec, np.ndarray) and spec.dtype == np.float64:
                continue
            found = data.load(spec, **wish)
            arrays = {s: np.asarray(r.x[:]).reshape(-1, *found.shape) for s, r in found.splits.items()}
            arrays |= {f"{s}_labels": r.y for s, r in found.splits.items() if r.y is not None}
            np.savez(tmp_path / "data.npz", **arrays)
            back = data.load(tmp_path / "data.npz", **wish)
            assert back.hash == found.hash and back.binarisation == found.binarisation
            np.testing.assert_array_equal(back.rows("test"), found.rows("test"))
            np.testing.assert_array_equal(back.shift, found.shift)


def test_class_names_come_back() -> None:
    arrays = {"train": real(9), "train_labels": np.arange(9) % 2, "class_names": np.asarray(["cat", "dog", "owl"])}
    assert data.load(arrays).class_names == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("spec", "pattern"),
    [
        (np.zeros((0, 3)), "no row"),
        (np.ones((1, 3)) * [[1, 2, 3]], "one row; give at least three"),
        (real(2), "2 rows; give at least three"),
        (np.zeros((5, 0)), "no column"),
        (np.ones((5, 3)), "every row is the same"),
        (np.ones(5), r"shape \(5,\) is not rows"),
        (np.ones((5, 3, 8, 8)), "colours last"),
        (np.ones((5, 2, 3, 4, 5)), "is not rows"),
        (np.asarray([["a", "b"]] * 5), "text"),
        (np.asarray([[None, 1]] * 5), "Python objects"),
        (real(5) + 1j, "complex numbers"),
        ([[1, 2], [3]], "unequal length"),
        (np.where(np.eye(5) > 0, np.inf, 1.0), "row 1, column 1 is infinite"),
        (np.column_stack([real(5), np.full(5, np.nan)]), "column 4 has no value"),
        (np.column_stack([real(50), 1e9 + np.arange(50) % 7]), "column 4 varies too little"),
        ({}, "cannot tell the rows"),
        ({"a": real(5), "b": real(5)}, "cannot tell the rows"),
        ({"valid": real(5), "test": real(5)}, "no train"),
        ({"train": real(5), "test": real(5, 4)}, "one shape"),
        ({"train": real(5), "train_labels": np.arange(4)}, "5 rows and 4 classes"),
        ({"train": real(9), "train_labels": np.arange(9), "test": real(9)}, "only one of rows and classes"),
        ({"train": real(9), "y": np.eye(9)}, "one class a row"),
        ({"train": real(1)}, "too few to hold out"),
        ({"x": real(9), "y": real(9)[:, 0]}, "give whole numbers or names"),
    ],
)
def test_arrays_that_are_refused(spec: Any, pattern: str) -> None:
    refused(spec, pattern)


@pytest.mark.parametrize(
    ("spec", "wish", "pattern"),
    [
        (real(), {"likelihood": "bernouli"}, "did you mean 'bernoulli'"),
        (real() + 50, {"likelihood": "bernoulli"}, "values in 0..1"),
        (real() - 50, {"likelihood": "bernoulli"}, "smallest here is -"),
        (real(), {"likelihood": "categorical"}, "categorical needs whole numbers"),
        (np.arange(3000).reshape(-1, 3), {"likelihood": "categorical"}, "3,000 levels"),
        (drawings(), {"binarisation": "as_is"}, "did you mean 'as-is'"),
        (drawings(), {"binarisation": "as-is", "likelihood": "bernoulli"}, "no likelihood under a bernoulli law"),
        (drawings(), {"binarisation": "dynamic", "likelihood": "gaussian"}, "leave out --likelihood"),
        (real(), {"split_rule": "randon"}, "did you mean 'random'"),
        ({"train": real()}, {"split_rule": "random"}, "it has own"),
        (real(), {"seed": -1}, "whole number from 0 up"),
    ],
)
def test_wishes_that_are_refused(spec: Any, wish: dict[str, Any], pattern: str) -> None:
    refused(spec, pattern, **wish)


def test_laws_can_be_chosen() -> None:
    images = drawings()
    assert data.load(images, likelihood="gaussian").measure == "density"
    assert data.load(images, binarisation="as-is").likelihood == "gaussian"
    assert data.load(images, likelihood="categorical").levels == 256
    assert data.load(images, binarisation="threshold").rows("train").max() == 1.0
    counts = RNG.integers(0, 11, (30, 4))
    assert data.load(counts, likelihood="bernoulli").scale == 10.0


def test_drawn_once_is_what_dynamic_is_judged_on_and_no_longer_moves() -> None:
    import jax

    dynamic, fixed = data.load(drawings()), data.load(drawings(), binarisation="sampled-fixed")
    np.testing.assert_array_equal(fixed.rows("test"), dynamic.rows("test"))
    assert fixed.hash != dynamic.hash and set(np.unique(fixed.splits["train"].x)) == {0, 255}
    stored = fixed.splits["train"].x
    views = [np.asarray(fixed.prepare(jax.random.key(i), stored)) for i in (0, 1)]
    np.testing.assert_array_equal(views[0], views[1])
    np.testing.assert_array_equal(views[0], fixed.rows("train"))
    moving = [np.asarray(dynamic.prepare(jax.random.key(i), dynamic.splits["train"].x)) for i in (0, 1)]
    assert not np.array_equal(moving[0], moving[1])


def test_the_seed_decides_the_split_and_nothing_else() -> None:
    rows = real(50)
    a, b, again = data.load(rows), data.load(rows, seed=1), data.load(rows)
    assert a.hash == again.hash != b.hash
    np.testing.assert_array_equal(everything(a), everything(b))


# --- tables ---


def test_a_csv_with_header_classes_and_missing_cells(tmp_path: Path) -> None:
    rows = [[f"{i / 7:.3f}", "NA" if i == 4 else str(-i), ["x", "y"][i % 2]] for i in range(20)]
    found = data.load(table(tmp_path / "my table.csv", ["a", "b", "Class"], rows))
    assert (found.name, found.columns, found.class_names) == ("my-table", ("a", "b"), ("x", "y"))
    assert found.missing and found.likelihood == "gaussian" and found.width == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_without_header(tmp_path: Path, delimiter: str) -> None:
    rows = real(12)
    found = data.load(table(tmp_path / "t.csv", None, rows, delimiter))
    assert found.columns is None
    np.testing.assert_array_equal(everything(found), ordered(rows.astype(np.float32)))


def test_a_csv_is_the_same_as_its_array(tmp_path: Path) -> None:
    for rows in (real(20), RNG.integers(0, 2, (20, 3)), RNG.integers(-3, 90, (20, 3))):
        found = data.load(table(tmp_path / "t.csv", ["a", "b", "c"], rows))
        np.save(tmp_path / "t.npy", rows)
        assert found.hash == data.load(rows).hash == data.load(tmp_path / "t.npy").hash


def test_the_first_line_may_count_the_columns(tmp_path: Path) -> None:
    found = data.load(table(tmp_path / "t.csv", ["0", "1", "2"], real(20)))
    assert found.columns == ("0", "1", "2") and sum(len(r.x) for r in found.splits.values()) == 20


def test_a_column_named_target_of_real_numbers_is_data(tmp_path: Path) -> None:
    found = data.load(table(tmp_path / "t.csv", ["a", "target", "b"], real(20)))
    assert found.class_names is None and found.columns == ("a", "b", "target")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32) | st.none()] * 3), min_size=4, max_size=12, unique=True),
    header=st.booleans(),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_csv_round_trip(tmp_path: Path, rows: list[tuple[float | None, ...]], header: bool, delimiter: str) -> None:
    """What is written is read: the same numbers in the same rows, missing cells included."""
    cells = [["" if v is None else repr(v) for v in row] for row in rows]
    # A line of empty cells alone is a blank line to a reader of tables.
    cells = [row if any(row) else ["NA"] * 3 for row in cells]
    path = table(tmp_path / "t.csv", ["a", "b", "c"] if header else None, cells, delimiter)
    wanted = np.asarray([[np.nan if v is None else v for v in row] for row in rows])
    np.testing.assert_array_equal(data.load_array(path), wanted)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "no row"),
        ("a,b\n", "no row below its header"),
        ("a,b\n1,2\n", "one row"),
        ("a,b\n1,2\n3\n4,5\n", "line 3 has 1 cells, the first has 2"),
        ("1,2\n3,4\n5,6,7\n", "line 3 has 3 cells, the first has 2"),
        ("a,b\n" + "".join(f"{i},name {i}\n" for i in range(20)), "column 'b' holds text such as 'name 0'.*'label'"),
        ("a,b\n1,2\n2,x\n3,3\n4,2.5\n", "column 'b' holds numbers, and text such as 'x' in row 2"),
        ("a,a\n1,2\n2,3\n3,1\n", "two columns are named 'a'"),
        ("a,label,class\n1,2,3\n2,3,1\n3,1,1\n", "both look like classes"),
        ("label\n1\n2\n3\n", "no column besides the classes"),
        ("a,label\n1,x\n2,\n3,x\n4,y\n", "row 2 has no class"),
        ("a,b\n1,2\n2,inf\n3,4\n4,4\n", "row 2, column 'b' is infinite"),
        ("a,b\n1,NA\n2,NA\n3,NA\n4,\n", "column 'b' has no value"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, pattern: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    assert "bad.csv" in refused(tmp_path / "bad.csv", pattern)


def test_binary_rubbish_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00\x01" * 50)
    refused(tmp_path / "bad.csv", "bad.csv.*UTF-8")
    for ending in ("npy", "npz"):
        (tmp_path / f"bad.{ending}").write_bytes(b"not numpy at all")
        refused(tmp_path / f"bad.{ending}", f"bad.{ending}.*cannot be read")
    np.save(tmp_path / "cut.npy", real())
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:200])
    refused(tmp_path / "cut.npy", "cut.npy.*cannot be read")


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.asarray([{}, []], dtype=object), allow_pickle=True)
    refused(tmp_path / "bad.npy", "bad.npy.*Python objects")
    np.savez(tmp_path / "bad.npz", x=np.asarray([{}, []], dtype=object))
    refused(tmp_path / "bad.npz", "bad.npz.*Python objects")


def test_amat(tmp_path: Path) -> None:
    rows = RNG.integers(0, 2, (12, 5))
    np.savetxt(tmp_path / "t.amat", rows, fmt="%d")
    found = data.load(tmp_path / "t.amat")
    assert found.likelihood == "bernoulli"
    np.testing.assert_array_equal(everything(found), ordered(rows))
    (tmp_path / "bad.amat").write_text("1 2\n3\n")
    refused(tmp_path / "bad.amat", "bad.amat")


def test_names_and_paths_that_are_not_there(tmp_path: Path) -> None:
    refused("minst", "did you mean 'mnist'")
    refused(tmp_path / "no.csv", "no file or folder")
    (tmp_path / "t.xlsx").write_bytes(b"x")
    refused(tmp_path / "t.xlsx", "unknown ending")


# --- folders of images ---


def picture(path: Path, size: tuple[int, int] = (9, 8), mode: str = "L", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if mode == "RGB" else size
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode="RGB" if mode == "RGB" else "L").save(path)
    return path


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
@pytest.mark.parametrize("mode, shape", [("L", (9, 8)), ("RGB", (9, 8, 3))])
def test_a_folder_of_images(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    for i in range(12):
        picture(tmp_path / ["cats", "dogs"][i % 2] / f"{i}.png", mode=mode, seed=i)
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "cats" / "readme.txt").write_text("")
    found = data.load(tmp_path)
    assert (found.shape, found.class_names) == (shape, ("cats", "dogs"))
    assert found.splits["train"].x.dtype == np.uint8
    assert any("1 files that are no images" in note for note in found.notes)
    one = np.asarray(Image.open(tmp_path / "cats" / "0.png")).reshape(1, -1)
    assert any((found.splits[s].x == one).all(1).any() for s in found.splits)


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
def test_folders_that_are_splits(tmp_path: Path) -> None:
    for split, n in (("train", 6), ("valid", 2), ("test", 3)):
        for i in range(n):
            picture(tmp_path / split / ["a", "b"][i % 2] / f"{i}.png", seed=i)
    found = data.load(tmp_path)
    assert [found.size(s) for s in ("train", "valid", "test")] == [6, 2, 3]
    assert found.class_names == ("a", "b") and found.split_rule == "own"


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
def test_images_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no image in this folder")
    picture(tmp_path / "sizes" / "a.png")
    picture(tmp_path / "sizes" / "b.png", (9, 9))
    refused(tmp_path / "sizes", r"b\.png: is 9 x 9 and a\.png is 9 x 8")
    for i in range(4):
        picture(tmp_path / "small" / f"{i}.png", (7, 9), seed=i)
    refused(tmp_path / "small", "at least 8 x 8")
    picture(tmp_path / "mixed" / "a" / "a.png")
    picture(tmp_path / "mixed" / "b.png")
    refused(tmp_path / "mixed", "beside the subfolders")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    refused(tmp_path / "broken", r"a\.png: cannot be read as an image")
    (tmp_path / "deep").mkdir()
    Image.fromarray(np.arange(81, dtype=np.uint16).reshape(9, 9) * 700).save(tmp_path / "deep" / "a.png")
    refused(tmp_path / "deep", "more than 8 bits")


@pytest.mark.parametrize("split", ["", "train", "test"])
def test_titles_are_those_of_the_rows_that_are_read(tmp_path: Path, split: str) -> None:
    """In the order of the rows, of the split that is taken: of a folder with a test split that one."""
    for number in range(12):
        part = {"": "", "train": ("train", "valid")[number % 2], "test": ("train", "test")[number % 2]}[split]
        path = tmp_path / "pictures" / part / ("odd", "even")[number // 6] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 20 * number + 5, np.uint8)).save(path)
    rows = data.load(tmp_path / "pictures", likelihood="gaussian").like(tmp_path / "pictures")
    numbers = [int(Path(title).stem) for title in titles(tmp_path / "pictures")]
    np.testing.assert_array_equal(rows[:, 0], 20.0 * np.asarray(numbers) + 5)
    assert len(numbers) == (6 if split else 12)
    assert titles("digits") == titles(np.zeros((2, 3))) == []


def test_colour_is_not_called_grey() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    said = " ".join(data.load(pixels).notes)
    assert "in colour" in said and "levels of red, green and blue" in said and "grey" not in said
    assert "grey values" in " ".join(data.load(pixels[..., 0]).notes)
