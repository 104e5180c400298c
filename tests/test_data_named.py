"""Data with a name: every entry of the catalogue, and how its files are found, checked, cached and fetched."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reverie import data
from reverie.data import fetch, published, tasks
from reverie.errors import ReverieError

NAMES = [entry.name for entry in data.catalogue()]


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without data, with a cache of its own and no network."""
    monkeypatch.delenv("REVERIE_DATA", raising=False)
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))

    def no_network(url: str, sha256: str | None) -> bytes:
        raise ConnectionError(url)

    monkeypatch.setattr(fetch, "_fetch", no_network)
    return tmp_path


def test_digits_are_the_designs_split() -> None:
    from sklearn.datasets import load_digits

    found, digits = data.load("digits"), load_digits()
    order = np.random.default_rng(0).permutation(1797)
    for split, places in (("train", order[:1297]), ("valid", order[1297:1497]), ("test", order[1497:])):
        np.testing.assert_array_equal(found.splits[split].x, digits.data[places])
        np.testing.assert_array_equal(found.labels(split), digits.target[places])
        np.testing.assert_array_equal(found.rows(split), digits.data[places] >= 8)
    assert (found.likelihood, found.binarisation, found.shape, found.classes) == ("bernoulli", "threshold", (8, 8), 10)
    assert found.hash.startswith("ad8ab5030925"), "the hash of a data set stands in every result: it may not move"


def test_digits_can_be_taken_otherwise() -> None:
    assert data.load("digits", binarisation="dynamic").scale == 16.0
    assert data.load("digits", likelihood="categorical").levels == 17
    assert data.load("digits", likelihood="gaussian").binarisation == "as-is"
    with pytest.raises(ReverieError, match="split_rule: digits has no 'iwae'"):
        data.load("digits", split_rule="iwae")


WANTED = {
    "mnist": ("e13b3dbc069d", "bernoulli", "dynamic", 10),
    "binarized-mnist": ("c4c3713b69b4", "bernoulli", "as-is", 0),
    "ocr-letters": ("084db860d44e", "bernoulli", "as-is", 26),
    "frey-faces": ("232eda81c180", "gaussian", "as-is", 0),
    "omniglot": ("e5d466024981", "bernoulli", "dynamic", 50),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "omniglot" else ()) for n in WANTED])
def test_published_data(name: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path))
    entry = next(e for e in data.catalogue() if e.name == name)
    if not entry.here:
        pytest.skip(f"the files of {name} are not in REVERIE_DATA")
    found = data.load(name)
    assert (found.hash[:12], found.likelihood, found.binarisation, found.classes) == WANTED[name]
    assert tuple(found.size(s) for s in ("train", "valid", "test")) == entry.rows
    assert found.shape == entry.shape and found.width == np.prod(entry.shape)
    # Read once more, from what was kept beside the files: the same.
    assert data.load(name).hash == found.hash


def test_the_papers_splits_of_mnist(data_folder: Path) -> None:
    del data_folder
    usual, iwae, mem = (data.load("mnist", split_rule=rule) for rule in (None, "iwae", "mem"))
    assert [iwae.size(s) for s in ("train", "valid", "test")] == [59_600, 400, 10_000]
    assert [mem.size(s) for s in ("train", "valid", "test")] == [60_000, 10_000, 10_000]
    np.testing.assert_array_equal(mem.splits["valid"].x, usual.splits["valid"].x)
    np.testing.assert_array_equal(iwae.splits["train"].x[:50_000], usual.splits["train"].x)
    assert np.bincount(usual.labels("test")).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert any("validation rows are training rows too" in note for note in mem.notes)
    assert mem.notes[0].startswith("70,000 rows")


def test_letters_in_file_order_and_shuffled(data_folder: Path) -> None:
    del data_folder
    order = np.random.default_rng(0).permutation(52_152)
    plain, shuffled = data.load("ocr-letters"), data.load("ocr-letters", split_rule="shuffled")
    rows = np.concatenate([plain.splits[s].x for s in ("train", "valid", "test")])
    np.testing.assert_array_equal(shuffled.splits["valid"].x, rows[order[32_152:42_152]])
    assert "".join(plain.class_names[y] for y in plain.labels("train", 0, 9)) == "ommanding"


def test_area_means_keep_the_ink() -> None:
    ink = np.random.default_rng(0).integers(0, 2, (3, 105, 105)).astype(np.float32)
    small = published._shrunk(ink)
    assert small.shape == (3, 28, 28) and small.dtype == np.uint8
    np.testing.assert_allclose(small.mean((1, 2)) / 255, ink.mean((1, 2)), atol=0.5 / 255)
    corner = ink[0, :4, :4] * np.outer([1, 1, 1, 0.75], [1, 1, 1, 0.75])
    assert small[0, 0, 0] == round(255 * float(corner.sum()) / 3.75**2)


def test_without_files_and_network_one_line_says_what_to_do(alone: Path) -> None:
    with pytest.raises(ReverieError) as caught:
        data.load("mnist")
    text = str(caught.value)
    assert "\n" not in text
    for part in ("train-images-idx3-ubyte.gz", "ossci-datasets", "cvdf-datasets", "yann.lecun.com", "REVERIE_DATA"):
        assert part in text or (part == "cvdf-datasets" and "storage.googleapis.com" in text)
    drawn = [task.name for task in tasks.TASKS]
    assert [e.name for e in data.catalogue() if e.here] == ["digits", "tiny-text", "tiny-stories", *drawn]


def small(alone: Path) -> tuple[fetch.Published, bytes]:
    """A published file of one small array."""
    content = b"0 1\n1 1\n" * 392
    array = published._amat(content)["rows"]
    digest = fetch._hash(array)
    urls = ("https://one.example/f.amat", "https://two.example/f.amat")
    return fetch.Published("toy", "f.amat.gz", urls, {"rows": digest}, published._amat, keep=True), content


@pytest.mark.parametrize("place", ["toy/f.amat.gz", "toy/f.amat", "f.amat.gz", "f.amat"])
def test_a_file_is_found_in_any_form(alone: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    file, content = small(alone)
    path = alone / "here" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(content, 1) if place.endswith(".gz") else content)
    monkeypatch.setenv("REVERIE_DATA", str(alone / "here"))
    assert fetch.is_here(file)
    assert fetch.arrays(file)["rows"].shape == (2, 784)


@pytest.mark.parametrize("content", [b"", b"0 1\n", b"\x1f\x8bnot gzip", b"1 1\n1 1\n" * 392])
def test_another_file_of_the_same_name_is_refused(alone: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    file, _ = small(alone)
    (alone / "f.amat").write_bytes(content)
    monkeypatch.setenv("REVERIE_DATA", str(alone))
    with pytest.raises(ReverieError, match=r"f\.amat: is not the published file"):
        fetch.arrays(file)


def test_what_was_read_is_kept_and_checked(alone: Path) -> None:
    file, content = small(alone)
    path = alone / "cache" / "toy" / "f.amat"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    first = fetch.arrays(file)["rows"]
    path.unlink()
    np.testing.assert_array_equal(fetch.arrays(file)["rows"], first)
    (kept,) = (alone / "cache" / "arrays").iterdir()
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    with pytest.raises(ReverieError, match="no mirror gave it"):
        fetch.arrays(file)


def test_a_cache_that_cannot_be_written_is_no_error(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, content = small(alone)
    (alone / "f.amat").write_bytes(content)
    (alone / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("REVERIE_DATA", str(alone))
    assert fetch.arrays(file)["rows"].shape == (2, 784)


def test_the_second_mirror_is_asked_when_the_first_gives_another_file(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, content = small(alone)
    asked = []

    def network(url: str, sha256: str | None) -> bytes:
        asked.append(url)
        return b"<html>moved</html>" if "one.example" in url else content

    monkeypatch.setattr(fetch, "_fetch", network)
    file = replace(file, keep=False)
    assert fetch.arrays(file)["rows"].shape == (2, 784)
    assert asked == list(file.urls)
    # And the third time from the cache, without the network.
    fetch.arrays(file)
    assert len(asked) == 2


def test_every_file_has_several_mirrors() -> None:
    for entry in data.catalogue():
        for file in entry.files:
            assert len(set(file.urls)) > 1, file.name


def test_the_list_of_names_does_not_import_jax() -> None:
    program = (
        "import sys; from reverie import data; print([e.here for e in data.catalogue()]); "
        "print(sorted(sys.modules.keys() & {'jax', 'sklearn', 'pooch', 'PIL', 'scipy'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "[]"
