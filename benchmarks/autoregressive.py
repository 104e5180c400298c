"""How fast autoregressive models and Helmholtz machines learn and draw.

    python benchmarks/autoregressive.py [--rounds 5] [--seconds 0.5] [--quick] [--out results/bench/autoregressive.json]

All in one process on one thread, in turn within every round; medians over the rounds of milliseconds of processor time
and of the ratios within a round.  Jobs: a step of `nade` (784 cells, 500 units, 100 rows) beside a loop written by hand
around the same gradient, the sigmoids alone that no NADE can do without (forward, and again on the way back, where they
are not kept) and the matrix products of a net of the same widths; a step of `made` of those widths beside its products
and a MADE in PyTorch (masked linear layers, Adam; needs the extra `bench`); reweighted wake-sleep with k = 10 on layers
784-200-200 beside IWAE with k = 10 of equal widths; and rows drawn from each, in milliseconds a row.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import _report

_report.threads(1)
_report.keep_memory()

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
from _loops import FIRST, INNER, Layer, bare, binary, built, products, steps  # noqa: E402

from reverie.models.directed import darn, helmholtz, iwae, made, nade, orderless_nade  # noqa: E402
from reverie.train.engine import Engine  # noqa: E402

CELLS, UNITS, BATCH, K, LAYER = 784, 500, 100, 10, 200
DRAWN = 100


def sigmoids(cells: int, units: int, batch: int, passes: int) -> _report.Run:
    """Return a function that takes the sigmoids of a NADE's step, a cell's at a time, so often."""
    field = 0.1 * jax.random.normal(jax.random.key(0), (batch, units))

    @jax.jit
    def run(n: int, field: Any) -> Any:
        def cell(_: int, a: Any) -> Any:
            return a + 1e-6 * jax.nn.sigmoid(a)

        return jax.lax.fori_loop(0, n * passes * cells, cell, field)

    return lambda n: jax.block_until_ready(run(n, field))


def torch_made(batch: int, units: int) -> _report.Run | None:
    """Return a function that does n steps of a MADE of one hidden layer in PyTorch; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)

    class Masked(torch.nn.Linear):
        def __init__(self, mask: Any) -> None:
            super().__init__(mask.shape[1], mask.shape[0])
            self.register_buffer("mask", mask)

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.linear(x, self.mask * self.weight, self.bias)

    order, rank = torch.randperm(CELLS), torch.randint(0, CELLS - 1, (units,))
    seen = (rank[:, None] >= order[None]).float()
    said = (order[:, None] > rank[None]).float()
    model = torch.nn.Sequential(Masked(seen), torch.nn.ReLU(), Masked(said))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    rows = (torch.rand(10_000, CELLS) < 0.13).float()

    def run(n: int) -> None:
        for step in range(n):
            x = rows[step * batch % (10_000 - batch) :][:batch]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x), x, reduction="sum") / batch
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return run


def measured(
    job: str, contenders: dict[str, _report.Run], given: argparse.Namespace, to: str = "ours"
) -> dict[str, Any]:
    rounds = _report.in_turn(contenders, _report.counted(contenders, given.seconds), given.rounds)
    return {"job": job, "ms": _report.medians(rounds), "ratios": _report.ratios(rounds, to)}


def nade_step(given: argparse.Namespace) -> dict[str, Any]:
    model, recipe, feed = built(nade, binary(), hidden=UNITS, batch=BATCH)
    net: list[Layer] = [(FIRST, BATCH, CELLS, UNITS), (INNER, BATCH, UNITS, CELLS)]
    contenders = {
        "ours": steps(Engine(model, recipe, feed, 0)),
        "bare loop": bare(model, recipe, feed),
        "sigmoids, forward and back": sigmoids(CELLS, UNITS, BATCH, 2),
        "products of such a net": products(net),
    }
    return measured(f"nade {CELLS}, {UNITS} units, batch {BATCH}: a step", contenders, given)


def made_step(given: argparse.Namespace) -> dict[str, Any]:
    model, recipe, feed = built(made, binary(), hidden=(UNITS,), masks=1, batch=BATCH)
    net: list[Layer] = [(FIRST, BATCH, CELLS, UNITS), (INNER, BATCH, UNITS, CELLS)]
    peer = torch_made(BATCH, UNITS)
    contenders = {
        "ours": steps(Engine(model, recipe, feed, 0)),
        "bare loop": bare(model, recipe, feed),
        "products": products(net),
        **({} if peer is None else {"PyTorch": peer}),
    }
    return measured(f"made {CELLS}-{UNITS}-{CELLS}, one mask, batch {BATCH}: a step", contenders, given)


def wake_and_sleep(given: argparse.Namespace) -> dict[str, Any]:
    contenders = {}
    ways = {"ours": (helmholtz, {"latent": (LAYER, LAYER), "surrogate": "rws"}),
            "ours, q by wake alone": (helmholtz, {"latent": (LAYER, LAYER), "surrogate": "rws", "q_updates": "wake"}),
            "iwae": (iwae, {"latent": (LAYER,), "hidden": ((LAYER,),), "surrogate": "iwae"})}  # fmt: skip
    for who, (module, how) in ways.items():
        contenders[who] = steps(Engine(*built(module, binary(), batch=BATCH, k=K, **how), 0))
    job = f"rws, k {K}, {CELLS}-{LAYER}-{LAYER}, batch {BATCH}, beside iwae of equal widths: a step"
    return measured(job, contenders, given, to="iwae")


def draws(given: argparse.Namespace) -> dict[str, Any]:
    """Time draws of a hundred rows at once, in milliseconds a row."""
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "nade": (nade, {"hidden": UNITS}),
        "made": (made, {"hidden": (UNITS,), "masks": 1}),
        "orderless-nade": (orderless_nade, {"hidden": (UNITS,)}),
        "darn, 500": (darn, {"latent": (UNITS,)}),
        "helmholtz, 200-200": (helmholtz, {"latent": (LAYER, LAYER)}),
    }

    def drawing(module: Any, how: dict[str, Any]) -> _report.Run:
        model = built(module, binary(), batch=BATCH, **how)[0]
        run = eqx.filter_jit(lambda model, keys: jax.vmap(lambda key: model.sample(key)[0])(keys))
        keys = jax.random.split(jax.random.key(0), DRAWN)
        return lambda n: [jax.block_until_ready(run(model, keys)) for _ in range(n)]

    contenders = {who: drawing(*way) for who, way in ways.items()}
    counts = {who: max(2, count // 4) for who, count in _report.counted(contenders, given.seconds).items()}
    rounds = _report.in_turn(contenders, counts, given.rounds)
    rounds = [{who: ms / DRAWN for who, ms in one.items()} for one in rounds]
    return {"job": f"rows of {CELLS} cells drawn, {DRAWN} at once: a row", "ms": _report.medians(rounds)}


def main() -> None:
    given = _report.timing(__doc__, rounds=5, seconds=0.5, quick="one round of little work").parse_args()
    if given.quick:
        given.rounds, given.seconds = 1, 0.01
    jobs = [partial(job, given) for job in (nade_step, made_step, wake_and_sleep, draws)]
    _report.tell(given, jobs, {"jax": jax.__version__}, batch=BATCH)


if __name__ == "__main__":
    main()
