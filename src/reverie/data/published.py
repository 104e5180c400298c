"""The published files behind the catalogue: where they are, how they are read, and what they must hold."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from jaxtyping import UInt8

from reverie.data.fetch import Published

_IDX = {2051: 3, 2049: 1}


def _idx(content: bytes) -> dict[str, np.ndarray]:
    """Read the IDX format: magic number, sizes, bytes, all big-endian."""
    axes = _IDX[int.from_bytes(content[:4], "big")]
    sizes = np.frombuffer(content, ">u4", axes, 4).tolist()
    pixels = np.frombuffer(content, np.uint8, -1, 4 + 4 * axes)
    return {"rows" if axes == 3 else "labels": pixels.reshape(sizes[0], -1) if axes == 3 else pixels}


def _digits(line: UInt8[np.ndarray, " m"]) -> UInt8[np.ndarray, " k"]:
    return line[::2] - ord("0")


def _amat(content: bytes) -> dict[str, np.ndarray]:
    """Read single digits between single characters of white space, 784 a row."""
    return {"rows": _digits(np.frombuffer(content, np.uint8)).reshape(-1, 784)}


def _letters(content: bytes) -> dict[str, np.ndarray]:
    """Read id, letter, ... and, last in each line, 128 binary pixels of 16 x 8, row by row."""
    lines = [line.rstrip() for line in content.splitlines() if line.strip()]
    rows = np.stack([_digits(np.frombuffer(line[-255:], np.uint8)) for line in lines])
    letters = np.frombuffer(b"".join(line.split(b"\t", 2)[1][:1] for line in lines), np.uint8) - ord("a")
    return {"rows": rows, "labels": letters}


def _frey(content: bytes) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    return {"rows": np.ascontiguousarray(loadmat(io.BytesIO(content))["ff"].T)}


def _drawings(content: bytes) -> dict[str, np.ndarray]:
    """Read one-bit drawings of 105 x 105 as 28 x 28 shares of ink; alphabets in the order of their names."""
    from PIL import Image

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        ink = np.empty((len(names), 105, 105), np.float32)
        for i, name in enumerate(names):
            ink[i] = ~np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("1"))
    alphabets = [name.split("/")[-3] for name in names]
    _, labels = np.unique(alphabets, return_inverse=True)
    return {"rows": _shrunk(ink).reshape(len(ink), -1), "labels": labels.astype(np.uint8)}


def _shrunk(ink: np.ndarray, size: int = 28) -> UInt8[np.ndarray, "n size size"]:
    """Return the mean over each cell of a `size` x `size` grid, in 0..255."""
    # In units of a quarter pixel, so that the sums are whole numbers, exact in single precision on any machine.
    edges = np.arange(size + 1) * 15
    pixels = np.arange(106) * 4
    overlap = np.minimum(edges[1:, None], pixels[1:]) - np.maximum(edges[:-1, None], pixels[:-1])
    weights = np.clip(overlap, 0, None).astype(np.float32)
    total = np.matmul(np.matmul(weights, ink), weights.T).astype(np.int64)
    return ((255 * total + 112) // 225).astype(np.uint8)


_MNIST = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
_LAROCHELLE = (
    "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
    "https://raw.githubusercontent.com/riannevdberg/sylvester-flows/32dde9b7d696fee94f946a338182e542779eecfe/"
    "data/MNIST_static/",
)
_OMNIGLOT = (
    "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
    "https://github.com/brendenlake/omniglot/raw/master/python/",
)


def _mnist(name: str, kind: str, content: str, sha256: str) -> Published:
    urls = tuple(f"{base}{name}" for base in _MNIST)
    return Published("mnist", name, urls, {kind: content}, _idx, sha256=sha256)


def _binarized(split: str, content: str) -> Published:
    name = f"binarized_mnist_{split}.amat"
    urls = tuple(f"{base}{name}" for base in _LAROCHELLE)
    return Published("binarized_mnist", name, urls, {"rows": content}, _amat, keep=True)


def _omniglot(name: str, rows: str, labels: str) -> Published:
    urls = tuple(f"{base}{name}" for base in _OMNIGLOT)
    return Published("omniglot", name, urls, {"rows": rows, "labels": labels}, _drawings, keep=True)


MNIST = (
    _mnist(
        "train-images-idx3-ubyte.gz", "rows",
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    _mnist(
        "train-labels-idx1-ubyte.gz", "labels",
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    _mnist(
        "t10k-images-idx3-ubyte.gz", "rows",
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    _mnist(
        "t10k-labels-idx1-ubyte.gz", "labels",
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)  # fmt: skip
BINARIZED = (
    _binarized("train", "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a"),
    _binarized("valid", "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e"),
    _binarized("test", "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86"),
)
LETTERS = (
    Published(
        "ocr_letters", "letter.data.gz",
        ("https://ai.stanford.edu/~btaskar/ocr/letter.data.gz", "http://ai.stanford.edu/~btaskar/ocr/letter.data.gz"),
        {
            "rows": "795062a866002baa921b684ccb369c54234f02c7155e378a84a1614ea2e3884a",
            "labels": "e7d9519f5dddb797dbd3544e14b23fd5231272a081565d2656fe0a59832ffc2a",
        },
        _letters, keep=True,
    ),
)  # fmt: skip
OMNIGLOT = (
    _omniglot(
        "images_background.zip",
        "9f627773624bbd206ae724e64944b8523594e54960e588ee5dac931f443e60ce",
        "e9833896b4c357aef03d388333400c160125b142a8ea59d502fc1ad502a31ece",
    ),
    _omniglot(
        "images_evaluation.zip",
        "d46ed91e2994cc0300bea899585332a5c50382517d0a289f035bc99599a35c6f",
        "582a19b470422b24f812f87c6306d38c5c80083bd2a005560c097b7635f0d077",
    ),
)
FREY = (
    Published(
        "frey_faces", "frey_rawface.mat",
        ("https://cs.nyu.edu/~roweis/data/frey_rawface.mat", "http://www.cs.nyu.edu/~roweis/data/frey_rawface.mat"),
        {"rows": "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"}, _frey,
    ),
)  # fmt: skip
