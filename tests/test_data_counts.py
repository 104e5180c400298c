"""Word counts from everywhere: read right, or refused in one line that names the file and the row."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from reverie import data, models
from reverie.data import text, tiny_text
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.train.recipe import Brief

RNG = np.random.default_rng(0)
WORDS = ["apple", "bear", "cloud", "door", "engine"]


def documents(n: int = 30, words: int = 5) -> np.ndarray:
    """Return counts in which every document has a word."""
    x = np.random.default_rng(1).poisson(0.6, (n, words))
    x[np.arange(n), np.arange(n) % words] += 1
    return x


def stored(found: Dataset) -> np.ndarray:
    """Return all stored rows, in an order that does not depend on the split."""
    return ordered(np.concatenate([found.splits[s].x[:] for s in ("train", "valid", "test")]))


def ordered(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T[::-1])]


def refused(spec: Any, pattern: str, **wish: Any) -> str:
    with pytest.raises(ReverieError) as caught:
        data.load(spec, **wish)
    said = str(caught.value)
    assert "\n" not in said and re.search(pattern, said), said
    return said


def csv_of(path: Path, x: np.ndarray, words: list[str] = WORDS) -> Path:
    lines = [",".join(words), *(",".join(f"{v:g}" for v in row) for row in x)]
    path.write_text("\n".join(lines) + "\n")
    return path


def sparse_of(path: Path, x: np.ndarray, words: list[str] | None = WORDS, form: str = "csr") -> Path:
    sparse.save_npz(path, getattr(sparse, f"{form}_array")(x))
    if words is not None:
        path.with_name(f"{path.stem}.vocab.txt").write_text("\n".join(words) + "\n")
    return path


# --- the law ---


def test_counts_are_seen_as_they_are_and_are_a_mass(tmp_path: Path) -> None:
    x = documents()
    found = data.load(csv_of(tmp_path / "t.csv", x), likelihood="counts")
    assert (found.likelihood, found.binarisation, found.measure) == ("counts", "as-is", "mass")
    assert (found.shift, found.scale, found.log_scale, found.missing) == (0.0, 1.0, 0.0, False)
    assert found.columns == tuple(WORDS) and found.shape == (5,)
    np.testing.assert_array_equal(stored(found), ordered(x))
    np.testing.assert_array_equal(found.rows("train"), found.splits["train"].x)
    np.testing.assert_array_equal(found.restore(found.rows("test")), found.splits["test"].x)
    lengths = x.sum(1)
    wanted = f"Documents of {lengths.min()} to {lengths.max()} words, {lengths.mean():.1f} on average"
    assert any(note.startswith(wanted) and f"{(x == 0).mean():.1%} of the cells" in note for note in found.notes)


def test_a_run_remembers_the_law_and_the_words() -> None:
    found = data.load("tiny-text")
    again = Dataset.from_json(json.loads(json.dumps(found.to_json())))
    assert (again.likelihood, again.columns, again.measure) == ("counts", tiny_text.WORDS, "mass")


def test_other_tables_are_what_they_were_and_hear_of_counts() -> None:
    wide = RNG.poisson(0.1, (50, 30)) * RNG.integers(1, 40, (50, 30)) + np.eye(50, 30, dtype=int)
    hint = "--likelihood counts"
    assert any(hint in note for note in data.load(wide).notes)
    assert data.load(wide).likelihood != "counts"
    for other in (wide + 1, wide[:, :5], (wide > 0).astype(int), wide / 2):
        assert not any(hint in note for note in data.load(other).notes)
    taken = data.load(wide[wide.any(1)], likelihood="counts")
    assert taken.likelihood == "counts" and not any(hint in note for note in taken.notes)


@pytest.mark.parametrize(
    ("cell", "value", "pattern"),
    [
        ((3, 1), -1, r"t\.csv: row 4, column 'bear' is -1, and a count is a whole number from 0 up"),
        ((7, 0), 0.5, r"t\.csv: row 8, column 'apple' is 0\.5"),
        ((2, 4), np.nan, r"t\.csv: row 3, column 'engine' is missing"),
    ],
)
def test_what_is_no_count_is_refused(tmp_path: Path, cell: tuple[int, int], value: float, pattern: str) -> None:
    x = documents().astype(float)
    x[cell] = value
    refused(csv_of(tmp_path / "t.csv", x), pattern, likelihood="counts")


def test_documents_without_words_are_named(tmp_path: Path) -> None:
    x = documents()
    x[4] = 0
    refused(csv_of(tmp_path / "t.csv", x), r"t\.csv: row 5 has no word .*; remove it$", likelihood="counts")
    x[9:16] = 0
    refused(sparse_of(tmp_path / "t.npz", x), r"t\.npz: row 5, row 10, row 11, row 12, row 13 and 3 more have no word")
    refused({"train": sparse.csr_array(documents()), "test": sparse.csr_array(x)}, "data: test row 5, test row 10")


def test_which_words_occur_can_be_modelled_instead(tmp_path: Path) -> None:
    x = documents()
    path = sparse_of(tmp_path / "t.npz", x)
    for wish in ({"likelihood": "bernoulli"}, {"binarisation": "threshold"}):
        found = data.load(path, **wish)
        assert found.likelihood == "bernoulli"
        np.testing.assert_array_equal(stored(found), ordered((x > 0).astype(np.uint8)))
        np.testing.assert_array_equal(found.like(path), x > 0)
    refused(path, "leave out --likelihood", likelihood="counts", binarisation="dynamic")


def test_models_of_other_laws_say_what_to_do() -> None:
    import jax

    found, seen = data.load("tiny-text"), 0
    for name in ("vae", "mem-vae", "rbm"):
        with pytest.raises(ReverieError, match="--likelihood bernoulli"):
            models.load_module(name).recipe(Brief(found, jax.random.key(0), 1.0))
        seen += 1
    assert seen == 3


# --- sparse matrices ---


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_a_sparse_file_is_its_dense_rows(tmp_path: Path, form: str) -> None:
    x = documents()
    found = data.load(sparse_of(tmp_path / "t.npz", x, form=form))
    assert found.likelihood == "counts" and found.columns == tuple(WORDS)
    assert found.hash == data.load(csv_of(tmp_path / "t.csv", x), likelihood="counts").hash
    assert found.hash == data.load(sparse.csr_matrix(x)).hash
    assert found.splits["train"].x.dtype == np.uint8


def test_words_and_classes_may_lie_in_the_sparse_file(tmp_path: Path) -> None:
    x = documents()
    sparse_of(tmp_path / "t.npz", x, ["one", "two", "three", "four", "five"])
    inside = dict(np.load(tmp_path / "t.npz"))
    np.savez(tmp_path / "t.npz", **inside, columns=np.asarray(WORDS), labels=np.asarray(["a", "b"] * 15))
    found = data.load(tmp_path / "t.npz")
    assert found.columns == tuple(WORDS), "the file's own words go before those beside it"
    assert found.class_names == ("a", "b")
    for rows, y in found.splits.values():
        for row, label in zip(rows, y, strict=True):
            assert label in {i % 2 for i in np.flatnonzero((x == row).all(1))}


def test_cells_that_are_given_twice_add_up(tmp_path: Path) -> None:
    row, column, value = np.asarray([0, 0, 1, 2, 3]), np.asarray([1, 1, 0, 1, 0]), np.asarray([200, 100, 1, 1, 2])
    twice = sparse.coo_matrix((value, (row, column)), (4, 2))
    for matrix in (twice, sparse.csr_matrix((value, column, np.asarray([0, 2, 3, 4, 5])), (4, 2))):
        sparse.save_npz(tmp_path / "t.npz", matrix)
        assert stored(data.load(tmp_path / "t.npz")).tolist() == [[0, 1], [0, 300], [1, 0], [2, 0]]


def test_sparse_files_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = documents()
    path = sparse_of(tmp_path / "t.npz", x, WORDS[:4])
    refused(path, r"t\.npz: has 5 columns and 4 words; give one word for each column")
    sparse_of(path, x, [*WORDS[:4], "bear"])
    refused(path, r"t\.npz: the word 'bear' stands for two columns")
    path.with_name("t.vocab.txt").write_bytes(b"\xff\xfe\x00")
    refused(path, r"t\.vocab\.txt: cannot be read as text in UTF-8")
    sparse_of(path, x * 0.5)
    refused(path, r"t\.npz: row 1, column 'apple' is 0\.5")
    sparse_of(path, -x)
    refused(path, r"t\.npz: row 1, column 'apple' is -")
    sparse_of(path, x)
    broken = dict(np.load(path))
    np.savez(path, **{**broken, "indices": broken["indices"] + 7})
    refused(path, r"t\.npz: is no sparse matrix that can be read")
    sparse_of(path, x)
    monkeypatch.setenv("REVERIE_RESIDENT_BYTES", "149")
    refused(path, r"t\.npz: 30 documents of 5 words are .* keep fewer words")
    monkeypatch.setenv("REVERIE_RESIDENT_BYTES", "150")
    assert data.load(path).width == 5


# --- text ---

SENTENCES = [
    "The bear saw a cloud; the BEAR slept.",
    "A cloud, an apple and the engine of a bear!",
    "Engine oil: the engine needs oil, and the door needs oil.",
    "An apple a day, an apple by the door.",
] * 5


def folder_of(path: Path, texts: list[str], where: list[str] | None = None) -> Path:
    for i, content in enumerate(texts):
        place = path / where[i] if where else path
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:03d}.txt").write_text(content, encoding="utf-8")
    return path


def by_hand(content: str, words: tuple[str, ...]) -> list[int]:
    """An oracle that shares nothing with the vectoriser."""
    seen = Counter(re.findall(r"[a-z]+", content.lower()))
    return [seen[word] for word in words]


def test_a_folder_of_text_is_counted(tmp_path: Path) -> None:
    groups = [["animals", "machines"][i % 2] for i in range(20)]
    folder = folder_of(tmp_path / "docs", SENTENCES, groups)
    (folder / "animals" / "notes.md").write_text("no document")
    found = data.load(folder)
    assert found.columns == ("apple", "bear", "cloud", "day", "door", "engine", "needs", "oil", "saw", "slept")
    assert (found.likelihood, found.name, found.class_names) == ("counts", "docs", ("animals", "machines"))
    wanted = np.asarray([by_hand(content, found.columns) for content in SENTENCES])
    np.testing.assert_array_equal(stored(found), ordered(wanted))
    for rows, y in found.splits.values():
        for row, label in zip(rows, y, strict=True):
            assert label in {i % 2 for i in np.flatnonzero((wanted == row).all(1))}
    said = " ".join(found.notes)
    for part in ("20 .txt files", "1 files that are no .txt", "lower case", "over all documents", "docs.vocab.txt"):
        assert part in said, part
    for part in ("stop words", "at least 2 documents", "2,000 most frequent"):
        assert part in said, part


def test_the_same_documents_in_any_form_are_the_same(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "docs", SENTENCES)
    (tmp_path / "lines.txt").write_text("\n".join(SENTENCES[:9]) + "\n\n   \n" + "\n".join(SENTENCES[9:]))
    found = data.load(folder)
    lines = data.load(tmp_path / "lines.txt")
    assert found.hash == lines.hash == data.load(SENTENCES).hash == data.load(np.asarray(SENTENCES)).hash
    assert found.columns == lines.columns
    assert any("one document a line: 20 lines, blank ones left out (2)" in note for note in lines.notes)


def test_folders_that_are_splits_choose_words_by_the_training_documents_alone(tmp_path: Path) -> None:
    where = ["train"] * 16 + ["test"] * 4
    texts = [*SENTENCES[:16], *(f"{s} zebra" for s in SENTENCES[16:])]
    found = data.load(folder_of(tmp_path / "docs", texts, where))
    assert found.split_rule == "own" and found.size("test") == 4
    assert "zebra" not in found.columns and any("of the training documents alone" in note for note in found.notes)
    np.testing.assert_array_equal(found.splits["test"].x, [by_hand(s, found.columns) for s in texts[16:]])
    lists = data.load({"train": texts[:16], "test": texts[16:], "train_labels": [0, 1] * 8, "test_labels": [0, 1] * 2})
    assert lists.columns == found.columns and lists.classes == 2
    np.testing.assert_array_equal(lists.splits["test"].x, found.splits["test"].x)
    assert "zebra" in data.load(texts).columns


def test_at_most_so_many_words_the_most_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MOST_WORDS", 2)
    totals = Counter(re.findall(r"[a-z]+", " ".join(SENTENCES).lower()))
    top = sorted(w for w, _ in totals.most_common() if w in ("apple", "bear", "cloud", "engine", "oil"))
    found = data.load([f"{s} oil bear" for s in SENTENCES])
    assert len(top) == 5 and found.columns == ("bear", "oil")


@pytest.mark.parametrize(
    ("content", "prose"),
    [
        ("a b\n1 2\n3 4\n5 6\n", False),
        ("1 2\n3 4\n5 6\n", False),
        ("a,b\n1,2\n3,4\n", False),
        ("name;size\nred;1.5\nblue;2\ngreen;7\n", False),
        ("1\n2\n3\n", False),
        ("0 1 NA\n1 NA 0\n0 1 1\n", False),
        ("1,2\n3\n4,5\n", False),
        ("", False),
        ("the bear saw 3 clouds\na cloud, two bears, 1 door\n", True),
        ("one two\nthree four\nfive six\n", True),
        ("bears, clouds\ndoors, engines\n", True),
        ("cafe\u0301 na\u00efve\nna\u00efve caf\u00e9\n", True),
    ],
)
def test_text_is_told_from_tables_by_what_is_in_it(tmp_path: Path, content: str, prose: bool) -> None:
    (tmp_path / "t.txt").write_text(content, encoding="utf-8")
    assert text.is_prose(tmp_path / "t.txt") is prose


def test_a_table_of_numbers_in_a_txt_file_stays_one(tmp_path: Path) -> None:
    rows = RNG.normal(size=(20, 3))
    np.savetxt(tmp_path / "t.txt", rows)
    found = data.load(tmp_path / "t.txt")
    assert found.likelihood == "gaussian" and any("Read as a table" in note for note in found.notes)
    np.testing.assert_array_equal(stored(found), ordered(rows.astype(np.float32)))


def test_text_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"empty: no image in this folder .* no \.txt file; put some there")
    folder = folder_of(tmp_path / "docs", SENTENCES)
    (folder / "x.txt").write_text("the and of")
    refused(folder, r"docs: x\.txt has no word .*; remove it")
    (folder / "x.txt").write_bytes(b"\x89PNG\xff\xfe\x00")
    refused(folder, r"x\.txt: not text in UTF-8; save it in UTF-8, or take it out")
    (folder / "x.txt").write_bytes(b"apple\0bear")
    refused(folder, r"x\.txt: not text")
    (folder / "x.txt").unlink()
    folder_of(folder / "deeper", ["apple"])
    refused(folder, "docs: text files lie beside the subfolders of classes")
    (tmp_path / "lines.txt").write_text("\n".join([*SENTENCES, "unheard"]))
    refused(tmp_path / "lines.txt", r"lines\.txt: line 21 has no word")
    refused(["alpha beta", "gamma delta", "the of"], "data: no word is left")
    refused(["apple bear"] * 2 + ["bear"] * 2 + [""], "data: document 5 has no word")
    refused({"train": SENTENCES, "test": np.ones((3, 4))}, "test is no list of texts, as others are")


# --- new documents ---


def test_new_texts_are_counted_with_the_words_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = data.load(folder_of(tmp_path / "docs", SENTENCES))
    new = ["An Apple, an apple and a zebra", "oil"]
    wanted = [by_hand(content, found.columns) for content in new]
    (tmp_path / "new.txt").write_text("\n".join(new))
    for spec in (new, tmp_path / "new.txt", str(folder_of(tmp_path / "new", new))):
        np.testing.assert_array_equal(found.like(spec), wanted)
        # an, an, and, zebra: one-letter words are none.
        assert "4 of 7 words are not of the model's vocabulary" in capsys.readouterr().err
    binary = data.load(tmp_path / "docs", likelihood="bernoulli")
    np.testing.assert_array_equal(binary.like(new), np.asarray(wanted) > 0)
    with pytest.raises(ReverieError, match="rows: document 2 has no word"):
        found.like(["apple", "zebra"])
    with pytest.raises(ReverieError, match="rows: is text, and the model was not trained on words"):
        data.load("digits").like(new)


def test_words_of_own_counts_may_have_capitals(tmp_path: Path) -> None:
    found = data.load(sparse_of(tmp_path / "t.npz", documents(), ["Door", "bear", "door", "Cloud", "Bear"]))
    assert found.like(["a door, the Door and two CLOUDS", "bear cloud"]).tolist() == [[2, 0, 0, 0, 0], [0, 1, 0, 1, 0]]


def test_new_counts_find_their_columns_by_the_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = documents()
    found = data.load(sparse_of(tmp_path / "t.npz", x))
    other = ["zebra", "engine", "apple", "bear", "door"]
    path = sparse_of(tmp_path / "new.npz", x[:, [0, 4, 0, 1, 3]], other)
    wanted = x.copy()
    wanted[:, 2] = 0
    keep = wanted.any(1)
    sparse_of(path, x[keep][:, [0, 4, 0, 1, 3]], other)
    np.testing.assert_array_equal(found.like(path), wanted[keep])
    assert "1 of its 5 words are not of the model's" in capsys.readouterr().err
    np.testing.assert_array_equal(found.like(sparse.csr_array(x)), x)
    np.testing.assert_array_equal(found.like(tmp_path / "t.npz"), x)
    assert not capsys.readouterr().err
    for bad, said in ((-x, "column 'apple' is -"), (x * 0.5, r"is 0\.5"), (x * 0, "row 1, row 2.* have no word")):
        with pytest.raises(ReverieError, match=f"rows: .*{said}"):
            found.like(bad)


# --- data sets with a name ---


def test_tiny_text_is_drawn_from_the_topics_that_it_tells() -> None:
    found = data.load("tiny-text")
    assert found.likelihood == "counts" and found.columns == tiny_text.WORDS and len(set(tiny_text.WORDS)) == 92
    assert [found.size(s) for s in ("train", "valid", "test")] == [1000, 200, 300]
    assert found.class_names == tuple(tiny_text.THEMES) and "Synthetic" in " ".join(found.notes)
    assert found.hash.startswith("3337e0811034"), "the hash of a data set stands in every result: it may not move"
    x, y = (np.concatenate([getattr(found.splits[s], part) for s in found.splits]) for part in ("x", "y"))
    assert x.sum(1).min() == 10 and x.sum(1).max() == 40
    laws = tiny_text.topics()
    np.testing.assert_allclose(laws.sum(1), 1)
    # Of the words, 1/4 are common; of the rest 1/2 * 1 + 1/2 * 0.7 are the main theme's: shares by a z test, |z| < 4.5.
    total = int(x.sum())
    for share, wanted in (
        (x[:, 72:].sum() / total, 0.25),
        (sum(int(x[y == t, 12 * t : 12 * t + 12].sum()) for t in range(6)) / total, 0.75 * 0.85),
    ):
        # Words of one document are alike: the second share's variance is at most that of whole documents.
        assert abs(share - wanted) < 4.5 * 0.5 / np.sqrt(total / 25)
    theme = x[:, :12].sum(0)
    z = (theme - theme.sum() * laws[0, :12]) / np.sqrt(theme.sum() * laws[0, :12] * (1 - laws[0, :12]))
    assert (np.abs(z) < 4.5).all()


def test_20news_are_the_published_documents(data_folder: Path) -> None:
    if not next(e for e in data.catalogue() if e.name == "20news").here:
        pytest.skip("the files of 20news are not in REVERIE_DATA")
    found = data.load("20news")
    assert found.hash[:12] == "8e975c702cd7" and found.likelihood == "counts" and found.classes == 0
    assert tuple(found.size(s) for s in ("train", "valid", "test")) == (10_258, 1_000, 7_487)
    words = {s: int(found.splits[s].x.sum(dtype=np.int64)) for s in found.splits}
    assert (words["train"] + words["valid"], words["test"]) == (991_493, 629_312)
    assert found.columns[:4] == ("_eos_", "write", "one", "use") and not found.splits["train"].x[:, 0].any()
    assert any("without words" in note for note in found.notes)
    # The first test document, from the file: 2:1 131:2 4:1 6:2 ..., words numbered from 1.
    first = found.splits["test"].x[0]
    assert (first[1], first[130], first[3], first[5]) == (1, 2, 1, 2)
    seen = np.concatenate([found.splits["train"].x, found.splits["valid"].x])
    order = np.random.default_rng(0).permutation(11_258)
    plain = np.empty_like(seen)
    plain[order] = seen
    # And the first training document: 68:1 2:12 3:4 ...
    assert (plain[0, 67], plain[0, 1], plain[0, 2], plain[0].sum() > 12) == (1, 12, 4, True)
    assert os.environ["REVERIE_DATA"] == str(data_folder)


def test_20news_w100_is_binary_with_four_classes(data_folder: Path) -> None:
    del data_folder
    if not next(e for e in data.catalogue() if e.name == "20news-w100").here:
        pytest.skip("the file of 20news-w100 is not in REVERIE_DATA")
    found = data.load("20news-w100")
    assert (found.hash[:12], found.likelihood, found.binarisation) == ("ba870d5f3e0d", "bernoulli", "as-is")
    assert tuple(found.size(s) for s in ("train", "valid", "test")) == (12_242, 2_000, 2_000)
    labels = np.concatenate([found.splits[s].y for s in found.splits])
    assert np.bincount(labels).tolist() == [4605, 3519, 2657, 5461]
    assert found.class_names == ("comp.*", "rec.*", "sci.*", "talk.*")
    assert found.columns[:3] == ("aids", "baseball", "bible")
    # Words tell their groups: the classes are those of the rows.
    rows = np.concatenate([found.splits[s].x for s in found.splits])
    assert np.bincount(labels[rows[:, found.columns.index("windows")] > 0]).argmax() == 0
    assert np.bincount(labels[rows[:, found.columns.index("god")] > 0]).argmax() == 3
    asked = data.load("20news-w100", likelihood="counts")
    assert asked.likelihood == "counts" and asked.hash == found.hash


def test_digits_can_be_counts_too() -> None:
    assert data.load("digits", likelihood="counts").rows("train").max() == 16
    with pytest.raises(ReverieError, match=r"data: row 1, column 1 is 1\.5"):
        data.load(np.full((9, 3), 0.5) + np.eye(9, 3), likelihood="counts")
