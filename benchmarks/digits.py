"""The design's targets on digits: five seeds each of VAE, IWAE-5 and IWAE-50, chosen on validation.

    python benchmarks/digits.py [--out results/digits.json] [--seeds 5]

Every run is resumable (``runs/digits-targets/<name>/seed-<s>``); what is done is not done again.  The file says for
each model the mean over seeds, its 95 % interval, every seed's certified record and the command.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

import reverie
from reverie.progress import for_stderr
from reverie.train.provenance import provenance

MODELS = {
    "VAE": ("vae", {"surrogate": "elbo", "k": 1}, -17.3),
    "IWAE-5": ("iwae", {"k": 5}, -16.9),
    "IWAE-50": ("iwae", {"k": 50}, -16.6),
}
SAMPLES = 1000


def one(name: str, model: str, settings: dict, seed: int) -> reverie.Estimate:
    """Train (or resume, or just read) one run and return its test log-likelihood."""
    folder = Path("runs/digits-targets") / name / f"seed-{seed}"
    if (folder / "checkpoint.json").exists():
        run = reverie.load(folder)
        run = run if run.record["status"] == "finished" else run.resume(progress=for_stderr())
    else:
        run = reverie.train(model, "digits", run=folder, seed=seed, preset="digits", progress=for_stderr(), **settings)
    return run.evaluate(samples=SAMPLES, progress=for_stderr())["log_likelihood"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/digits.json"))
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for name, (model, settings, target) in MODELS.items():
        found = [one(name, model, settings, seed) for seed in range(arguments.seeds)]
        values = [estimate.value for estimate in found]
        spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        rows.append({"model": name, "settings": settings, "target": target, "mean": statistics.fmean(values),
                     "standard_error_over_seeds": spread, "reached": statistics.fmean(values) >= target - 0.15,
                     "records": [estimate.to_json() for estimate in found]})  # fmt: skip
        print(name, f"{rows[-1]['mean']:.3f} +- {spread:.3f} (target {target})", file=sys.stderr)
        report = {"rows": rows, "command": "python benchmarks/digits.py", **provenance()}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


main()
