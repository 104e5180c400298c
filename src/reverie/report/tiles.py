"""Pictures of rows: sheets of images as PNG, crisp at any size, in a page or in a file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from reverie.errors import ReverieError
from reverie.files import write_atomic

#: What a missing cell looks like: amber, as no grey image has it.
MISSING = (214, 142, 20, 255)
#: Pixels between images, and between rows each of which has several.
_GAP, _APART = 2, 10


def as_images(rows: np.ndarray) -> Float[np.ndarray, "n h w c"]:
    """Return rows of shape (n, h, w), (n, h, w, c) or (n, D) as images with a channel axis; a table's row is a strip.

    Raises:
        ReverieError: when the shape is none of these.
    """
    rows = np.asarray(rows)
    if rows.ndim == 2:
        rows = rows[:, None, :]
    if rows.ndim == 3:
        rows = rows[..., None]
    if rows.ndim != 4 or rows.shape[-1] not in (1, 3) or rows.size == 0:
        raise ReverieError(
            f"images: shape {np.shape(rows)} is no list of images; give (n, height, width) or (n, height, width, 3)"
        )
    return rows


def colours(images: Float[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w 4"]:
    """Return images in [0, 1] as RGBA; what is not a number is amber."""
    missing = ~np.isfinite(images).all(axis=-1)
    levels = np.rint(np.clip(np.nan_to_num(images), 0.0, 1.0) * 255).astype(np.uint8)
    opaque = np.full((*images.shape[:-1], 4), 255, np.uint8)
    opaque[..., :3] = levels
    opaque[missing] = MISSING
    return opaque


def sheet(
    images: np.ndarray, columns: int | None = None, *, zoom: int = 1, gap: int = _GAP
) -> UInt8[np.ndarray, "H W 4"]:
    """Return images side by side, row after row, each pixel `zoom` wide, with a transparent `gap` between.

    Args:
        images: (n, h, w), (n, h, w, c) or (n, D), in [0, 1].
        columns: how many stand side by side; about a square without.
        zoom: how many pixels a pixel becomes.
        gap: pixels between images.
    """
    tiles = _tiles(images, zoom)
    return _arranged(tiles, columns or math.ceil(math.sqrt(len(tiles))), gap)


def _tiles(images: np.ndarray, zoom: int) -> UInt8[np.ndarray, "n H W 4"]:
    return colours(as_images(images)).repeat(zoom, axis=1).repeat(zoom, axis=2)


def _arranged(tiles: UInt8[np.ndarray, "n h w 4"], columns: int, gap: int) -> UInt8[np.ndarray, "H W 4"]:
    n, height, width, _ = tiles.shape
    columns = min(n, columns)
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for i, tile in enumerate(tiles):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[y : y + height, x : x + width] = tile
    return canvas


def zoom_for(images: np.ndarray, target: int) -> int:
    """Return the whole zoom that brings the width of an image near `target` pixels, seldom above."""
    return max(1, int(target / as_images(images).shape[2] + 0.25))


def png(canvas: UInt8[np.ndarray, "H W 4"]) -> bytes:
    """Return the picture as a PNG file, without an alpha channel where nothing is transparent."""
    from PIL import Image

    image = Image.fromarray(canvas)
    if (canvas[..., 3] == 255).all():
        grey = (canvas[..., 0] == canvas[..., 1]).all() and (canvas[..., 1] == canvas[..., 2]).all()
        image = image.convert("L" if grey else "RGB")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(canvas: UInt8[np.ndarray, "H W 4"]) -> str:
    """Return the picture as text that an `<img>` shows without fetching anything."""
    return "data:image/png;base64," + base64.b64encode(png(canvas)).decode("ascii")


def unit_range(rows: np.ndarray) -> np.ndarray:
    """Return rows in [0, 1]: as they are if they lie there, bytes over 255, else from their least to their greatest."""
    values = np.asarray(rows)
    if values.dtype == np.uint8:
        return values / 255.0
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if low >= 0.0 and high <= 1.0:
        return values
    return (values - low) / max(high - low, np.finfo(np.float64).tiny)


def save_grid(
    images: np.ndarray,
    path: str | Path,
    *,
    beside: Sequence[np.ndarray] = (),
    columns: int | None = None,
    limits: tuple[float, float] | None = None,
) -> Path:
    """Write images as one PNG and return its path; the file appears whole or not at all.

    Args:
        images: (n, h, w), (n, h, w, 3), or (n, D) for a table, each row a strip; in any units, see `unit_range`.
        path: a file ending in ``.png``.
        beside: other looks at the same rows, each like `images` and on the same scale: what is of one row stands
            close together, the rows further apart.
        columns: how many rows stand side by side; about a square without.
        limits: the values that are black and white, for real values; see `unit_range` without.

    Raises:
        ReverieError: when the shape is no list of images, the ending is not .png, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ReverieError(f"{path}: pictures are written as .png; choose a name that ends so")
    looks = [images, *beside]
    rows = as_images(np.concatenate(looks))
    rows = unit_range(rows) if limits is None else (rows - limits[0]) / (limits[1] - limits[0])
    tiles = _tiles(rows, zoom_for(rows, 64))
    columns = columns or (1 if np.ndim(images) == 2 else math.ceil(math.sqrt(len(images) / len(looks))))
    if beside:
        # An array of each look becomes one picture of each row.
        tiles = np.stack(
            [_arranged(np.stack(row), len(looks), _GAP) for row in zip(*np.split(tiles, len(looks)), strict=True)]
        )
    canvas = _arranged(tiles, columns, _APART if beside else _GAP)
    canvas[canvas[..., 3] == 0] = 255
    write_atomic(path, png(canvas))
    return path
