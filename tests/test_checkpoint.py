"""A checkpoint gives back what was saved, bit for bit, and refuses in one line whatever happened to it since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reverie.errors import ReverieError
from reverie.train.checkpoint import load, load_part, peek, save, state_hash

DTYPES = ["bool", "int8", "uint8", "int32", "uint32", "int64", "float16", "float32", "float64", "bfloat16"]


def state_of(n: int) -> dict[str, Any]:
    weights = jnp.arange(6.0).reshape(2, 3) + n
    return {
        "model": {"w": weights, "half": jnp.full((2,), n, jnp.bfloat16)},
        "step": jnp.array(n),
        "ok": jnp.array(True),
    }


LIKE = state_of(0)


def same(a: Any, b: Any) -> bool:
    """Bit for bit, NaNs and signs of zero included."""
    return jax.tree.structure(a) == jax.tree.structure(b) and state_hash(a) == state_hash(b)


def one_line(error: pytest.ExceptionInfo[ReverieError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of every dtype a model may hold, 0-d and empty ones, and views that are not contiguous."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    dtype = jnp.dtype(draw(st.sampled_from(DTYPES)))
    count = int(np.prod(shape)) * dtype.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=count, max_size=count)), np.uint8)
    array = (raw % 2).astype(bool).reshape(shape) if dtype.kind == "b" else raw.view(dtype).reshape(shape)
    return array.T if draw(st.booleans()) else array


trees = st.recursive(
    arrays(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc/é", min_size=1), inner, max_size=3),
)
jsons = st.dictionaries(
    st.text("xyz", min_size=1),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees, extra=jsons, step=st.integers(0, 10**9))
def test_what_is_saved_is_loaded(tmp_path: Path, tree: Any, extra: dict[str, Any], step: int) -> None:
    save(tmp_path, step, tree, extra)
    back, beside = load(tmp_path, tree)
    assert same(back, tree)
    assert beside == extra
    meta = peek(tmp_path)
    assert meta is not None and meta["step"] == step and meta["sha256"] == state_hash(tree)
    assert names(tmp_path) == [f"checkpoint-{step}.safetensors", "checkpoint.json"]


def test_loads_into_shapes_alone_and_into_a_module(tmp_path: Path) -> None:
    model = eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0))
    state = eqx.filter(model, eqx.is_array)
    save(tmp_path, 1, state)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state)
    back, _ = load(tmp_path, shapes)
    assert same(back, state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(back))


def test_bytes_depend_on_the_state_alone() -> None:
    """Against a hash from another process: names in another order, a copy, a transposed view."""
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, np.int32)
    golden = "a9d9b0048edbebe6ca718ccae830f2d01a2f54623ec5ee6a14c3d90925121140"
    assert state_hash({"a": a, "b": {"c": b}}) == golden
    assert state_hash({"b": {"c": b}, "a": np.asfortranarray(a)}) == golden
    assert state_hash({"a": a.T, "b": {"c": b}}) != golden
    assert state_hash({"a": a, "b": {"c": b + 1}}) != golden


def test_a_loaded_state_can_be_given_away(tmp_path: Path) -> None:
    """The engine donates buffers; they must not be the file's."""
    save(tmp_path, 1, LIKE)
    first, _ = load(tmp_path, LIKE)
    moved = jax.jit(lambda s: jax.tree.map(lambda a: a * 0, s), donate_argnums=0)(first)
    jax.block_until_ready(moved)
    assert same(load(tmp_path, LIKE)[0], LIKE)


def test_a_part_is_loaded_by_its_path(tmp_path: Path) -> None:
    save(tmp_path, 1, {"kept": state_of(5)["model"], "kept_not": state_of(6)["model"], "state": state_of(1)})
    assert same(load_part(tmp_path, "kept", LIKE["model"]), state_of(5)["model"])
    assert same(load_part(tmp_path, "state.model", LIKE["model"]), state_of(1)["model"])
    assert int(load_part(tmp_path, "state.step", LIKE["step"])) == 1
    assert load_part(tmp_path, "average", LIKE["model"], missing_ok=True) is None
    assert load_part(tmp_path, "kept", LIKE, missing_ok=True) is None
    with pytest.raises(ReverieError) as error:
        load_part(tmp_path, "average", LIKE["model"])
    one_line(error, "average", "was not saved")


def test_states_that_cannot_be_saved(tmp_path: Path) -> None:
    for state in ({"key": jax.random.key(0)}, {"rate": 0.1}, {"a": {"b": jnp.zeros(1)}, "a.b": jnp.ones(1)}):
        with pytest.raises(ValueError, match=r"key|rate|a\.b"):
            save(tmp_path, 0, state)
    with pytest.raises(ValueError, match="sha256"):
        save(tmp_path, 0, LIKE, {"sha256": "x"})
    assert names(tmp_path) == []


def test_no_checkpoint(tmp_path: Path) -> None:
    assert peek(tmp_path) is None
    assert peek(tmp_path / "nowhere") is None
    with pytest.raises(ReverieError) as error:
        load(tmp_path, LIKE)
    one_line(error, "no checkpoint", "reverie train", str(tmp_path))


def spoil(folder: Path, how: str) -> None:
    path, meta = folder / "checkpoint-1.safetensors", folder / "checkpoint.json"
    data, record = bytearray(path.read_bytes()), json.loads(meta.read_text())
    if how == "truncated":
        path.write_bytes(data[:-1])
    elif how == "altered":
        data[-1] ^= 1
        path.write_bytes(data)
    elif how == "missing":
        path.unlink()
    elif how == "json torn":
        meta.write_text(meta.read_text()[:-20])
    elif how == "json a list":
        meta.write_text("[]")
    else:
        changes = {
            "newer": {"format": 2},
            "elsewhere": {"file": "../checkpoint-1.safetensors"},
            "leaves": {"leaves": {}},
        }
        meta.write_text(json.dumps({**record, **changes[how]}))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("truncated", ["truncated or altered", "checkpoint-1.safetensors"]),
        ("altered", ["truncated or altered", "checkpoint-1.safetensors"]),
        ("missing", ["missing", "checkpoint-1.safetensors"]),
        ("json torn", ["damaged", "checkpoint.json"]),
        ("json a list", ["damaged", "checkpoint.json"]),
        ("newer", ["newer reverie", "format 2", "checkpoint.json"]),
        ("elsewhere", ["damaged", "checkpoint.json"]),
        ("leaves", ["does not hold the leaves", "checkpoint-1.safetensors"]),
    ],
)
def test_a_spoilt_checkpoint_is_refused_in_one_line(tmp_path: Path, how: str, words: list[str]) -> None:
    save(tmp_path, 1, LIKE)
    spoil(tmp_path, how)
    with pytest.raises(ReverieError) as error:
        load(tmp_path, LIKE)
    one_line(error, str(tmp_path), *words)


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ({"w": jnp.zeros((3, 2))}, "leaf 'w' is float32 (2, 3) and this model's is float32 (3, 2)"),
        ({"w": jnp.zeros((2, 3), jnp.int32)}, "leaf 'w' is float32 (2, 3) and this model's is int32 (2, 3)"),
        ({"w": jnp.zeros((2, 3)), "v": jnp.zeros(1)}, "leaf 'v' of this model was not saved"),
        ({}, "leaf 'w' is not of this model"),
    ],
)
def test_another_models_checkpoint_is_refused(tmp_path: Path, like: Any, words: str) -> None:
    save(tmp_path, 1, {"w": jnp.zeros((2, 3))})
    with pytest.raises(ReverieError) as error:
        load(tmp_path, like)
    one_line(error, words, "checkpoint-1.safetensors")
