"""Small NORB, photographs of toys by two cameras: its binary matrix files, the foveal view, and small translations.

**Files.**  Little-endian: a magic number (`0x1E3D4C55` bytes, `0x1E3D4C54` integers), the number of axes, the size of
each axis (three sizes at least: a vector has two ones behind its length), then the numbers, the last axis fastest.
Per split there are `-dat` (24,300 x 2 x 96 x 96 bytes, left and right camera), `-cat` (24,300 categories) and `-info`
(24,300 x 4: instance, elevation, azimuth, lighting).  Five categories times ten toys (*instances*) were photographed
under 9 elevations, 18 azimuths and 6 lightings: 972 pairs a toy.  Toys 4, 6, 7, 8 and 9 are there to train and
0, 1, 2, 3 and 5 to test, so that every tested toy is new; validation rows are chosen by toy for the same reason.

**Foveal view.**  Of each 96 x 96 image the central 64 x 64 pixels stay as they are, and four square rings around them,
of width 8, 4, 2 and 2 from the outside in, become means of blocks of their own width:

    64^2 + (12^2 - 10^2) + (20^2 - 18^2) + (36^2 - 34^2) + (34^2 - 32^2) = 4,096 + 44 + 76 + 140 + 132 = 4,488,

8,976 numbers a pair instead of 18,432.  A block has 64, 16 or 4 pixels, so a mean of bytes is exact in single
precision.  Rows are given in grey levels; the gaussian law then centres and scales each column by the training rows.

**The Gaussian-binary deep Boltzmann machine for these rows** (nothing of it is run here): 8,976 visible units of fixed
variance 1 on standardised columns, and three hidden layers of 4,000 binary units: 8,976-4,000-4,000-4,000, or
8,976 * 4,000 + 2 * 4,000^2 = 67.9 million weights.  It was pretrained layer by layer and joined (R. Salakhutdinov,
G. Hinton, Deep Boltzmann Machines, 2009), with translated copies of the training pairs as more unlabelled rows.

References: Y. LeCun, F. J. Huang, L. Bottou, Learning Methods for Generic Object Recognition with Invariance to Pose
and Lighting, CVPR 2004; https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from reverie.errors import ReverieError

#: Pairs in each of the two splits, and the categories by number.
PAIRS = 24_300
CLASSES = ("animal", "human", "airplane", "truck", "car")
#: Which toys of each category are in which split, and the one that is held out of train to choose.
INSTANCES = {"train": (4, 6, 7, 8, 9), "test": (0, 1, 2, 3, 5)}
HELD_OUT = 9
#: Side of an image, of its centre, and widths of the rings from the outside in.
SIZE, CENTRE, RINGS = 96, 64, (8, 4, 2, 2)
#: Numbers of an image and of a pair in the foveal view.
WIDTH, PAIR = 4_488, 8_976

_KINDS = {
    0x1E3D4C51: "single-precision", 0x1E3D4C52: "packed", 0x1E3D4C53: "double-precision",
    0x1E3D4C54: "integer", 0x1E3D4C55: "byte", 0x1E3D4C56: "short",
}  # fmt: skip
_ORDERS: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
_CODES = {"integer": "i4", "byte": "u1"}
_MOST_AXES = 8
#: Images pooled in one go.
_BLOCK = 1_000


def matrix(content: bytes, kind: str, shape: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
    """Return the numbers of a binary matrix file.

    Args:
        content: of the file, uncompressed; big-endian files are read too (their magic number tells).
        kind: ``byte`` or ``integer``.
        shape: that the matrix must have.

    Raises:
        ReverieError: for another magic number, kind, shape or length (the message is to follow the file's name).
    """
    order = next((o for o in _ORDERS if int.from_bytes(content[:4], _ORDERS[o]) in _KINDS), None)
    if order is None:
        raise ReverieError(f"starts with {content[:4].hex() or 'nothing'}, not with a matrix file's magic number")
    found = _KINDS[int.from_bytes(content[:4], _ORDERS[order])]
    if found != kind:
        raise ReverieError(f"holds {found} numbers, not {kind} numbers")
    axes = int.from_bytes(content[4:8], _ORDERS[order])
    start = 8 + 4 * max(3, axes)
    if not 0 < axes <= _MOST_AXES or len(content) < start:
        raise ReverieError(f"has no whole header ({len(content)} bytes, {axes} axes)")
    sizes = tuple(np.frombuffer(content, f"{order}u4", axes, 8).tolist())
    if sizes != shape:
        raise ReverieError(f"holds {_by(sizes)} numbers, not {_by(shape)}")
    dtype = np.dtype(order + _CODES[kind])
    wanted = math.prod(shape) * dtype.itemsize
    if len(content) - start != wanted:
        raise ReverieError(f"has {len(content) - start:,} bytes after its header, not {wanted:,}")
    return np.frombuffer(content, dtype, -1, start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(f"{size:,}" for size in sizes)


def pairs(content: bytes) -> dict[str, UInt8[np.ndarray, "n 2 96 96"]]:
    """Return the images of a `-dat` file as ``pairs``."""
    return {"pairs": matrix(content, "byte", (PAIRS, 2, SIZE, SIZE))}


def categories(content: bytes) -> dict[str, Int[np.ndarray, " n"]]:
    """Return the categories of a `-cat` file as ``labels``, numbers of `CLASSES`."""
    labels = matrix(content, "integer", (PAIRS,))
    _among(labels, range(len(CLASSES)), "category")
    return {"labels": labels}


def taken(content: bytes, split: str) -> dict[str, Int[np.ndarray, "n 4"]]:
    """Return instance, elevation, azimuth and lighting of an `-info` file as ``info``; `split` says which toys."""
    info = matrix(content, "integer", (PAIRS, 4))
    for column, (what, known) in enumerate(
        (("instance", INSTANCES[split]), ("elevation", range(9)), ("azimuth", range(0, 36, 2)), ("lighting", range(6)))
    ):
        _among(info[:, column], known, what)
    return {"info": info}


def _among(values: Int[np.ndarray, " n"], known: Iterable[int], what: str) -> None:
    strange = np.setdiff1d(values, list(known))
    if len(strange):
        raise ReverieError(f"has {what} {strange[0]}, which these rows cannot have")


def foveate(images: Shaped[np.ndarray, "... 96 96"]) -> Float[np.ndarray, "... 4488"]:
    """Return the foveal view: the central 64 x 64 pixels row by row, then the rings' means from the outside in.

    Raises:
        ReverieError: for images of another size.
    """
    if images.shape[-2:] != (SIZE, SIZE):
        raise ReverieError(f"images: of shape {images.shape}; give images of {SIZE} x {SIZE}")
    flat = images.reshape(-1, SIZE, SIZE)
    rows = np.empty((len(flat), WIDTH), np.float32)
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK]
        parts = [block[:, 16:-16, 16:-16].reshape(len(block), -1)]
        for edge, width in _rings():
            means = _means(block[:, edge : SIZE - edge, edge : SIZE - edge], width)
            parts.append(means[:, _border(means.shape[-1])])
        rows[start : start + _BLOCK] = np.concatenate(parts, axis=1)
    return rows.reshape(*images.shape[:-2], WIDTH)


def unfoveate(rows: Float[np.ndarray, "... 4488"]) -> Float[np.ndarray, "... 96 96"]:
    """Return pictures of foveal rows: the centre as it is, each block of a ring in its mean.

    A row of pairs is two images: ``unfoveate(x.reshape(-1, 2, WIDTH))``.  ``foveate(unfoveate(x)) == x``.

    Raises:
        ReverieError: for rows of another width.
    """
    if rows.shape[-1] != WIDTH:
        raise ReverieError(f"rows: of shape {rows.shape}; give rows of {WIDTH:,} numbers, {WIDTH:,} for each image")
    flat = rows.reshape(-1, WIDTH)
    images = np.zeros((len(flat), SIZE, SIZE), rows.dtype)
    start = CENTRE**2
    for edge, width in _rings():
        border = _border((SIZE - 2 * edge) // width)
        blocks = np.zeros((len(flat), *border.shape), rows.dtype)
        stop = start + int(border.sum())
        blocks[:, border] = flat[:, start:stop]
        # What lies inside this ring is overwritten by the next ones.
        images[:, edge : SIZE - edge, edge : SIZE - edge] = blocks.repeat(width, axis=1).repeat(width, axis=2)
        start = stop
    images[:, 16:-16, 16:-16] = flat[:, : CENTRE**2].reshape(-1, CENTRE, CENTRE)
    return images.reshape(*rows.shape[:-1], SIZE, SIZE)


def _rings() -> list[tuple[int, int]]:
    """Return how far each ring is from the border, and its width."""
    return [(sum(RINGS[:i]), width) for i, width in enumerate(RINGS)]


def _border(side: int) -> np.ndarray:
    """Return which cells of a square are its outermost ones."""
    border = np.ones((side, side), bool)
    border[1:-1, 1:-1] = False
    return border


def _means(images: Shaped[np.ndarray, "n s s"], width: int) -> Float[np.ndarray, "n s/w s/w"]:
    side = images.shape[-1] // width
    total = np.zeros((len(images), side, side), np.float32)
    for row, column in product(range(width), repeat=2):
        total += images[:, row::width, column::width]
    return total / np.float32(width**2)


def translated(
    images: Shaped[np.ndarray, "... h w"], shifts: Sequence[tuple[int, int]]
) -> Shaped[np.ndarray, "k ... h w"]:
    """Return every image moved by each of `shifts`, as more rows without classes to pretrain on.

    ``out[i, ..., r, c] = images[..., clip(r - dy), clip(c - dx)]`` with (dy, dx) = ``shifts[i]``: positive numbers
    move down and to the right, and the border's own pixels fill what the move leaves empty.  Both images of a pair
    move alike.  Translate before pooling, and training pairs only:

        pairs = fetch.arrays(published.NORB["train"][0])["pairs"]
        rows = norb.foveate(norb.translated(pairs[:100], [(0, 1), (1, 0)])).reshape(-1, norb.PAIR)

    All 48 shifts of at most 3 pixels make 1,166,400 pairs of the 24,300, which is 42 GB of rows: a few shifts at a
    time, into a .npy file, which is read from disk as it is trained on.

    Raises:
        ReverieError: for a shift that is not two whole numbers smaller than the image.
    """
    height, width = images.shape[-2:]
    out = np.empty((len(shifts), *images.shape), images.dtype)
    for moved, shift in zip(out, shifts, strict=True):
        dy, dx = _shift(shift, height, width)
        rows = np.clip(np.arange(height) - dy, 0, height - 1)
        columns = np.clip(np.arange(width) - dx, 0, width - 1)
        moved[...] = images[..., rows[:, None], columns]
    return out


def _shift(shift: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    two = np.asarray(shift)
    if two.shape != (2,) or two.dtype.kind not in "iu" or abs(int(two[0])) >= height or abs(int(two[1])) >= width:
        raise ReverieError(f"shifts: {shift!r} is not (down, right) in whole pixels, fewer than {height} and {width}")
    return int(two[0]), int(two[1])
