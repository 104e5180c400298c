"""A machine's memory over time: what it hears, adds, writes, reads and answers at each step of one sequence.

References: Graves, Wayne & Danihelka, *Neural Turing Machines*, 2014, figures 6, 9 and 12.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from reverie.prob.answering import parted, run


def longest(rows: Float[np.ndarray, "n D"], channels: int) -> Float[np.ndarray, "T C"]:
    """Return the longest of the sequences, up to its end."""
    steps = rows.reshape(len(rows), -1, channels)
    live = ~np.isnan(steps[:, :, 0])
    row = int(live.sum(axis=1).argmax())
    return steps[row][live[row]]


def watch(model: Any, rows: Float[np.ndarray, "n D"]) -> dict[str, Float[np.ndarray, "T _"]]:
    """Return what happens at each step of the longest of the sequences.

    Returns:
        ``heard``, ``answers`` (chances), ``targets`` (NaN where nothing is asked), ``adds``, ``erases`` and ``got``
        (what was read), heads side by side; ``writes`` and ``reads``, weightings (T, heads, slots).
    """
    sequence = longest(rows, model.inputs + model.outputs)
    heard, targets = parted(model, jnp.asarray(sequence.ravel()))
    found = _run(model, heard[None])
    inside = {name: np.asarray(a[0]) for name, a in found.trace.items()}
    flat = {name: inside[name].reshape(len(sequence), -1) for name in ("adds", "erases", "got")}
    answers = np.asarray(jax.nn.sigmoid(found.logits[0]))
    return {
        "heard": np.asarray(heard), "targets": np.asarray(targets), "answers": answers, **flat,
        "writes": inside["writes"], "reads": inside["reads"],
    }  # fmt: skip


@eqx.filter_jit
def _run(model: Any, heard: Any) -> Any:
    return run(model, heard, trace=True)


def mechanism(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Return how far the machine goes through its memory in order, which is how it copies.

    Returns:
        ``sharpness``: mean of the largest write weight while nothing is asked for; ``write_stride`` and
        ``read_stride``: shares of the steps that move the first head that writes (reads) by the commonest distance,
        until something is asked for (from then on); ``agreement``: the share of the steps that are answered at which
        the place read is one that was written, in the same order.
    """
    asked = ~np.isnan(found["targets"]).all(axis=1)
    writes, reads = found["writes"][:, 0], found["reads"][:, 0]
    begin = int(asked.argmax())
    wrote, got = writes[:begin].argmax(axis=1), reads[asked].argmax(axis=1)
    slots = writes.shape[1]
    return {
        "sharpness": float(writes[:begin].max(axis=1).mean()) if begin else float("nan"),
        "write_stride": _stride(wrote, slots), "read_stride": _stride(got, slots), "agreement": _same(wrote, got),
    }  # fmt: skip


def _stride(places: np.ndarray, slots: int) -> float:
    moves = np.diff(places) % slots
    return float(np.bincount(moves).max() / len(moves)) if len(moves) else float("nan")


def _same(wrote: np.ndarray, got: np.ndarray) -> float:
    """Return the best share of places read in the order they were written, over where that order may begin."""
    if not len(wrote) or not len(got):
        return float("nan")
    shares = [float((wrote[i : i + len(got)] == got[: len(wrote) - i]).sum()) / len(got) for i in range(len(wrote))]
    return max(shares)
