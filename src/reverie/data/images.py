"""A folder of images: any one size from 8 x 8 up, grey or colour; subfolders are classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from reverie.data import folders
from reverie.data.rows import Raw, Rows
from reverie.errors import ReverieError

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm"}
SMALLEST = 8


def is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def read_folder(folder: Path) -> Raw:
    """Read every image below `folder`, in the order of their names.

    Subfolders ``train`` (with ``valid``, ``test``) are the splits; any other subfolders are classes.

    Raises:
        ReverieError: for no image, one that cannot be read, different sizes, or images beside the classes' folders.
    """
    files, images = folders.files(folder), _images(folder)
    if not images:
        raise ReverieError(
            f"{folder}: no image in this folder (it may hold {', '.join(sorted(ENDINGS)[:6])} ...), and no .txt file; "
            "put some there"
        )
    left_out = len(files) - len(images)
    notes = [f"{left_out:,} files that are no images were left out."] if left_out else []
    pixels, more = read_images(images)
    rows = pixels.reshape(len(pixels), -1)
    places, y, names = folders.arranged(folder, images, "images")
    splits = {split: Rows(rows[mine], None if y is None else y[mine]) for split, mine in places.items()}
    return Raw(splits, pixels.shape[1:], None, names, (*notes, *more))


def titles(folder: Path) -> dict[str, list[str]]:
    """Return the files of the rows that `read_folder` reads, from the folder on, by split."""
    images = _images(folder)
    places, *_ = folders.arranged(folder, images, "images")
    return {split: [images[i].relative_to(folder).as_posix() for i in mine] for split, mine in places.items()}


def _images(folder: Path) -> list[Path]:
    return [path for path in folders.files(folder) if is_image(path)]


def read_images(paths: Sequence[Path]) -> tuple[UInt8[np.ndarray, "n h w *c"], tuple[str, ...]]:
    """Return images of one size as an array, grey if every one of them is, and what was decided on the way."""
    found: list[np.ndarray] = []
    for path in paths:
        image = _read(path)
        if found and image.shape[:2] != found[0].shape[:2]:
            raise ReverieError(
                f"{path}: is {_size(image)} and {paths[0].name} is {_size(found[0])}; all images need one size"
            )
        found.append(image)
    if min(found[0].shape[:2]) < SMALLEST:
        raise ReverieError(f"{paths[0]}: is {_size(found[0])}; images need at least {SMALLEST} x {SMALLEST} pixels")
    colour = [image.ndim == 3 for image in found]
    if not any(colour):
        return np.stack(found), ()
    notes = () if all(colour) else (f"{len(colour) - sum(colour):,} grey images among colour ones became colour.",)
    return np.stack([_as_colour(image) for image in found]), notes


def _read(path: Path) -> UInt8[np.ndarray, "h w *c"]:
    """Return the pixels of one image: (h, w) if it is grey, whatever its file says, else (h, w, 3)."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            image: Any = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):
                raise ReverieError(f"{path}: has more than 8 bits a pixel; convert it to 8 bits")
            if "A" in image.getbands() or "transparency" in image.info:
                # What lies below full transparency is arbitrary; paper is white.
                solid = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid)
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ReverieError(f"{path}: cannot be read as an image ({error}); mend it or take it out") from None
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        return pixels[..., 0]
    return pixels


def _as_colour(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]} x {image.shape[1]}"
