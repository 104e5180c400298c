"""Sequences to be answered: tasks against their definitions, files of one's own, the best that can be foretold."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

import reverie
from reverie import data as data_floor
from reverie.data import tasks
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.ngrams import optimal_bits


def parts(source: str, split: str = "test") -> tuple[Dataset, list[tuple[np.ndarray, np.ndarray]]]:
    """Return a data set and its sequences: what is heard and what is to be answered, up to the end of each."""
    data = data_floor.load(source)
    rows = data.rows(split).reshape(-1, *data.shape)
    ended = [row[~np.isnan(row[:, 0])] for row in rows]
    return data, [(row[:, : data.inputs], row[:, data.inputs :]) for row in ended]


def test_copy_is_vectors_a_delimiter_and_silence() -> None:
    data, found = parts("copy")
    assert data.shape == (41, 17) and data.inputs == 9
    lengths = set()
    for heard, answer in found:
        n = len(heard) // 2
        lengths.add(n)
        np.testing.assert_array_equal(answer[n + 1 :], heard[:n, :8])
        assert np.isnan(answer[: n + 1]).all() and not heard[n + 1 :].any()
        assert heard[n, 8] == 1 and heard[:, 8].sum() == 1 and not heard[n, :8].any()
    assert lengths == set(range(1, 21))
    # 500 sequences of 84 bits on average: a coin that is not fair by .02 would be seen with probability .9999.
    assert abs(np.nanmean(np.concatenate([answer for _, answer in found])) - 0.5) < 0.01


def test_repeat_copy_counts_standardised_and_ends_in_a_mark() -> None:
    for source, pairs in (("repeat-copy", 100), ("repeat-copy:3x12", 1)):
        seen = set()
        for heard, answer in parts(source)[1]:
            n = int(heard[:, 8].argmax())
            repeats = round(heard[n + 1, 9] * math.sqrt(99 / 12) + 5.5)
            seen.add((n, repeats))
            assert len(heard) == n + 2 + n * repeats + 1
            np.testing.assert_array_equal(answer[n + 2 : -1, :8], np.tile(heard[:n, :8], (repeats, 1)))
            np.testing.assert_array_equal(answer[-1], np.eye(9)[8])
            assert not answer[n + 2 : -1, 8].any() and np.isnan(answer[: n + 2]).all() and not heard[n + 2 :].any()
        assert len(seen) > 0.95 * pairs


def test_recall_asks_for_the_item_after_the_one_shown_again() -> None:
    _, found = parts("associative-recall")
    places = set()
    for heard, answer in found:
        items = (len(heard) - 8) // 4
        data = np.stack([heard[4 * k + 1 : 4 * k + 4, :6] for k in range(items)])
        assert [heard[4 * k, 6] for k in range(items)] == [1.0] * items and heard[:, 6].sum() == items
        assert heard[4 * items, 7] == heard[4 * items + 4, 7] == 1 and heard[:, 7].sum() == 2
        query = heard[4 * items + 1 : 4 * items + 4, :6]
        answers = [k for k in range(items - 1) if np.array_equal(data[k], query)]
        assert any(np.array_equal(data[k + 1], answer[-3:]) for k in answers)
        assert not heard[-3:].any() and np.isnan(answer[:-3]).all()
        places.add((items, answers[0]))
    assert places == {(items, k) for items in range(2, 7) for k in range(items - 1)}


def test_sorting_is_of_whole_vectors_by_their_priority() -> None:
    for heard, answer in parts("priority-sort")[1][:50]:
        order = np.argsort(-heard[:20, 8])[:16]
        np.testing.assert_array_equal(answer[20:], heard[order, :8])
        by_channel = -np.sort(-heard[:20, :8], axis=0)[:16]
        assert not np.array_equal(answer[20:], by_channel) and np.abs(heard[:20, 8]).max() <= 1


def test_ngrams_cost_the_best_predictor_what_was_published() -> None:
    data, found = parts("dynamic-ngrams")
    for heard, answer in found[:20]:
        np.testing.assert_array_equal(answer[4:-1, 0], heard[5:, 0])
        assert np.isnan(answer[:4]).all() and (~np.isnan(answer)).sum() == 195
    bits = optimal_bits(data.rows("test"))
    # The spec's own estimate is 129.0 bits; the standard error of 500 sequences is about 1.
    assert abs(bits.mean() - 129.0) < 3 * bits.std() / math.sqrt(len(bits))


def test_the_best_predictor_is_the_one_that_enumerates_tables() -> None:
    """The chance of a sequence is the mean over tables; here over a fine grid of Beta(1/2, 1/2) for each context."""
    grid = np.sin(0.5 * np.pi * (np.arange(20_000) + 0.5) / 20_000) ** 2
    for later in itertools.product((0, 1), repeat=7):
        bits = [0, 1, 0, 1, 0, *later]
        seen: dict[tuple[int, ...], np.ndarray] = {}
        for t in range(5, len(bits)):
            context = tuple(bits[t - 5 : t])
            seen[context] = seen.get(context, np.ones_like(grid)) * (grid if bits[t] else 1 - grid)
        truth = -sum(math.log2(chance.mean()) for chance in seen.values())
        row = np.array([[(a, b) for a, b in itertools.pairwise(bits)]], np.float64).reshape(1, -1)
        np.testing.assert_allclose(optimal_bits(row), truth, rtol=1e-6)


def test_tasks_are_the_same_each_time_and_their_splits_and_sizes_differ() -> None:
    one, two, other = data_floor.load("copy:5"), data_floor.load("copy:5"), data_floor.load("copy:6")
    assert one.hash == two.hash != other.hash and one.name == "copy-5" and one.source == "copy:5"
    rows = [one.rows(split, 0, 200) for split in ("train", "valid", "test")]
    assert all(not np.array_equal(a, b, equal_nan=True) for a, b in itertools.combinations(rows, 2))
    assert Dataset.from_json(one.to_json()).inputs == 9


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("copy:", "length"),
        ("copy:0", "from 1 up"),
        ("copy:9-3", "smaller one first"),
        ("copy:3x4", "length"),
        ("associative-recall:1", "from 2 up"),
        ("priority-sort:3", "one size"),
        ("copy:99999", "steps"),
        ("copi", "copy"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(source: str, words: str) -> None:
    with pytest.raises(ReverieError, match=words):
        data_floor.load(source)


def write(path: Path, lines: list[dict]) -> Path:
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_a_file_of_sequences_with_answers_after_their_end(tmp_path: Path) -> None:
    lines = [{"input": [[k % 2, 1]] * (1 + k % 3), "answer": [[k % 2]]} for k in range(20)]
    data = data_floor.load(str(write(tmp_path / "own.jsonl", lines)))
    assert data.inputs == 3 and data.shape == (5, 4) and data.likelihood == "sequences"
    assert sum(data.size(split) for split in data.splits) == 20
    for row in data.rows("train").reshape(-1, 5, 4):
        n = int(np.nanargmax(row[:, 2]))
        assert 1 <= n <= 3 and row[n + 1, 3] == row[0, 0]
        assert np.isnan(row[: n + 1, 3]).all() and np.isnan(row[n + 2 :]).all() and not row[n + 1, :3].any()


def test_a_file_of_arrays_and_one_of_targets_by_step_are_the_same_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, (30, 6, 2)).astype(float), rng.integers(0, 2, (30, 6, 1)).astype(float)
    y[:, :2] = np.nan
    np.savez(tmp_path / "own.npz", inputs=x, targets=y)
    steps = [[None if np.isnan(step).all() else step.tolist() for step in row] for row in y]
    lines = [{"input": row.tolist(), "target": target} for row, target in zip(x, steps, strict=True)]
    write(tmp_path / "own.jsonl", lines)
    one, two = (data_floor.load(str(tmp_path / f"own.{ending}")) for ending in ("npz", "jsonl"))
    assert one.hash == two.hash
    parts = {
        f"{s}_{p}": a[i : i + 10] for i, s in ((0, "train"), (20, "test")) for p, a in (("inputs", x), ("targets", y))
    }
    np.savez(tmp_path / "parts.npz", **parts)
    kept = data_floor.load(str(tmp_path / "parts.npz"))
    np.testing.assert_array_equal(kept.rows("test").reshape(10, 6, 3)[..., :2], x[20:].astype(np.float32))


GOOD = {"input": [[0, 1], [1, 1]], "answer": [[1]]}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"input": [[0, 1]]}, "line 2: is no sequence"),
        ({"input": [[0, 1], [1]], "answer": [[1]]}, "line 2: is no sequence"),
        ({"input": [[0, 1]], "target": [[1], [0]]}, "as many steps"),
        ({"input": [[0]], "answer": [[1]]}, "channels"),
        ({"input": [[0, 1]], "answer": [[2]]}, "between 0 and 1"),
        ({"input": [[0, 1, 0]], "target": [None]}, "line 2"),
    ],
)
def test_lines_that_are_no_sequences_are_named(line: dict, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "own.jsonl", [GOOD, line, *[GOOD] * 10])
    with pytest.raises(ReverieError, match=words) as caught:
        data_floor.load(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mend", "words"),
    [
        (lambda x, y: y.__setitem__((0, slice(None)), np.nan), "sequence 1 asks for nothing"),
        (lambda x, y: x.__setitem__((0, 2), np.nan), "before the end"),
        (lambda x, y: x.__setitem__((0, 5), np.nan), "after the end"),
        (lambda x, y: x.__setitem__((0, 5, 0), np.nan), "in part"),
        (lambda x, y: x.__setitem__((0, 5, 0), np.inf), "infinite"),
    ],
)
def test_arrays_that_are_no_sequences_are_refused(mend: object, words: str, tmp_path: Path) -> None:
    x, y = np.zeros((30, 6, 2)), np.zeros((30, 6, 1))
    mend(x, y)  # type: ignore[operator]
    np.savez(tmp_path / "own.npz", train_inputs=x, train_targets=y)
    with pytest.raises(ReverieError, match=words):
        data_floor.load(str(tmp_path / "own.npz"))


def test_rows_and_sequences_are_not_taken_for_each_other(tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match="answers sequences"):
        reverie.train("ntm", "digits", run=tmp_path / "a")
    for name in ("vae", "rbm", "autoencoder", "classifier", "nade", "gan"):
        with pytest.raises(ReverieError, match="lstm, ntm"):
            reverie.train(name, "copy", run=tmp_path / "b")
    with pytest.raises(ReverieError, match="leave it out"):
        data_floor.load("copy", likelihood="gaussian")
    assert not list(tmp_path.iterdir())


def test_every_task_is_listed_with_its_shape() -> None:
    entries = {entry.name: entry for entry in data_floor.catalogue()}
    for task in tasks.TASKS:
        assert entries[task.name].here and entries[task.name].shape == data_floor.load(task.name).shape


def parity(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    heard = rng.integers(0, 2, (rng.integers(2, 5), 1))
    return heard, np.cumsum(heard, axis=0) % 2


def test_a_function_draws_a_task_once_by_the_seed(tmp_path: Path) -> None:
    data = data_floor.load(parity)
    assert data.name == "parity" and data.inputs == 1 and data.shape == (4, 2)
    assert [data.size(split) for split in ("train", "valid", "test")] == [4000, 200, 500]
    rows = data.rows("test").reshape(500, 4, 2)
    live = ~np.isnan(rows[..., 0])
    assert set(live.sum(axis=1)) == {2, 3, 4}
    heard, answers = np.nan_to_num(rows[..., 0]), rows[..., 1]
    np.testing.assert_array_equal((np.cumsum(heard, axis=1) % 2)[live], answers[live])
    assert data_floor.load(parity).hash == data.hash != data_floor.load(parity, seed=1).hash
    run = reverie.train("lstm", parity, units=(4,), steps=3, run=tmp_path / "run")
    assert reverie.load(tmp_path / "run").data.hash == run.data.hash == data.hash
    assert run.evaluate()["wrong_bits"].n == 500


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda rng: np.zeros((3, 2)), "must return two arrays"),
        (lambda rng: (np.zeros(3), np.zeros(3)), r"returned arrays of shape \(3,\) and \(3,\)"),
        (lambda rng: (np.zeros((3, 1)), np.zeros((2, 1))), r"of shape \(3, 1\) and \(2, 1\)"),
        (lambda rng: (np.zeros((2, int(rng.integers(1, 3)))), np.zeros((2, 1))), "channels, before others"),
        (lambda rng: ("a", "b"), "must return two arrays"),
    ],
)
def test_functions_that_draw_no_sequences_are_refused(draw: object, words: str) -> None:
    with pytest.raises(ReverieError, match=words):
        data_floor.load(draw)
