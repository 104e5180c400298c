"""What there is: models, data and runs, as answers of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reverie import models
from reverie.console import Answer, table
from reverie.errors import ReverieError

BRING = (
    "Your own: --data FILE takes a .csv, .npy, .npz (with train, valid and test arrays if you have splits), a folder\n"
    "of images, or documents: a folder of .txt files, a .txt file with one a line, word counts (scipy.sparse's .npz,\n"
    "any table with --likelihood counts); `reverie data FILE` says what would be understood.  The files of a name are\n"
    "looked for in $REVERIE_DATA first, and fetched once otherwise."
)


#: What is told of an entry of the catalogue.
_TOLD = ("name", "what", "rows", "shape", "taken", "rules", "licence", "source", "here")


def list_models() -> Answer:
    """Return the models, from the index: nothing heavy is imported."""
    entries = models.index()
    rows = [[e["name"], e["family"], ", ".join(e["capabilities"]), e["paper"]] for e in entries]
    hint = "`reverie train MODEL --help` shows a model's own arguments, `reverie cite MODEL` its paper."
    shown = table(["model", "family", "what it can do", "paper"], rows)
    return Answer({"models": entries}, [shown, hint])


def list_data() -> Answer:
    """Return the catalogue."""
    from reverie import data

    entries = [{key: getattr(entry, key) for key in _TOLD} for entry in data.catalogue()]
    rows = [
        [e["name"], e["what"], _count(e["rows"]), " x ".join(map(str, e["shape"])), "here" if e["here"] else "to fetch"]
        for e in entries
    ]
    return Answer({"data": entries}, [table(["data", "what", "rows", "shape", ""], rows), BRING])


def understood(spec: str, **arguments: Any) -> Answer:
    """Return what is understood of one name or file."""
    from reverie import data

    found = data.load(spec, **arguments)
    record = found.to_json()
    for long in ("shift", "scale", "integers"):
        record.pop(long, None)
    return Answer(record, [f"{found.name}:", *(f"- {note}" for note in found.notes)])


#: Where runs are looked for: where `train` puts them, and where ``--run NAME`` does.
_HERE = (Path("runs"), Path())


def list_runs(roots: Sequence[str | Path] = ()) -> Answer:
    """Return the runs in and below some folders; a damaged one is named, and hides no other.

    Args:
        roots: the folders; none stands for ``runs`` and the present one.

    Raises:
        ReverieError: when a folder that was named is missing.
    """
    from reverie.train.folder import list_runs as folders

    for root in map(Path, roots):
        if not root.is_dir():
            raise ReverieError(f"{root}: there is no such folder; name one that holds runs")
    places = [Path(root) for root in roots or _HERE]
    # By where they really are: a folder may lie below two of those that are looked at.
    met: dict[Path, Any] = {}
    for folder in (folder for root in places for folder in folders(root)):
        met.setdefault(folder.path.resolve(), folder)
    found = [described(folder) for folder in met.values()]
    looked = [str(root) if root.parts else "this folder" for root in places]
    record, where = {"runs": found, "looked": [str(root) for root in places]}, f"{' and '.join(looked)}, two deep"
    if not found:
        hint = "`reverie train vae --data digits` makes one, `reverie runs FOLDER ...` lists those elsewhere."
        return Answer(record, [f"No runs in {where}; {hint}"])
    rows = [[r["run"], r["model"], r["data"], _progress(r), r["status"], _number(r)] for r in found]
    shown = table(["run", "model", "data", "epochs", "status", "test number"], rows, right=(3,))
    return Answer(record, [shown, f"Those in {where}; `reverie runs FOLDER ...` lists those elsewhere."])


def described(folder: Any) -> dict[str, Any]:
    """Return what is told of a run: model, data, how far it is, and its best test number."""
    try:
        record = folder.read()
        last = (folder_lines(folder) or [{}])[-1]
        evaluations = folder.evaluations()
    except ReverieError as error:
        return {"run": str(folder.path), "model": None, "data": None, "status": f"damaged: {error}"}
    plan = record.get("plan") or {}
    per_epoch = plan.get("steps_per_epoch")
    return {
        "run": str(folder.path),
        "model": record.get("model"),
        "data": (record.get("data") or {}).get("name"),
        "epochs": last.get("epoch", 0),
        "planned_epochs": plan["steps"] / per_epoch if per_epoch and plan.get("steps") else plan.get("epochs"),
        "step": last.get("step", 0),
        # A process that was killed could not say so; its lock went with it.
        "status": "killed" if record.get("status") == "running" and not folder.held else record.get("status"),
        "test": best(evaluations),
    }


def folder_lines(folder: Any) -> list[dict[str, Any]]:
    """Return the lines of a run's journal."""
    from reverie.train.journal import Journal

    return Journal(folder.metrics).read()


def best(evaluations: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the test record to tell in one number: of the most rows, then the tightest of the lower bounds."""
    from reverie.estimate import of_windows

    tests = [v for k, v in evaluations.items() if k.startswith("test/")]
    found = [v["log_likelihood"] for v in tests if "log_likelihood" in v]
    if not found:
        # A model judged by its task has no likelihood: the first of its metrics counts.  Windows are no number of a
        # model.
        records = [[r for r in v.values() if isinstance(r, Mapping)] for v in tests]
        found = [some[0] for some in records if some and not any(map(of_windows, some))]
    return max(found, key=lambda r: (r.get("n", 0), r.get("value") or float("-inf")), default=None)


def _progress(run: Mapping[str, Any]) -> str:
    # Whole steps make whole epochs only nearly.
    done, planned = (round(float(run.get(key) or 0), 1) for key in ("epochs", "planned_epochs"))
    return f"{done:g} / {planned:g}" if planned else ""


def _number(run: Mapping[str, Any]) -> str:
    if not run.get("test"):
        return ""
    from reverie.estimate import Estimate

    return str(Estimate.from_json(run["test"]))


def _count(rows: tuple[int, ...]) -> str:
    return " / ".join(f"{n:,}" for n in rows)


def differences(found: Any, name: str = "") -> list[str]:
    """Return a line for each paired difference in what `compare` gave, however deep it lies, and one for each note."""
    if isinstance(found, list | tuple):
        return [line for value in found for line in differences(value, name)]
    if not isinstance(found, Mapping):
        return []
    if "difference" not in found or isinstance(found["difference"], Mapping):
        return [line for key, value in found.items() for line in differences(value, str(key))]
    low, high = found["low"], found["high"]
    verdict = f"{found['better']} is better" if found.get("better") else "" if low > 0 or high < 0 else "none is shown"
    said = f"{found['difference']:+.3f} +- {found['standard_error']:.3f}, 95 % interval [{low:+.3f}, {high:+.3f}]"
    line = ": ".join(filter(None, (name, said))) + (f"; {verdict}" if verdict else "")
    return [line, *(f"  {note}" for note in found.get("notes", ()))]


def memory(found: Mapping[str, Any], run: Any) -> Answer:
    """Return what was seen in a memory: for each layer, the three slots of each class, and what slots are worth."""
    import numpy as np

    if "mechanism" in found:
        return _over_time(found, run)
    if "questions" in found:
        return _in_hops(found, run)
    record: dict[str, Any] = {}
    shown: list[Any] = []
    names = list(run.facts.class_names or ())
    for layer in map(str, np.atleast_1d(found["layers"])):
        part = {what: np.asarray(found[f"{what}_{layer}"]) for what in _SEEN if f"{what}_{layer}" in found}
        preference = part.get("preference", np.zeros((0, 0)))
        top = {
            (names[c] if c < len(names) else str(c)): [int(s) for s in np.argsort(-row, kind="stable")[:3]]
            for c, row in enumerate(preference)
        }
        record[layer] = {**part, "top": top}
        rows = [
            [name, ", ".join(f"{slot} ({row[slot]:.2f})" for slot in top[name])]
            for name, row in zip(top, preference, strict=True)
        ]
        shown += [f"{layer}: the slots each class attends to most", table(["class", "slots"], rows)]
        shown += _worth(part.get("knockout"))
    kept = run.path / "arrays" / "memory.npz"
    hint = f"{kept} has everything; `reverie report {run.path}` draws it."
    return Answer({"layers": record, "arrays": kept}, [*shown, hint])


def _in_hops(found: Mapping[str, Any], run: Any) -> Answer:
    """Return what each hop read for some test questions: the sentence it attended to most."""
    questions, shown = [], []
    for n, question in enumerate(found["questions"]):
        weights, names = found["attention"][n], found["sentences"][n]
        hops = [{"sentence": str(names[w.argmax()]), "weight": float(w.max())} for w in weights]
        told = {"question": str(question), "answer": str(found["told"][n]), "right": str(found["right"][n]),
                "probability": float(found["chances"][n]), "hops": hops}  # fmt: skip
        questions.append(told)
        verdict = "" if told["answer"] == told["right"] else f"; right is {told['right']}"
        title = f"{question}?  {told['answer']} ({told['probability']:.2f}){verdict}"
        rows = [[str(k), f"{hop['weight']:.2f}", hop["sentence"]] for k, hop in enumerate(hops, 1)]
        shown += [title, table(["hop", "weight", "attends most to"], rows, right=(0, 1))]
    picture, kept = run.path / "memory.png", run.path / "arrays" / "memory.npz"
    return Answer({"questions": questions, "picture": picture, "arrays": kept}, [*shown, str(picture)])


def _over_time(found: Mapping[str, Any], run: Any) -> Answer:
    """Return how a machine goes through the memory that it writes, and where that is drawn."""
    told = found["mechanism"]
    asked = found["targets"] == found["targets"]
    wrong = int(((found["answers"] > 0.5) != (found["targets"] > 0.5))[asked].sum())
    shown = [
        f"the longest test sequence: {len(found['heard'])} steps, {wrong} of {int(asked.sum())} bits answered wrongly",
        f"largest write weight, on average, before an answer is asked for: {told['sharpness']:.2f}",
        f"steps that move a head as most do: {told['write_stride']:.0%} writing, {told['read_stride']:.0%} reading",
        f"steps that read the places written, in their order: {told['agreement']:.0%}",
    ]
    picture, kept = run.path / "memory.png", run.path / "arrays" / "memory.npz"
    record = {"mechanism": told, "steps": len(found["heard"]), "wrong_bits": wrong, "picture": picture, "arrays": kept}
    return Answer(record, [*shown, f"{picture} shows inputs, adds, reads, outputs and weightings over time"])


#: What is told of a memory layer; the images of its slots are for the report.
_SEEN = ("preference", "usage", "entropy", "knockout")


def _worth(knockout: Any) -> list[str]:
    if knockout is None:
        return []
    most = sorted(range(len(knockout)), key=lambda s: -knockout[s][0])[:3]
    said = ", ".join(f"slot {s} {knockout[s][0]:.2f} +- {knockout[s][1]:.2f}" for s in most)
    return [f"test log-likelihood lost when silenced: {said}", ""]
