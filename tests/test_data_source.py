"""Rows that train from memory and from disk; new rows for a trained model; the record without rows."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from reverie import data
from reverie.data import named
from reverie.data.dataset import Dataset
from reverie.data.order import batch_indices
from reverie.data.rows import Gathered
from reverie.errors import ReverieError


def real(n: int = 40, columns: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, columns)) * np.arange(1, columns + 1) + 5


def grey(n: int = 40) -> np.ndarray:
    rng = np.random.default_rng(2)
    images = np.where(rng.random((n, 8, 8)) < 0.3, 255, 0)
    return np.where(rng.random(images.shape) < 0.1, rng.integers(0, 256, images.shape), images).astype(np.uint8)


@pytest.fixture(params=["float64", "int64", "uint8 images"])
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Dataset, Dataset]:
    """The same file in memory and on disk."""
    rows = {"float64": real(), "int64": np.arange(120).reshape(40, 3) % 71, "uint8 images": grey()}[request.param]
    np.save(tmp_path / "rows.npy", rows)
    held = data.load(tmp_path / "rows.npy")
    monkeypatch.setenv("REVERIE_RESIDENT_BYTES", "100")
    return held, data.load(tmp_path / "rows.npy")


def test_on_disk_and_in_memory_are_the_same_data(both: tuple[Dataset, Dataset]) -> None:
    held, disk = both
    assert held.resident and not disk.resident
    assert isinstance(disk.splits["train"].x, Gathered)
    assert disk.hash == held.hash and disk.notes == held.notes
    np.testing.assert_array_equal(disk.mean, held.mean)
    np.testing.assert_array_equal(disk.scale, held.scale)
    for split in held.splits:
        np.testing.assert_array_equal(disk.rows(split), held.rows(split))
        np.testing.assert_array_equal(disk.rows(split, 1, 3), held.rows(split)[1:3])


def test_a_compiled_loop_takes_the_same_rows_from_both(both: tuple[Dataset, Dataset]) -> None:
    def total(found: Dataset) -> np.ndarray:
        source = found.training_source()

        @jax.jit
        def run(steps: jax.Array) -> jax.Array:
            def body(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
                step, seen = state
                rows, _ = source.take(batch_indices(0, step, 7, source.size))
                return step + 1, seen * 0.9 + rows.astype(jnp.float32).sum(0)

            start = (jnp.int32(0), jnp.zeros(found.width))
            return jax.lax.while_loop(lambda s: s[0] < steps, body, start)[1]

        return np.asarray(run(jnp.int32(20)))

    held, disk = both
    rows = [found.training_source().take(jnp.asarray([3, 0, 31]))[0] for found in both]
    assert rows[0].dtype == rows[1].dtype
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(total(disk), total(held))


def test_a_file_of_labelled_rows_gives_its_classes() -> None:
    found = data.load({"x": real(), "y": np.arange(40) % 4})
    rows, labels = found.training_source().take(jnp.asarray([5, 2]))
    np.testing.assert_array_equal(rows, found.splits["train"].x[[5, 2]])
    assert labels.dtype == jnp.int32
    np.testing.assert_array_equal(labels, found.labels("train")[[5, 2]])


def test_rows_on_disk_are_refused_where_they_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVERIE_RESIDENT_BYTES", "100")
    np.save(tmp_path / "grey.npy", grey())
    with pytest.raises(ReverieError, match="sampled-fixed keeps its draws in memory"):
        data.load(tmp_path / "grey.npy", binarisation="sampled-fixed")
    np.save(tmp_path / "columns.npy", np.asfortranarray(real()))
    with pytest.raises(ReverieError, match="ascontiguousarray"):
        data.load(tmp_path / "columns.npy")
    monkeypatch.setenv("REVERIE_RESIDENT_BYTES", "many")
    with pytest.raises(ReverieError, match="REVERIE_RESIDENT_BYTES"):
        data.load(tmp_path / "grey.npy")


def test_order_on_disk_is_seeded_not_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file sorted by class must not give a test split of one class."""
    monkeypatch.setenv("REVERIE_RESIDENT_BYTES", "100")
    np.save(tmp_path / "sorted.npy", np.sort(real(300), axis=0))
    found = data.load(tmp_path / "sorted.npy")
    test = found.splits["test"].x[:][:, 0]
    everything = np.sort(real(300)[:, 0])
    assert test.min() < np.quantile(everything, 0.3) and test.max() > np.quantile(everything, 0.7)


# --- evaluation's view ---


def test_evaluation_binarises_once_and_row_by_row() -> None:
    found = data.load(np.concatenate([grey(2000)] * 2)[:2500])
    whole = found.rows("train")
    np.testing.assert_array_equal(whole, found.rows("train"))
    np.testing.assert_array_equal(found.rows("train", 990, 1010), whole[990:1010])
    np.testing.assert_array_equal(np.concatenate([x for x, _ in found.blocks("train", 333)]), whole)
    assert found.rows("train", 5, 5).shape == (0, 64)


def test_training_binarises_with_the_right_means() -> None:
    """1,000 draws of each pixel against its mean: z of the worst of 64 below 5, a false alarm once in 30,000 seeds."""
    found = data.load(grey())
    row = found.splits["train"].x[0]
    keys = jax.random.split(jax.random.key(0), 1000)
    draws = np.asarray(jax.vmap(lambda k: found.prepare(k, jnp.asarray(row)))(keys))
    mean = row / 255.0
    error = np.sqrt(mean * (1 - mean) / 1000)
    np.testing.assert_array_equal(draws.mean(0)[error == 0], mean[error == 0])
    inner = error > 0
    assert inner.any() and (np.abs(draws.mean(0) - mean)[inner] < 5 * error[inner]).all()


# --- the record ---


@pytest.mark.parametrize("spec", [real(), grey(), {"x": real(), "y": np.arange(40) % 2}])
def test_the_record_without_rows(spec: Any) -> None:
    found = data.load(spec)
    record = json.loads(json.dumps(found.to_json()))
    facts = Dataset.from_json(record)
    assert facts.to_json() == record
    assert (facts.width, facts.classes, facts.size("train")) == (found.width, found.classes, found.size("train"))
    np.testing.assert_allclose(facts.restore(found.rows("test")), found.restore(found.rows("test")))
    assert facts.mean.shape == found.mean.shape
    with pytest.raises(ReverieError, match="not loaded here"):
        facts.rows("test")


# --- new rows ---


def write(path: Path, header: list[str], rows: Any) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_new_rows_of_a_table_are_found_by_name(tmp_path: Path) -> None:
    found = data.load(write(tmp_path / "t.csv", ["a", "b", "label"], [[i, i / 7, i % 2] for i in range(30)]))
    new = write(tmp_path / "new.csv", ["who", "b", "a"], [["x", 0.5, 1], ["y", "", 2]])
    np.testing.assert_array_equal(found.like(new), [[1, 0.5], [2, np.nan]])
    assert found.like(new).dtype == np.float64
    with pytest.raises(ReverieError, match=r"row 2, column 2 .* is missing"):
        found.like(new, missing=False)
    write(tmp_path / "lacking.csv", ["a", "c"], [[1, 2]])
    with pytest.raises(ReverieError, match=r"lacking\.csv: has no column 'b'"):
        found.like(tmp_path / "lacking.csv")
    (tmp_path / "plain.csv").write_text("1,2\n3,4\n")
    np.testing.assert_array_equal(found.like(tmp_path / "plain.csv"), [[1, 2], [3, 4]])


def test_new_rows_of_a_named_data_set_are_its_test_rows() -> None:
    digits = data.load("digits")
    for name in ("digits", Path("digits")):
        np.testing.assert_array_equal(digits.like(name), digits.splits["test"].x)
    with pytest.raises(ReverieError, match=r"digits: rows of shape \(300, 64\), the model was trained on 3 columns"):
        data.load(real()).like(Path("digits"))


def test_new_rows_of_a_named_data_set_are_split_as_those_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another split's test rows may have been trained on."""
    asked, digits = [], named.ENTRIES[0]
    entry = replace(digits, read=lambda rule: (asked.append(rule), digits.read(rule))[1])
    monkeypatch.setattr(named, "ENTRIES", (entry,))
    facts = replace(data.load(grey()), source="digits", split_rule="other")
    facts.like("digits")
    assert asked == ["other"]


def test_new_rows_of_images(tmp_path: Path) -> None:
    found = data.load(grey())
    wanted = grey(3).reshape(3, 64)
    np.save(tmp_path / "new.npy", grey(3))
    for spec in (grey(3), wanted, tmp_path / "new.npy"):
        np.testing.assert_array_equal(found.like(spec), wanted)
    assert found.like(grey(1)[0]).shape == (1, 64)
    Image.fromarray(grey(1)[0]).save(tmp_path / "one.png")
    np.testing.assert_array_equal(found.like(tmp_path / "one.png"), grey(1).reshape(1, 64))
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "other.png")
    with pytest.raises(ReverieError, match=r"other\.png: rows of shape \(1, 9, 8\), the model was trained on images"):
        found.like(tmp_path / "other.png")
    rainbow = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(rainbow).save(tmp_path / "colour.png")
    with pytest.raises(ReverieError, match="in colour"):
        found.like(tmp_path / "colour.png")


@pytest.mark.parametrize(
    ("trained", "new", "pattern"),
    [
        (real(), real(5, 4), "trained on 3 columns"),
        (real(), np.zeros((0, 3)), "no row"),
        (real(), np.full((2, 3), np.inf), "row 1, column 1 .* is infinite"),
        (real(), np.asarray([["a", "b", "c"]]), "not real numbers"),
        (real(), [[1, 2, 3], [1]], "unequal length"),
        (np.eye(9), np.full((1, 9), 0.5), "neither 0 nor 1"),
        (grey(), np.full((1, 64), -1), "outside 0..255"),
        (np.arange(60).reshape(-1, 3) % 7, [[1, 2, 7]], "whole number in 0..6"),
    ],
)
def test_new_rows_that_are_refused(trained: np.ndarray, new: Any, pattern: str) -> None:
    with pytest.raises(ReverieError, match=pattern) as caught:
        data.load(trained).like(new)
    assert "\n" not in str(caught.value)


def test_hash_of_new_rows_is_of_their_content() -> None:
    found = data.load(real())
    rows = real(5)
    assert found.hash_of(rows) == found.hash_of(rows.astype(np.float32)) == found.hash_of(np.asfortranarray(rows))
    assert found.hash_of(rows) != found.hash_of(rows[::-1])


def test_arrays_for_masks(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((4, 8, 8)) < 0.5
    np.save(tmp_path / "m.npy", mask)
    np.savez(tmp_path / "m.npz", mask=mask)
    np.testing.assert_array_equal(data.load_array(tmp_path / "m.npy"), mask)
    np.testing.assert_array_equal(data.load_array(tmp_path / "m.npz"), mask)
    Image.fromarray(mask[0].astype(np.uint8) * 255).save(tmp_path / "m.png")
    np.testing.assert_array_equal(data.load_array(tmp_path / "m.png"), mask[0] * 255)
    np.savez(tmp_path / "two.npz", a=mask, b=mask)
    with pytest.raises(ReverieError, match="holds 2 arrays"):
        data.load_array(tmp_path / "two.npz")
    with pytest.raises(ReverieError, match="no such file"):
        data.load_array(tmp_path / "none.npy")
