"""What the numbers of a run say about it, in sentences, each with what to do.

`gather` reads a run folder; `diagnose` looks at the facts.  A fact that is not there is not judged.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np

from reverie.estimate import Estimate, of_windows
from reverie.evaluate.certify import LOW_ESS
from reverie.evaluate.diagnose_samples import health, windows
from reverie.evaluate.rising import advice, rise
from reverie.evaluate.tasks import ACTIVE
from reverie.files import spoken

#: A unit that is on, or off, for less than this share of rows tells them nothing.
IDLE = 0.01

Level = Literal["ok", "warning", "problem"]
Facts = Mapping[str, Any]
Finding = tuple[Level, str]
_ORDER: tuple[Level, ...] = ("problem", "warning", "ok")


def diagnose(facts: Facts) -> list[dict[str, str]]:
    """Return ``{"level": "ok" | "warning" | "problem", "text": ...}`` findings, the gravest first.

    Args:
        facts: of `gather`: ``run`` (run.json), ``metrics`` (journal lines), ``evaluation``, ``rows`` (per-row arrays by
            evaluation key), ``units`` and ``memory`` (arrays), ``baseline`` (a record); each may be missing.
    """
    found = [finding for look in LOOKS for finding in look(facts)]
    found.sort(key=lambda finding: _ORDER.index(finding[0]))
    return [{"level": level, "text": text} for level, text in found]


def gather(folder: str | Path, baseline: Estimate | None = None, *, ended: bool = False) -> dict[str, Any]:
    """Return the facts of a run folder; what is missing or damaged is left out, for the report to complain of.

    Args:
        ended: the learning rate is 0 at the end of the plan, so that nobody should be told to go on.
    """
    path = Path(folder)
    facts: dict[str, Any] = {"folder": shlex.quote(spoken(path)), "ended": ended}
    for name, file in (("run", "run.json"), ("evaluation", "evaluation.json")):
        facts[name] = _json(path / file)
    lines = [_parsed(line) for line in _text(path / "metrics.jsonl").splitlines()]
    facts["metrics"] = [line for line in lines if isinstance(line, Mapping)]
    facts["health"], facts["weights"] = _json(path / "health.json"), _json(path / "checkpoint.json").get("sha256")
    for name in ("units", "memory", "activations", "chains"):
        facts[name] = _arrays(path / "arrays" / f"{name}.npz")
    entries = {key: e for key, e in facts["evaluation"].items() if isinstance(e, Mapping)}
    facts["rows"] = {key: _arrays(path / str(entry["rows"])) for key, entry in entries.items() if entry.get("rows")}
    if baseline is not None:
        facts["baseline"] = baseline.to_json()
    return facts


def _ok(text: str) -> Finding:
    return "ok", text


def _warning(text: str) -> Finding:
    return "warning", text


def _problem(text: str) -> Finding:
    return "problem", text


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _json(file: Path) -> dict[str, Any]:
    found = _parsed(_text(file))
    return found if isinstance(found, dict) else {}


def _arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, BadZipFile):
        return {}


def _records(facts: Facts, split: str) -> Iterator[tuple[str, Estimate]]:
    for key, entry in (facts.get("evaluation") or {}).items():
        record = entry.get("log_likelihood") if isinstance(entry, Mapping) else None
        if isinstance(record, Mapping) and key.split("/", 1)[0] == split and record.get("value") is not None:
            yield key, Estimate.from_json(dict(record))


def _number(facts: Facts, split: str = "test") -> tuple[str, Estimate] | None:
    """Return the log-likelihood of a split that says most: the highest of its lower bounds."""
    return max(_records(facts, split), key=lambda item: item[1].value, default=None)


def collapse(facts: Facts) -> Iterator[Finding]:
    """Say how many latent units are used, layer by layer."""
    layers = [
        (n.removeprefix("activity_"), a) for n, a in (facts.get("units") or {}).items() if n.startswith("activity_")
    ]
    for name, activity in layers:
        live, size = int((activity > ACTIVE).sum()), activity.size
        where = f"layer {name}: " if len(layers) > 1 else ""
        if live == 0:
            yield _problem(
                f"{where}posterior collapse: none of {size} latent units carries anything about a row. "
                "Let the KL term in slowly (--warmup), lower the learning rate, or weaken the decoder"
                + ("; upper layers collapse most easily, so try fewer of them." if len(layers) > 1 else ".")
            )
        elif live < max(2, 0.1 * size):
            yield _warning(
                f"{where}only {live} of {size} latent units are used, so it behaves like a smaller model. "
                "Try --warmup, more samples per row (--k), or a smaller --latent."
            )
        else:
            yield _ok(f"{where}{live} of {size} latent units are used.")


def idle(facts: Facts) -> Iterator[Finding]:
    """Flag hidden units of an energy that are never or always on, which tell rows nothing."""
    layers = sorted((n, a) for n, a in (facts.get("activations") or {}).items() if n.startswith("mean_") and a.size)
    for name, means in layers:
        where = f"layer {name.removeprefix('mean_')}: " if len(layers) > 1 else ""
        dead, always = int((means < IDLE).sum()), int((means > 1.0 - IDLE).sum())
        if not dead + always:
            yield _ok(f"{where}all of {means.size} hidden units are on for some rows and off for others.")
            continue
        text = (
            f"{where}of {means.size} hidden units {dead} are never on and {always} always (test rows): they tell rows "
            "nothing. Try a lower --rate, --sparsity.cost 0.01, or fewer --hidden."
        )
        yield _warning(text) if 10 * (dead + always) >= means.size else _ok(text)


def mixing(facts: Facts) -> Iterator[Finding]:
    """Warn of an energy whose own chains do not forget where they began."""
    said = (facts.get("chains") or {}).get("mixing")
    if said is not None and "do not mix" in str(said):
        yield _warning(f"Its {said}. Samples remember where they began, and both sides of log Z lean on chains.")


def effective_samples(facts: Facts) -> Iterator[Finding]:
    """Warn of bounds that few draws decide."""
    found = _number(facts)
    if found is None:
        return
    ess = (facts.get("rows") or {}).get(found[0], {}).get("ess")
    samples = found[1].estimator.rsplit("-", 1)[-1]
    if ess is None or not ess.size or not found[1].estimator.startswith("importance") or not samples.isdigit():
        return
    mean = float(np.mean(ess))
    if mean < LOW_ESS < int(samples):
        yield _warning(
            f"On average {mean:.1f} of {samples} draws decide a row's log-likelihood, so the bound may lie well "
            "below the truth. Evaluate with more --samples, or with --estimator ais."
        )


def noise(facts: Facts) -> Iterator[Finding]:
    """Warn of a number whose own randomness is not small against what another test set would change."""
    found = _number(facts)
    if found is None or not math.isfinite(found[1].standard_error):
        return
    record = found[1]
    if record.monte_carlo_error > 0.5 * record.standard_error:
        yield _warning(
            f"The estimator's own error ({record.monte_carlo_error:.2f} nats) is not small against the error "
            f"over test rows ({record.standard_error:.2f}). Evaluate with more --samples."
        )


def objective(facts: Facts) -> Iterator[Finding]:
    """Say when the curve of training is no bound of the likelihood."""
    settings = (facts.get("run") or {}).get("settings") or {}
    beta, warmup = settings.get("beta", 1.0), settings.get("warmup", 0.0)
    if beta is not None and float(beta) != 1.0:
        yield _warning(
            f"The KL term was weighted by beta = {beta:g}, so the training curve is an objective and no bound "
            "of the likelihood. Compare models by their test log-likelihood alone."
        )
    epochs = ((facts.get("run") or {}).get("plan") or {}).get("epochs")
    if warmup and epochs and float(warmup) >= float(epochs):
        yield _warning(
            f"The KL term was still growing when training ended (warm-up over {warmup:g} epochs, {epochs:g} done). "
            "Train longer or warm up for less."
        )


def overfitting(facts: Facts) -> Iterator[Finding]:
    """Compare what training rows score with what test rows score, judged alike."""
    test, train = dict(_records(facts, "test")), dict(_records(facts, "train"))
    for key, mine in test.items():
        theirs = train.get(f"train/{key.split('/', 1)[1]}")
        if theirs is None:
            continue
        gap, error = theirs.value - mine.value, math.hypot(mine.standard_error, theirs.standard_error)
        if gap > 1.0 and gap > 3 * error:
            yield _warning(
                f"Overfitting: training rows score {gap:.2f} nats more than test rows. Use more data, "
                "a smaller network, or keep the weights that were best on validation (--select best)."
            )
        else:
            yield _ok(f"Training rows score {gap:+.2f} nats beside test rows: no overfitting to speak of.")
        return


def _validations(facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    lines = [m for m in facts.get("metrics") or () if isinstance(m.get("valid"), Mapping)]
    points = [(m.get("epoch"), m["valid"].get("value")) for m in lines]
    kept = [(e, v) for e, v in points if e is not None and v is not None]
    epochs, values = np.asarray(kept, np.float64).reshape(-1, 2).T
    return epochs, values


def _valid_unit(facts: Facts) -> str:
    """Return the unit of the validation curve: nats of a likelihood, squares of an error."""
    records = [m["valid"] for m in facts.get("metrics") or () if isinstance(m.get("valid"), Mapping)]
    return str(records[-1].get("unit", "nats")) if records else "nats"


def _by_windows(facts: Facts) -> bool:
    return any(of_windows(m.get("valid") or {}) for m in facts.get("metrics") or ())


def validation(facts: Facts) -> Iterator[Finding]:
    """Look at the end of the validation curve: still rising, or long past its best."""
    found = rise(facts.get("metrics") or ())
    if found is not None:
        yield _warning(advice(found, facts.get("folder", "DIR"), bool(facts.get("ended"))))
        return
    epochs, values = _validations(facts)
    if values.size < 5:
        return
    best, last = int(values.argmax()), values.size - 1
    if values[best] - values[-1] > 0.5 and best < 0.8 * last and _by_windows(facts):
        yield _warning(
            f"Parzen windows of validation rows were best at epoch {epochs[best]:.3g}, by "
            f"{values[best] - values[-1]:.2f} nats. They prefer what is blurred (docs/parzen.md): look at the samples, "
            "and only where those of that epoch are the better ones keep them, with --select best."
        )
    elif values[best] - values[-1] > 0.5 and best < 0.8 * last:
        kept = ((facts.get("run") or {}).get("select")) == "best"
        text = "Those weights are the ones kept." if kept else "Keep the best ones with --select best, or stop earlier."
        level: Level = "ok" if kept else "warning"
        yield (
            level,
            (
                f"Validation was best at epoch {epochs[best]:.3g} and fell by {values[best] - values[-1]:.2f} "
                f"{_valid_unit(facts)} after it, which is overfitting. {text}"
            ),
        )


def baseline(facts: Facts) -> Iterator[Finding]:
    """Compare with columns that know nothing of each other."""
    found, base = _number(facts), facts.get("baseline")
    if found is None or not base or base.get("value") is None:
        return
    gain = found[1].value - float(base["value"])
    # A gain that another test set could take away is none.
    noise = 2.0 * (found[1].standard_error or 0.0)
    if gain <= noise:
        what = f"{-gain:.2f} nats below" if gain <= 0 else f"only {gain:.2f} nats above"
        yield _problem(
            f"The test log-likelihood is {what} that of independent columns: the model has learnt next to "
            "nothing of how columns hang together. Train longer, try another --rate, and look at the data's notes."
        )
    else:
        yield _ok(f"The test log-likelihood is {gain:.2f} nats above that of independent columns.")


def memory(facts: Facts) -> Iterator[Finding]:
    """Look for slots that nobody reads, attention that does not choose, and a memory that is worth nothing."""
    arrays = facts.get("memory") or {}
    for layer in [str(name) for name in np.atleast_1d(arrays.get("layers", np.zeros(0)))]:
        usage, spread = arrays.get(f"usage_{layer}"), arrays.get(f"entropy_{layer}")
        if usage is not None and usage.size:
            yield from _usage(layer, usage, spread)
        off = arrays.get(f"disabled_{layer}")
        if off is not None and off.size and off[0, 0] < 2 * off[0, 1]:
            yield _warning(
                f"memory {layer}: reading zeros in its place costs {off[0, 0]:.2f} +- {off[0, 1]:.2f} nats, so it is "
                "not used. Train longer, or give the layer fewer units of its own."
            )


def _usage(layer: str, usage: np.ndarray, spread: np.ndarray | None) -> Iterator[Finding]:
    dead = int((usage < 0.05 * usage.max()).sum()) if usage.max() > 0 else usage.size
    if 2 * dead >= usage.size:
        yield (
            "warning",
            (f"memory {layer}: {dead} of {usage.size} slots are hardly read. Fewer --slots would do as well."),
        )
    if spread is not None and spread.size and usage.size > 1 and float(spread.mean()) > 0.98 * math.log(usage.size):
        yield _warning(
            f"memory {layer}: every row reads all slots alike, so attention does not choose. To see slots that "
            "stand for something, train with --preset slots (softmax attention)."
        )


def data(facts: Facts) -> Iterator[Finding]:
    """Say what is the matter with the data or the numbers themselves."""
    record = (facts.get("run") or {}).get("data") or {}
    # Of a sequence nothing is missing: what is not there is not asked for.
    if record.get("missing") and not record.get("inputs"):
        yield _ok("Some cells are missing: likelihoods are those of the cells that are there.")
    rows = record.get("rows") or {}
    if 0 < rows.get("test", 0) < 50:
        yield _warning(f"There are only {rows['test']} test rows: the standard error is itself uncertain.")
    for key, entry in (facts.get("evaluation") or {}).items():
        number = entry.get("log_likelihood") if isinstance(entry, Mapping) else None
        if isinstance(number, Mapping) and number.get("value") is None:
            yield _problem(f"{key}: the log-likelihood is not a number; look for NaN in the data or the weights.")
    if (facts.get("run") or {}).get("status") == "failed":
        yield _problem(f"Training failed: {(facts.get('run') or {}).get('reason') or 'see run.json'}")


LOOKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    data, baseline, collapse, idle, mixing, overfitting, validation, objective, effective_samples, noise, memory,
    windows, health,
)  # fmt: skip
