"""Two processes with gloo collectives draw the same numbers and reach the loss that one process reaches."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import numpy as np

PROGRAM = """
import json, sys
import jax
import jax.numpy as jnp
from reverie import data as data_floor
from reverie.models.directed import vae
from reverie.train.draws import Feed
from reverie.train.engine import Engine
from reverie.train.parallel import configure, mesh_of
from reverie.train.recipe import Brief

configure("all" if sys.argv[1] == "two" else None)
data = data_floor.load("digits", binarisation="dynamic")
brief = Brief(data, jax.random.key(0), 5.0)
model, recipe = vae.recipe(brief, latent=(4,), hidden=((16,),), batch=20)
mesh = mesh_of("all") if sys.argv[1] == "two" else None
engine = Engine(model, recipe, Feed(data.training_source(), jnp.uint32(0)), 0, mesh)
state = engine.init()
state = engine.advance(state, 40)
if jax.process_index() == 0:
    print(json.dumps({
        "processes": jax.process_count(), "devices": len(jax.devices()),
        "loss": float(state.sums["loss"]), "weights": float(jnp.abs(state.model.p[0].head.logits.weight).sum()),
    }))
"""


def launch(kind: str, count: int) -> list[dict]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for own in range(count):
        env = {**os.environ, "REVERIE_COORDINATOR": f"127.0.0.1:{port}", "REVERIE_PROCESSES": str(count),
               "REVERIE_PROCESS": str(own), "JAX_PLATFORMS": "cpu"}  # fmt: skip
        command = [sys.executable, "-c", PROGRAM, kind]
        processes.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    found = []
    for process in processes:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err.decode()
        found += [json.loads(line) for line in out.decode().splitlines() if line.startswith("{")]
    return found


def test_two_processes_equal_one() -> None:
    (one,), (two,) = launch("one", 1), launch("two", 2)
    assert (one["processes"], two["processes"], two["devices"]) == (1, 2, 2)
    # The same numbers are drawn; sums over rows are added up in another order.
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-5)
    np.testing.assert_allclose(two["weights"], one["weights"], rtol=1e-5)
