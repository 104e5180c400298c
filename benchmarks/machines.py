"""What memory machines come to on the five tasks of the Neural Turing Machine, beside LSTMs of the published sizes.

    python benchmarks/machines.py [--tasks copy repeat-copy ...] [--machines feedforward lstm-controller lstm]
                                  [--seeds 1] [--minutes 20] [--out results/machines.json] [--picture curves.png]

Each run is resumable (``runs/machines/<task>/<machine>/seed-<s>``) and done once; rows that are not made anew stay in
the file.  A row says the cost of 500 test sequences of the sizes of training, and of other sizes that the papers try
(``beyond``), the sequences that were seen, and the processor seconds.  The picture has the cost of the sequences being
trained on, in bits a sequence, against how many were seen; those that grow as they are mastered cost little at first.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import _report

_report.threads(1)

import matplotlib.pyplot as plt  # noqa: E402

import reverie  # noqa: E402
from reverie.progress import for_stderr  # noqa: E402
from reverie.train.provenance import provenance  # noqa: E402

#: By task: sizes beyond those of training, and for each machine the preset and settings over it.
TASKS: dict[str, tuple[tuple[str, ...], dict[str, dict[str, Any]]]] = {
    "copy": (("30", "50", "120"), {"feedforward": {}, "lstm-controller": {"preset": "lstm"}, "lstm": {"epochs": 20}}),
    "repeat-copy": (
        ("20x10", "10x20"),
        {"feedforward": {}, "lstm-controller": {"preset": "lstm"}, "lstm": {"preset": "repeat", "epochs": 4}},
    ),
    "associative-recall": (
        ("8", "12", "15"),
        {
            "feedforward": {"preset": "recall"},
            "lstm-controller": {"controller": "lstm", "rate": 1e-3, "epochs": 240},
            "lstm": {"rate": 1e-4, "epochs": 20},
        },
    ),
    "dynamic-ngrams": (
        (),
        {
            "feedforward": {"preset": "ngrams"},
            "lstm-controller": {"preset": ("lstm", "ngrams")},
            "lstm": {"preset": "ngrams", "epochs": 40},
        },
    ),
    "priority-sort": ((), {"lstm-controller": {"preset": "sort"}, "lstm": {"preset": "sort", "epochs": 40}}),
}
MACHINES = ("feedforward", "lstm-controller", "lstm")


def one(task: str, machine: str, seed: int, minutes: float) -> reverie.Run | None:
    """Train (or go on, or just read) one run, None where time ran out."""
    folder = Path("runs/machines") / task / machine / f"seed-{seed}"
    model = "lstm" if machine == "lstm" else "ntm"
    try:
        run = _report.finished(folder, model, task, seed=seed, minutes=minutes, **TASKS[task][1][machine])
    except reverie.Interrupted as stopped:
        print(stopped)
        return None
    return run  # type: ignore[no-any-return]


def row(task: str, machine: str, runs: list[reverie.Run]) -> dict[str, Any]:
    """Return what runs of several seeds come to, at the sizes of training and beyond."""
    beyond = TASKS[task][0]
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for size, data in {"training": None, **{size: f"{task}:{size}" for size in beyond}}.items():
            judged = run.evaluate(data=data, progress=for_stderr())
            found.setdefault(size, []).append({name: one.to_json() for name, one in judged.items()})
    costs = [at["bits_per_sequence"]["value"] for at in found["training"]]
    last = [run.journal()[-1] for run in runs]
    return {
        "task": task, "machine": machine, "median": statistics.median(costs), "costs": costs,
        "parameters": runs[0].record["parameters"],
        "steps": [line["step"] for line in last], "seconds": [line["seconds"] for line in last],
        "settings": TASKS[task][1][machine], "found": found,
    }  # fmt: skip


def draw(runs: dict[str, dict[str, list[reverie.Run]]], out: Path) -> None:
    """Draw the cost of training against the sequences seen, a panel for each task and a colour for each machine."""
    figure, axes = plt.subplots(1, len(runs), figsize=(4 * len(runs), 3), squeeze=False, layout="constrained")
    for ax, (task, of) in zip(axes[0], runs.items(), strict=True):
        for colour, (machine, each) in enumerate(of.items()):
            for first, run in enumerate(each):
                lines = run.journal()
                seen = [line["step"] * run.record["plan"]["batch"] / 1e3 for line in lines]
                cost = [line["bits_per_sequence"] for line in lines]
                ax.plot(seen, cost, f"C{colour}", lw=1, label=machine if first == 0 else None)
        ax.set(title=task, xlabel="thousand sequences", yscale="symlog")
        ax.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("bits a sequence")
    axes[0, 0].legend()
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = _report.parser(__doc__, Path("results/machines.json"))
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=list(MACHINES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20.0, help="of one run at a stretch")
    parser.add_argument("--picture", type=Path, help="where the curves are drawn")
    asked = parser.parse_args()
    made = _report.kept(asked.out, "task", "machine")
    drawn: dict[str, dict[str, list[reverie.Run]]] = {}
    for task in asked.tasks:
        for machine in [name for name in asked.machines if name in TASKS[task][1]]:
            runs = [run for seed in range(asked.seeds) if (run := one(task, machine, seed, asked.minutes)) is not None]
            if not runs:
                continue
            drawn.setdefault(task, {})[machine] = runs
            made[task, machine] = row(task, machine, runs)
            print(f"{task}, {machine}: {made[task, machine]['costs']} bits a sequence", flush=True)
            by = {"command": "python benchmarks/machines.py", **provenance()}
            _report.write(asked.out, {**by, "rows": list(made.values())})
    if asked.picture is not None and drawn:
        draw(drawn, asked.picture)


if __name__ == "__main__":
    main()
