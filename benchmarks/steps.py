"""How fast a training step is, against what the machine could do and against a peer, in one process, alternating.

    python benchmarks/steps.py [--rounds 7] [--threads 1] [--out results/bench/steps.json]

For each job, in turn within every round: our engine (whole steps: draw, binarise, gradient, Adam, logging), a bare
compiled loop of the same steps, the step's matrix products alone, and pythae's step where it is installed.  Reported
are medians over the rounds of milliseconds per step and of the ratios within a round, compile time, and peak memory.
Processor time is used with one thread, wall time otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="of work per measurement")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


ARGS = parse()
if ARGS.threads == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
for name in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{name}_NUM_THREADS"] = str(ARGS.threads)

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from reverie.data.dataset import Dataset, Rows  # noqa: E402
from reverie.models.directed import iwae, mem_vae, vae  # noqa: E402
from reverie.train.draws import Feed  # noqa: E402
from reverie.train.engine import Engine  # noqa: E402
from reverie.train.provenance import provenance  # noqa: E402
from reverie.train.recipe import Brief  # noqa: E402

CLOCK = time.process_time if ARGS.threads == 1 else time.perf_counter
#: Rows a job sees a step (samples included), and the sizes of its products (in, out).
A1_UP = [(784, 200), (200, 200), (200, 50), (200, 50)]
A1_DOWN = [(50, 200), (200, 200), (200, 784)]
MEM_UP = [(784, 500), (500, 500), (500, 100), (500, 100)]
MEM_DOWN = [(100, 500), (500, 30), (30, 500), (500, 500), (500, 70), (70, 500), (500, 784)]


def images(rows: int = 10_000) -> Dataset:
    """Grey rows of MNIST's size; what they show does not change a step's time."""
    x = np.random.default_rng(0).integers(0, 256, (rows, 784), dtype=np.uint8)
    parts = {"train": Rows(x), "valid": Rows(x[:100]), "test": Rows(x[:100])}
    return Dataset("grey", "grey", parts, (28, 28), "bernoulli", "dynamic", "0", scale=255.0)


def products(up: list[tuple[int, int]], down: list[tuple[int, int]], batch: int, k: int) -> Callable[[int], None]:
    """Return a function that runs n times the products of a step: forward, weight and input gradients."""
    sizes = [(*s, batch) for s in up] + [(*s, batch * k) for s in down]
    key = jax.random.key(0)
    weights = [jax.random.normal(key, (a, b)) for a, b, _ in sizes]
    inputs = [jax.random.normal(key, (n, a)) for a, _, n in sizes]
    outputs = [jax.random.normal(key, (n, b)) for _, b, n in sizes]

    @jax.jit
    def run(n: int, weights: Any, inputs: Any, outputs: Any) -> Any:
        def body(_: int, sums: Any) -> Any:
            # A sum that depends on what came before keeps the compiler from hoisting a product out of the loop.
            drift = 1e-30 * sums
            total = sums
            for i, (w, x, d) in enumerate(zip(weights, inputs, outputs, strict=True)):
                total += (x + drift)[0, 0] * 0 + jnp.dot(x, w + drift)[0, 0]
                total += jnp.dot(x.T, d + drift)[0, 0]
                if i:
                    total += jnp.dot(d + drift, w.T)[0, 0]
            return total

        return jax.lax.fori_loop(0, n, body, jnp.zeros(()))

    return lambda n: jax.block_until_ready(run(n, weights, inputs, outputs))


def ours(module: Any, data: Dataset, settings: dict[str, Any]) -> tuple[Callable[[int], None], float]:
    """Return a function that advances our engine n steps, and its compile time."""
    model, recipe = module.recipe(Brief(data, jax.random.key(0), 100.0), **settings)
    engine = Engine(model, recipe, Feed(data.training_source(), jnp.uint32(0)), 0)
    state = [engine.init()]
    began = time.perf_counter()
    state[0] = jax.block_until_ready(engine.advance(state[0], 1))
    compiled = time.perf_counter() - began

    def run(n: int) -> None:
        state[0] = jax.block_until_ready(engine.advance(state[0], int(state[0].step) + n))

    return run, compiled


def bare(module: Any, data: Dataset, settings: dict[str, Any]) -> Callable[[int], None]:
    """Return a function that runs n steps of a loop written by hand, drawing the same batches."""
    model, recipe = module.recipe(Brief(data, jax.random.key(0), 100.0), **settings)
    feed, player = Feed(data.training_source(), jnp.uint32(0)), recipe.players[0]
    arrays, static = eqx.partition(model, eqx.is_array)
    key = jax.random.key(1)

    @jax.jit
    def run(n: int, arrays: Any, optimiser: Any, start: Any) -> Any:
        def body(step: int, now: Any) -> Any:
            arrays, optimiser = now
            own = jax.random.fold_in(key, step)
            batch, _ = recipe.draw(own, step, feed, None, None)

            def loss(arrays: Any) -> Any:
                return player.objective(eqx.combine(arrays, static), batch, None, own)[0]

            updates, optimiser = player.optimiser.update(jax.grad(loss)(arrays), optimiser, arrays)
            return jax.tree.map(lambda a, u: a + u, arrays, updates), optimiser

        return jax.lax.fori_loop(start, start + n, body, (arrays, optimiser))

    now = [(arrays, player.optimiser.init(arrays)), 0]

    def advance(n: int) -> None:
        now[0] = jax.block_until_ready(run(n, *now[0], now[1]))
        now[1] += n

    return advance


def peer(name: str, batch: int) -> Callable[[int], None] | None:
    """Return a function that runs n steps of pythae's model of the same widths, or None without pythae."""
    if importlib.util.find_spec("pythae") is None or name not in ("vae", "iwae-50"):
        return None
    import torch
    from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from torch import nn

    torch.set_num_threads(ARGS.threads)

    class Up(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh())
            self.mean, self.log_var = nn.Linear(200, 50), nn.Linear(200, 50)

        def forward(self, x: Any) -> Any:
            h = self.trunk(x.reshape(x.shape[0], -1))
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))

    class Down(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(
                nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784), nn.Sigmoid()
            )

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=self.trunk(z))

    common = {"input_dim": (784,), "latent_dim": 50, "reconstruction_loss": "bce"}
    if name == "vae":
        model = VAE(VAEConfig(**common), encoder=Up(), decoder=Down())
    else:
        model = IWAE(IWAEConfig(**common, number_samples=50), encoder=Up(), decoder=Down())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    grey = torch.rand(10_000, 784)

    def run(n: int) -> None:
        for step in range(n):
            at = step * batch % (10_000 - batch)
            x = torch.bernoulli(grey[at : at + batch])
            loss = model({"data": x}).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return run


def per_step(run: Callable[[int], None], n: int) -> float:
    began = CLOCK()
    run(n)
    return 1e3 * (CLOCK() - began) / n


def measure(name: str, module: Any, settings: dict[str, Any], shapes: Any, k: int) -> dict[str, Any]:
    """Measure one job: every contender in turn, round after round."""
    data = images()
    run, compiled = ours(module, data, settings)
    contenders = {"ours": run, "bare loop": bare(module, data, settings),
                  "products": products(*shapes, settings["batch"], k)}  # fmt: skip
    if (other := peer(name, settings["batch"])) is not None:
        contenders["pythae"] = other
    counts = {}
    for who, go in contenders.items():
        go(2)
        counts[who] = max(2, int(1e3 * ARGS.seconds / per_step(go, 4)))
    rounds = [{who: per_step(go, counts[who]) for who, go in contenders.items()} for _ in range(ARGS.rounds)]
    median = {who: statistics.median(r[who] for r in rounds) for who in contenders}
    ratio = {f"{who} / ours": statistics.median(r[who] / r["ours"] for r in rounds) for who in contenders}
    overhead = statistics.median(r["ours"] - r["bare loop"] for r in rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"job": name, "ms_per_step": median, "ratios": ratio, "engine_overhead_us": 1e3 * overhead,
            "compile_s": compiled, "peak_mb_so_far": peak}  # fmt: skip


def overhead() -> dict[str, Any]:
    """Measure the engine against the bare loop on a model so small that the loop itself is what costs."""
    data = images(1000)
    settings = {"latent": (1,), "hidden": ((1,),), "batch": 1}
    run, _ = ours(vae, data, settings)
    other = bare(vae, data, settings)
    run(10), other(10)
    gaps = [1e3 * (per_step(run, 20_000) - per_step(other, 20_000)) for _ in range(ARGS.rounds)]
    return {"job": "engine on a tiny model", "overhead_us": statistics.median(gaps), "all_us": gaps}


def main() -> None:
    jobs = [
        ("vae", vae, {"batch": 100}, (A1_UP, A1_DOWN), 1),
        ("iwae-50", iwae, {"batch": 20, "k": 50}, (A1_UP, A1_DOWN), 50),
        ("mem-vae", mem_vae, {"batch": 100}, (MEM_UP, MEM_DOWN), 1),
    ]
    report = {"machine": platform.processor() or platform.machine(), "threads": ARGS.threads, "jax": jax.__version__,
              "clock": "processor" if ARGS.threads == 1 else "wall", "jobs": [],
              **{name: provenance()[name] for name in ("commit", "hardware")}}  # fmt: skip
    report["jobs"].append(overhead())
    print(json.dumps(report["jobs"][-1]), file=sys.stderr)
    for job in jobs:
        report["jobs"].append(measure(*job))
        print(json.dumps(report["jobs"][-1]), file=sys.stderr)
    text = json.dumps(report, indent=1)
    print(text)
    if ARGS.out:
        ARGS.out.parent.mkdir(parents=True, exist_ok=True)
        ARGS.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
