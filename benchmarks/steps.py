"""How fast a training step is, against what the machine could do and against a peer, in one process, alternating.

    python benchmarks/steps.py [--rounds 7] [--threads 1] [--out results/bench/steps.json]

For each job, in turn within every round: our engine (whole steps: draw, binarise, gradient, Adam, logging), a bare
compiled loop of the same steps, the step's matrix products alone, and pythae's step where it is installed.  Reported
are medians over the rounds of milliseconds per step and of the ratios within a round, compile time, and peak memory.
Processor time is used with one thread, wall time otherwise.
"""

from __future__ import annotations

import importlib.util
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import _report

ASK = _report.timing(__doc__, rounds=7, seconds=1.0)
ASK.add_argument("--threads", type=int, default=1)
ARGS = ASK.parse_args()
_report.threads(ARGS.threads)

import jax  # noqa: E402
from _loops import FIRST, INNER, Layer, bare, built, grey, products, steps  # noqa: E402

from reverie.models.directed import iwae, mem_vae, vae  # noqa: E402
from reverie.train.engine import Engine  # noqa: E402

CLOCK = time.process_time if ARGS.threads == 1 else time.perf_counter
#: Sizes of a step's products (in, out): of rows a step, and of samples of them.
A1_UP = [(784, 200), (200, 200), (200, 50), (200, 50)]
A1_DOWN = [(50, 200), (200, 200), (200, 784)]
MEM_UP = [(784, 500), (500, 500), (500, 100), (500, 100)]
MEM_DOWN = [(100, 500), (500, 30), (30, 500), (500, 500), (500, 70), (70, 500), (500, 784)]


def layers(up: list[tuple[int, int]], down: list[tuple[int, int]], batch: int, k: int) -> list[Layer]:
    """Return the products of a step: forward, weight and input gradients, but of the data none."""
    sizes = [(batch, *s) for s in up] + [(batch * k, *s) for s in down]
    return [(INNER if i else FIRST, *size) for i, size in enumerate(sizes)]


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


def measure(name: str, module: Any, settings: dict[str, Any], shapes: Any, k: int) -> dict[str, Any]:
    """Measure one job: every contender in turn, round after round."""
    model, recipe, feed = built(module, grey(), **settings)
    run = steps(Engine(model, recipe, feed, 0))
    began = time.perf_counter()
    run(1)
    compiled = time.perf_counter() - began
    contenders = {"ours": run, "bare loop": bare(model, recipe, feed),
                  "products": products(layers(*shapes, settings["batch"], k))}  # fmt: skip
    if (other := peer(name, settings["batch"])) is not None:
        contenders["pythae"] = other
    rounds = _report.in_turn(contenders, _report.counted(contenders, ARGS.seconds, CLOCK), ARGS.rounds, CLOCK)
    overhead = statistics.median(r["ours"] - r["bare loop"] for r in rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"job": name, "ms_per_step": _report.medians(rounds), "ratios": _report.ratios(rounds),
            "engine_overhead_us": 1e3 * overhead, "compile_s": compiled, "peak_mb_so_far": peak}  # fmt: skip


def overhead() -> dict[str, Any]:
    """Measure the engine against the bare loop on a model so small that the loop itself is what costs."""
    model, recipe, feed = built(vae, grey(1000), latent=(1,), hidden=((1,),), batch=1)
    contenders = {"ours": steps(Engine(model, recipe, feed, 0)), "bare loop": bare(model, recipe, feed)}
    _report.in_turn(contenders, dict.fromkeys(contenders, 10), 2)
    rounds = _report.in_turn(contenders, dict.fromkeys(contenders, 20_000), ARGS.rounds, CLOCK)
    gaps = [1e3 * (r["ours"] - r["bare loop"]) for r in rounds]
    return {"job": "engine on a tiny model", "overhead_us": statistics.median(gaps), "all_us": gaps}


def main() -> None:
    jobs = [
        overhead,
        partial(measure, "vae", vae, {"batch": 100}, (A1_UP, A1_DOWN), 1),
        partial(measure, "iwae-50", iwae, {"batch": 20, "k": 50}, (A1_UP, A1_DOWN), 50),
        partial(measure, "mem-vae", mem_vae, {"batch": 100}, (MEM_UP, MEM_DOWN), 1),
    ]
    _report.tell(ARGS, jobs, {"jax": jax.__version__}, ARGS.threads)


if __name__ == "__main__":
    main()
