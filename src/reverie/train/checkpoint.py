"""The whole training state on disk: at every moment exactly one valid checkpoint, the old one or the new one.

``checkpoint-<step>.safetensors`` holds the arrays, contiguous, by dotted path, without metadata, so that its bytes
depend on the state alone.  ``checkpoint.json`` names it with its SHA-256 and is replaced last: what the json does not
name does not count.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from jaxtyping import PyTree
from safetensors.numpy import save as to_safetensors

from reverie.arrays import named_leaves
from reverie.errors import ReverieError
from reverie.files import read_json, remove, to_json, write_atomic

FORMAT = 1
FILE = "checkpoint.json"
_ARRAYS = re.compile(r"checkpoint-\d+(-next)?\.safetensors")
_LEFT_OVER = re.compile(rf"\.({_ARRAYS.pattern}|checkpoint\.json)(\.\d+)?\.tmp")
_OWN = ("format", "file", "sha256", "step", "leaves")


def save(folder: str | Path, step: int, state: PyTree, extra: Mapping[str, Any] | None = None) -> None:
    """Make `state` the folder's checkpoint and remove the one before it.

    Args:
        folder: the run folder.
        step: steps done.
        state: pytree of arrays of any dtype that safetensors knows; no typed random keys.
        extra: JSON values kept in ``checkpoint.json`` beside the format's own.

    Raises:
        ReverieError: for a full disk or a read-only folder; the checkpoint before is kept and nothing else is left.
    """
    folder, extra = Path(folder), dict(extra or {})
    if clash := sorted(set(_OWN) & set(extra)):
        raise ValueError(f"extra: {clash[0]!r} is a name of the checkpoint's own")
    arrays = _arrays(state)
    data = to_safetensors(arrays)
    name, sha256 = f"checkpoint-{step}.safetensors", hashlib.sha256(data).hexdigest()
    leaves = {leaf: [a.dtype.name, list(a.shape)] for leaf, a in sorted(arrays.items())}
    meta = {"format": FORMAT, "file": name, "sha256": sha256, "step": int(step), "leaves": leaves, **extra}
    now = _current(folder)
    if now.get("file") == name and now.get("sha256") != sha256:
        # Other bytes under the same name: a kill between the two files would leave a json that names neither.
        _publish(folder, {**meta, "file": f"checkpoint-{step}-next.safetensors"}, data)
    _publish(folder, meta, data)


def load(folder: str | Path, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
    """Return the saved state in the structure of `like`, and what was saved beside it.

    Args:
        folder: the run folder.
        like: pytree of arrays or `jax.ShapeDtypeStruct`; names, shapes and dtypes must be those saved.

    Raises:
        ReverieError: no checkpoint, a missing, truncated or altered file, a newer format, or another model's leaves.
    """
    meta, arrays = _read(Path(folder))
    if wrong := _misfit(arrays, like):
        raise ReverieError(_other_model(Path(folder) / meta["file"], wrong))
    return _rebuild(arrays, like), {name: value for name, value in meta.items() if name not in _OWN}


def load_part(folder: str | Path, part: str, like: PyTree, *, missing_ok: bool = False) -> PyTree:
    """Return the leaves below the dotted path `part`, such as ``state.model``, in the structure of `like`.

    Args:
        folder: the run folder.
        part: where `like` hangs in the saved state.
        like: as for `load`.
        missing_ok: return None, rather than raise, when there is no such part or its leaves do not fit `like`.
    """
    meta, arrays = _read(Path(folder))
    below = {n[len(part) :].removeprefix("."): a for n, a in arrays.items() if n == part or n.startswith(f"{part}.")}
    if wrong := _misfit(below, like):
        if missing_ok:
            return None
        raise ReverieError(_other_model(Path(folder) / meta["file"], f"in {part}: {wrong}"))
    return _rebuild(below, like)


def peek(folder: str | Path) -> dict[str, Any] | None:
    """Return ``checkpoint.json``, or None where there is no checkpoint; the arrays are not looked at.

    Raises:
        ReverieError: when it is damaged or of a newer format.
    """
    path = Path(folder) / FILE
    meta = read_json(path, FORMAT)
    if meta is None:
        return None
    kinds = {"format": int, "file": str, "sha256": str, "step": int, "leaves": dict}
    if any(not isinstance(meta.get(name), kind) for name, kind in kinds.items()) or not _ARRAYS.fullmatch(meta["file"]):
        raise ReverieError(f"{path}: damaged, it names no file of arrays; put a copy of it back")
    return meta


def state_hash(state: PyTree) -> str:
    """Return the SHA-256 of the bytes that `save` would write: equal if and only if every leaf is, bit for bit."""
    return hashlib.sha256(to_safetensors(_arrays(state))).hexdigest()


def _arrays(state: PyTree) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name, leaf in named_leaves(state):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
            raise ValueError(f"{name}: a {type(leaf).__name__} cannot be saved; a state holds arrays, no random keys")
        if name in arrays:
            raise ValueError(f"{name}: two leaves have this path")
        # safetensors reads memory in order: it would write a transposed view wrongly, without an error.
        arrays[name] = np.asarray(leaf, order="C")
    return arrays


def _publish(folder: Path, meta: dict[str, Any], data: bytes) -> None:
    try:
        write_atomic(folder / meta["file"], data)
        write_atomic(folder / FILE, to_json(meta, indent=1))
    finally:
        _sweep(folder)


def _sweep(folder: Path) -> None:
    """Remove every file of arrays but the one the json names, and what a killed writer left."""
    current = _current(folder).get("file")
    for path in folder.glob("*checkpoint*") if current else ():
        if path.name != current and (_ARRAYS.fullmatch(path.name) or _LEFT_OVER.fullmatch(path.name)):
            remove(path)


def _current(folder: Path) -> dict[str, Any]:
    try:
        return peek(folder) or {}
    except ReverieError:
        return {}


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    while True:
        meta = peek(folder)
        if meta is None:
            raise ReverieError(f"{folder}: no checkpoint there; train into it with `reverie train --run {folder}`")
        path = folder / meta["file"]
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            wrong = "missing, though checkpoint.json names it"
        except OSError as error:
            raise ReverieError(f"{path}: cannot be read ({error.strerror or error})") from error
        else:
            if hashlib.sha256(data).hexdigest() == meta["sha256"]:
                return meta, _decode(path, data, meta["leaves"])
            wrong = "truncated or altered, its SHA-256 is not the one in checkpoint.json"
        # Somebody may be training: then the json names another file by now, and that one is tried.
        if peek(folder) == meta:
            raise ReverieError(f"{path}: {wrong}; put a copy of it back or train anew in another folder")


def _decode(path: Path, data: bytes, leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
    try:
        # safetensors' own reader for NumPy does not know bfloat16; the json's names are NumPy's.
        found = {name: (spec["shape"], spec["data"]) for name, spec in safetensors.deserialize(data)}
        if set(found) != set(leaves) or any(list(leaves[n][1]) != list(shape) for n, (shape, _) in found.items()):
            raise ValueError
        return {n: np.frombuffer(raw, jnp.dtype(leaves[n][0])).reshape(shape) for n, (shape, raw) in found.items()}
    except (safetensors.SafetensorError, ValueError, TypeError, LookupError):
        raise ReverieError(f"{path}: does not hold the leaves of checkpoint.json; put copies of both back") from None


def _misfit(arrays: Mapping[str, np.ndarray], like: PyTree) -> str | None:
    """Say what the first difference is between saved and wanted leaves, or None where there is none."""
    wanted = dict(named_leaves(like))
    for name, leaf in wanted.items():
        if name not in arrays:
            return f"leaf {name!r} of this model was not saved"
        saved, want = (f"{np.dtype(a.dtype).name} {tuple(a.shape)}" for a in (arrays[name], leaf))
        if saved != want:
            return f"leaf {name!r} is {saved} and this model's is {want}"
    unknown = sorted(set(arrays) - set(wanted))
    return f"leaf {unknown[0]!r} is not of this model" if unknown else None


def _rebuild(arrays: Mapping[str, np.ndarray], like: PyTree) -> PyTree:
    leaves = [_as(leaf, arrays[name]) for name, leaf in named_leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _as(like: Any, saved: np.ndarray) -> Any:
    # Copied: the buffers of a state are donated, and these are the file's.
    if isinstance(like, np.ndarray | np.generic) or jax.dtypes.canonicalize_dtype(saved.dtype) != saved.dtype:
        return saved.copy()
    return jnp.array(saved.copy())


def _other_model(path: Path, wrong: str) -> str:
    return f"{path}: does not fit this model: {wrong}; use the model and settings that run.json records"
