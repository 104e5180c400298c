"""Small NORB, read from files written here in the published format: the real ones are not at hand."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from reverie import data
from reverie.cli import main
from reverie.data import fetch, named, norb, published
from reverie.errors import ReverieError

#: Pairs of each split in the files written here: ten of each category, two of each toy.
FEW = 50
MAGIC = {"u1": 0x1E3D4C55, "i4": 0x1E3D4C54}


def written(array: np.ndarray, order: str = "<") -> bytes:
    """Return an array as a binary matrix file, by the format's own words: three sizes at least."""
    sizes = [*array.shape, 1, 1][: max(3, array.ndim)]
    head = struct.pack(f"{order}{2 + len(sizes)}I", MAGIC[array.dtype.str[1:]], array.ndim, *sizes)
    return head + array.astype(array.dtype.newbyteorder(order)).tobytes()


def some(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return categories, info and pairs: toys and categories mixed, images that tell which row they are of."""
    rng = np.random.default_rng(len(split))
    place = rng.permutation(FEW)
    info = np.stack([np.array(norb.INSTANCES[split])[place // 10], place % 9, 2 * (place % 18), place % 6], axis=1)
    pairs = rng.integers(0, 256, (FEW, 2, 96, 96), np.uint8)
    return (place % 5).astype(np.int32), info.astype(np.int32), pairs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all six files, half of them compressed, a machine without a network, and splits of `FEW` pairs."""
    monkeypatch.setattr(norb, "PAIRS", FEW)
    monkeypatch.setenv("REVERIE_DATA", str(tmp_path))
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))

    def no_network(url: str, sha256: str | None) -> bytes:
        raise ConnectionError(url)

    monkeypatch.setattr(fetch, "_fetch", no_network)
    for split, files in published.NORB.items():
        for file, array in zip(files, some(split), strict=True):
            if split == "train":
                (tmp_path / file.name).write_bytes(gzip.compress(written(array), 1))
            else:
                (tmp_path / file.name.removesuffix(".gz")).write_bytes(written(array))
    return tmp_path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("shape", [(7,), (4, 3), (2, 3, 4), (2, 2, 3, 3)])
@pytest.mark.parametrize("kind", ["byte", "integer"])
def test_a_matrix_comes_back_from_either_byte_order(kind: str, shape: tuple[int, ...], order: str) -> None:
    dtype = np.dtype({"byte": np.uint8, "integer": np.int32}[kind])
    array = np.random.default_rng(0).integers(0, 200, shape, dtype) * (1 if kind == "byte" else -1_000_003)
    found = norb.matrix(written(array.astype(dtype), order), kind, shape)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


def test_the_first_bytes_are_those_of_the_published_file() -> None:
    """The header that other readers of the real training images quote, byte by byte."""
    head = bytes([85, 76, 61, 30, 4, 0, 0, 0, 236, 94, 0, 0, 2, 0, 0, 0, 96, 0, 0, 0, 96, 0, 0, 0])
    with pytest.raises(ReverieError, match=r"has 0 bytes after its header, not 447,897,600"):
        norb.pairs(head)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "starts with nothing"),
        (b"\x89PNG....", "starts with 89504e47, not with a matrix file's magic number"),
        (written(np.zeros((5, 2), np.int32)), "holds integer numbers, not byte numbers"),
        (written(np.zeros((5, 2), np.uint8))[:18], "has no whole header"),
        (struct.pack("<5I", MAGIC["u1"], 10**9, 5, 2, 1), "has no whole header"),
        (struct.pack("<5I", MAGIC["u1"], 0, 5, 2, 1), "has no whole header"),
        (written(np.zeros((2, 5), np.uint8)), "holds 2 x 5 numbers, not 5 x 2"),
        (written(np.zeros((5, 2), np.uint8))[:-1], "has 9 bytes after its header, not 10"),
        (written(np.zeros((5, 2), np.uint8)) + b"x", "has 11 bytes after its header, not 10"),
    ],
)
def test_what_is_no_such_matrix_is_refused_in_one_line(content: bytes, what: str) -> None:
    with pytest.raises(ReverieError) as caught:
        norb.matrix(content, "byte", (5, 2))
    assert what in str(caught.value) and "\n" not in str(caught.value)


def by_hand(image: np.ndarray) -> list[float]:
    """Return the foveal view block by block: a block is of the ring whose outermost or innermost edge it touches."""
    out = list(image[16:80, 16:80].ravel().astype(float))
    for start, width in ((0, 8), (8, 4), (12, 2), (14, 2)):
        for r in range(start, 96 - start, width):
            for c in range(start, 96 - start, width):
                if min(r, c) == start or max(r, c) == 96 - start - width:
                    out.append(float(image[r : r + width, c : c + width].astype(np.int64).mean()))
    return out


def test_rings_are_the_means_of_their_blocks_exactly() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96), np.uint8)
    rows = norb.foveate(images)
    assert rows.shape == (3, 4488) and rows.dtype == np.float32
    for image, row in zip(images, rows, strict=True):
        wanted = by_hand(image)
        assert len(wanted) == 4096 + 44 + 76 + 140 + 132 == norb.WIDTH
        np.testing.assert_array_equal(row, wanted)
    assert norb.PAIR == 2 * norb.WIDTH == 8976


def test_every_pixel_counts_once() -> None:
    """Weighted by the pixels of their blocks, the foveal numbers have the sum of the image."""
    image = np.random.default_rng(1).integers(0, 256, (96, 96), np.uint8)
    areas = np.repeat([1.0, 64.0, 16.0, 4.0], [4096, 44, 76, 272])
    assert areas @ norb.foveate(image).astype(np.float64) == image.sum()


def test_a_constant_image_stays_constant() -> None:
    assert (norb.foveate(np.full((2, 96, 96), 201, np.uint8)) == 201).all()
    assert (norb.unfoveate(np.full((2, norb.WIDTH), 201.0)) == 201).all()


def test_pictures_keep_the_centre_and_show_blocks_as_their_means() -> None:
    images = np.random.default_rng(2).integers(0, 256, (2, 2, 96, 96), np.uint8)
    rows = norb.foveate(images)
    back = norb.unfoveate(rows)
    assert rows.shape == (2, 2, 4488) and back.shape == images.shape
    np.testing.assert_array_equal(back[..., 16:80, 16:80], images[..., 16:80, 16:80])
    assert (back[0, 0, :8, 88:] == images[0, 0, :8, 88:].mean()).all()
    assert (back[0, 1, 84:88, 8:12] == images[0, 1, 84:88, 8:12].mean()).all()
    assert (back[1, 0, 12:14, 40:42] == images[1, 0, 12:14, 40:42].mean()).all()
    assert (back[1, 1, 40:42, 80:82] == images[1, 1, 40:42, 80:82].mean()).all()
    np.testing.assert_array_equal(norb.foveate(back), rows)


def test_blocks_of_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(3).integers(0, 256, (5, 96, 96), np.uint8)
    whole = norb.foveate(images)
    monkeypatch.setattr(norb, "_BLOCK", 2)
    np.testing.assert_array_equal(norb.foveate(images), whole)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ReverieError, match="images: of shape"):
        norb.foveate(np.zeros((3, 95, 96)))
    with pytest.raises(ReverieError, match="rows: of shape"):
        norb.unfoveate(np.zeros((3, norb.PAIR)))


def test_translations_move_the_image_and_repeat_its_border() -> None:
    images = np.random.default_rng(4).integers(0, 256, (2, 2, 8, 9), np.uint8)
    out = norb.translated(images, [(0, 0), (2, -1), (-7, 8)])
    assert out.shape == (3, 2, 2, 8, 9) and out.dtype == np.uint8
    np.testing.assert_array_equal(out[0], images)
    padded = np.pad(images, ((0, 0), (0, 0), (2, 0), (0, 1)), mode="edge")
    np.testing.assert_array_equal(out[1], padded[:, :, :8, 1:])
    assert (out[2] == images[..., 7:, :1]).all()
    for wrong in ((8, 0), (0, -9), (0.5, 0), (1, 2, 3)):
        with pytest.raises(ReverieError, match=r"shifts: .* is not \(down, right\)"):
            norb.translated(images, [wrong])


def test_toys_are_held_out_whole_and_labels_stay_with_their_rows(folder: Path) -> None:
    del folder
    found = data.load("norb-small")
    assert tuple(found.size(s) for s in ("train", "valid", "test")) == (40, 10, 50)
    assert found.class_names == ("animal", "human", "airplane", "truck", "car")
    labels, info, pairs = some("train")
    held = info[:, 0] == 9
    for split, rows in (("train", ~held), ("valid", held)):
        np.testing.assert_array_equal(found.labels(split), labels[rows])
        np.testing.assert_array_equal(found.splits[split].x[:, : norb.WIDTH], norb.foveate(pairs[rows, 0]))
        np.testing.assert_array_equal(found.splits[split].x[:, norb.WIDTH :], norb.foveate(pairs[rows, 1]))
    labels, _, pairs = some("test")
    np.testing.assert_array_equal(found.labels("test"), labels)
    np.testing.assert_array_equal(found.splits["test"].x, norb.foveate(pairs).reshape(FEW, 8976))


def test_columns_are_centred_and_scaled_by_the_training_rows(folder: Path) -> None:
    del folder
    found = data.load("norb-small")
    assert (found.likelihood, found.binarisation, found.shape) == ("gaussian", "as-is", (8976,))
    rows = found.rows("train").astype(np.float64)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.var(axis=0), 1, atol=1e-4)
    assert any("were not compared with a known SHA-256" in note for note in found.notes)


def test_the_last_fit_may_use_every_training_pair(folder: Path) -> None:
    del folder
    usual, found = data.load("norb-small"), data.load("norb-small", split_rule="all")
    assert tuple(found.size(s) for s in ("train", "valid", "test")) == (50, 10, 50)
    np.testing.assert_array_equal(found.splits["valid"].x, usual.splits["valid"].x)
    assert any("validation rows are training rows too" in note for note in found.notes)


@pytest.mark.parametrize(
    ("index", "kind", "change", "what"),
    [
        (0, "cat", lambda a: a + 1, "has category 5"),
        (1, "info", lambda a: a * [0, 1, 1, 1], "has instance 0"),
        (1, "info", lambda a: np.add(a, [0, 0, 1, 0]), "has azimuth 1,"),
        (2, "dat", lambda a: a[:, :1], "holds 50 x 1 x 96 x 96 numbers, not 50 x 2 x 96 x 96"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str], index: int, kind: str, change: object, what: str
) -> None:
    array = change(some("train")[index])  # type: ignore[operator]
    file = published.NORB["train"][index]
    (folder / file.name).write_bytes(written(array.astype("u1" if kind == "dat" else "i4")))
    assert main(["data", "norb-small"]) == 2
    error = capsys.readouterr().err.strip()
    assert f"training-{kind}.mat.gz: {what}" in error and error.endswith("replace or remove it")
    assert len(error.splitlines()) == 1


def test_without_files_one_line_says_where_they_are_and_where_they_go(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in folder.glob("smallnorb*"):
        path.unlink()
    assert main(["data", "norb-small"]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    for part in (
        "norb_small/smallnorb-5x46789x9x18x6x2x96x96-training-cat.mat.gz: is not here",
        "download https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/smallnorb-5x46789x9x18x6x2x96x96-training-cat.mat.gz",
        "name that folder in REVERIE_DATA",
    ):
        assert part in error


def test_a_mirror_that_gives_something_else_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the second one gives is kept, to be found without the network."""
    file = published.NORB["train"][0]
    (folder / file.name).unlink()
    asked: list[tuple[str, str | None]] = []

    def network(url: str, sha256: str | None) -> bytes:
        asked.append((url, sha256))
        content = b"<html>moved</html>" if len(asked) == 1 else written(some("train")[0])
        return gzip.compress(content)

    monkeypatch.setattr(fetch, "_fetch", network)
    np.testing.assert_array_equal(fetch.arrays(file)["labels"], some("train")[0])
    fetch.arrays(file)
    assert asked == [(url, file.sha256) for url in file.urls] and len(str(file.sha256)) == 64


def test_the_catalogue_counts_the_published_pairs() -> None:
    """972 pairs a toy (elevations, azimuths, lightings), five categories, four toys, one and five."""
    entry = next(e for e in named.catalogue() if e.name == "norb-small")
    assert entry.rows == tuple(972 * 5 * toys for toys in (4, 1, 5)) and sum(entry.rows[:2]) == norb.PAIRS == 24_300
    assert len(entry.files) == 6 and len({file.sha256 for file in entry.files}) == 6
    assert "5x01235x9x18x6x2x96x96-testing-" in entry.files[-1].name
