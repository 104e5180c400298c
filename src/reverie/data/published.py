"""The published files behind the catalogue: where they are, how they are read, and what they must hold."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import UInt8

from reverie.data import babi, norb
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


def _feats(content: bytes) -> dict[str, np.ndarray]:
    """Read a document a line, "1 word:count word:count ...", as cells (document, word from 0, count).

    The number that a line begins with is a dummy; a document without words has no cell and no number.
    """
    lines = [line for line in content.splitlines() if b":" in line]
    pairs = np.asarray(b" ".join(line.split(b" ", 1)[1] for line in lines).replace(b":", b" ").split(), np.int32)
    document = np.repeat(np.arange(len(lines), dtype=np.int32), [line.count(b":") for line in lines])
    return {"cells": np.column_stack([document, pairs[::2] - 1, pairs[1::2]]).astype("<i4")}


def _vocabulary(content: bytes) -> dict[str, np.ndarray]:
    """Read "word 0" a line, the words as bytes between line ends."""
    return {"words": _lines([line.split()[0].decode() for line in content.splitlines() if line.strip()])}


def _lines(words: list[str]) -> UInt8[np.ndarray, " m"]:
    return np.frombuffer("\n".join(words).encode(), np.uint8)


def _w100(content: bytes) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    found = loadmat(io.BytesIO(content))
    names = {key: _lines([str(cell[0]) for cell in found[of].ravel()]) for key, of in _W100_NAMES.items()}
    rows = np.ascontiguousarray(found["documents"].toarray().T.astype(np.uint8))
    return {"rows": rows, "labels": found["newsgroups"].ravel().astype(np.uint8) - 1, **names}


_W100_NAMES = {"words": "wordlist", "groups": "groupnames"}
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


#: Of the .gz files as the first address gave them, recorded by TensorFlow Datasets (url_checksums/smallnorb.txt,
#: Apache-2.0).  The arrays' own are not known: nobody has read these files here.
_NORB_SHA256 = {
    "training-dat": "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873",
    "training-cat": "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa",
    "training-info": "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32",
    "testing-dat": "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474",
    "testing-cat": "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff",
    "testing-info": "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2",
}
_NORB = ("https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/", "http://www.cs.nyu.edu/~ylclab/data/norb-v1.0-small/")


def _norb(split: str) -> tuple[Published, Published, Published]:
    """Return a split's categories, toys and images: what is small first, so that what is wrong is told soon."""
    toys = "".join(map(str, norb.INSTANCES[split]))
    part = f"{split}ing"
    found = []
    for kind, array, parse in (
        ("cat", "labels", norb.categories),
        ("info", "info", partial(norb.taken, split=split)),
        ("dat", "pairs", norb.pairs),
    ):
        name = f"smallnorb-5x{toys}x9x18x6x2x96x96-{part}-{kind}.mat.gz"
        urls = tuple(f"{base}{name}" for base in _NORB)
        sha256 = _NORB_SHA256[f"{part}-{kind}"]
        found.append(Published("norb_small", name, urls, {array: None}, parse, sha256=sha256))
    return found[0], found[1], found[2]


NORB = {"train": _norb("train"), "test": _norb("test")}


_FEATS = "sophieburkhardt/dirichlet-vae-topic-models"
_FEATS_AT = "70091d4f1df37c7a7eb2995fbbffba36caed46aa/data/20news/"


def _news(name: str, array: str, content: str, parse: Callable[[bytes], dict[str, np.ndarray]]) -> Published:
    plain = name.removesuffix(".gz")
    urls = tuple(
        f"{base}{_FEATS_AT}{plain}"
        for base in (f"https://raw.githubusercontent.com/{_FEATS}/", f"https://github.com/{_FEATS}/raw/")
    )
    return Published("20news", name, urls, {array: content}, parse)


#: Training documents, test documents, vocabulary.
NEWS = (
    _news("train.feat.gz", "cells", "b591056e11e199196a85fea110acbeca9e1f4f790cab0fcfa550aa9eb3cfa75a", _feats),
    _news("test.feat.gz", "cells", "8422f7fda57b255aa566a23ea643bc0aca1f9f4a249e14d4522250cb47fd7ac7", _feats),
    _news("vocab.new", "words", "2ef11130793ab52d2b93607c5ceafdb2f18722e4d458f1b50b6bff00346ac402", _vocabulary),
)
NEWS_W100 = (
    Published(
        "20news", "20news_w100.mat",
        (
            "https://cs.nyu.edu/~roweis/data/20news_w100.mat",
            "https://raw.githubusercontent.com/probml/pmtkdata/42bc2738a294382f9d6ffb1b0203404ffb10295a/20news_w100/"
            "20news_w100.mat",
        ),
        {
            "rows": "e070a8c2a7959f054ed4f69b6fc5254c768f4c7e0f93e6fa78e92edca1e1b205",
            "labels": "d6d219322ace515e2ca697fb238f94c28fead4cea8e691ed0b9108924e8beb82",
            "words": "c4d83d69104c47eaeb172fd44626db9e38b42c9418e124489dfaf1fbe4375d1f",
            "groups": "8960a8144a692c7d121f0af6dc1599b6a26136b15c3210ac6caed3820fceeb87",
        },
        _w100, sha256="6667c5459e22eb544a854bff1443edaaea71735cf1af7b12cc5d986e74af7064",
    ),
)  # fmt: skip


def _babi(name: str, folder: str, arrays: dict[str, str | None]) -> Published:
    # Copies of one of the sets have names of their own; the published archive holds both.
    whole = "tasks_1-20_v1-2.tar.gz"
    urls = (
        f"http://www.thespermwhale.com/jaseweston/babi/{whole}",
        f"https://s3.amazonaws.com/text-datasets/{whole.replace('tasks', 'babi_tasks')}",
    )
    also = (whole, urls[1].rsplit("/", 1)[1])
    return Published("babi", name, urls, arrays, partial(babi.parse, folder=folder), also=also)


#: The training file of task 3 of the larger set was not at hand when the SHA-256 were taken.
BABI = {
    "babi": _babi(
        "tasks_1-20_v1-2-en.tar.gz", "en",
        {"texts": "62c770beb931048ae1cf4e40f7b797823ee01def26e9cb36ea9a5e9b17d7cba1"},
    ),
    "babi-10k": _babi(
        "tasks_1-20_v1-2-en-10k.tar.gz", "en-10k",
        {"texts": "4ad4f499a47c56c1694b65d10d49d290cd26189cebb94b9262d4701cde0bbaf9", "third": None},
    ),
}  # fmt: skip
