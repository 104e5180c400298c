"""`reverie classify RUN`: the run's stack as a feed-forward network, fine-tuned to tell classes, beside baselines.

The network is an ordinary run in the folder RUN/classifier, resumed as any other.  What each method reached is kept in
RUN/classification.json as soon as it is known, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie import asking, models, run_data, training
from reverie import data as data_floor
from reverie.class_table import Question, gone_on_with, keep, keep_pictures, read
from reverie.data import own
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError, an
from reverie.evaluate import baselines as methods
from reverie.evaluate import classification
from reverie.prob.abilities import Augments, Stacks
from reverie.prob.contracts import Judged
from reverie.progress import Progress, Quiet
from reverie.train import checkpoint
from reverie.train.folder import RunFolder
from reverie.train.signals import Stop
from reverie.trained import Trained

MODEL = "classifier"
#: Epochs in which the label layer learns alone, as a share of all and at most (Salakhutdinov & Hinton 2009: 5).
_ALONE, _MOST_ALONE = 0.1, 5.0
#: The least steps of a training whose length was not asked for: few rows are soon passed.
_STEPS = 6000


@dataclass(frozen=True)
class Origin:
    """Initial weights from a run's stack, as `training.start` asks for them."""

    run: Trained

    def going_on(self, model: Any, recipe: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Return the classifier on the stack, no optimiser states, and where the weights came from."""
        meta = checkpoint.peek(self.run.path) or {}
        origin = {"run": self.run.path.name, "model": self.run.record["model"], "step": meta.get("total_step"),
                  "sha256": meta.get("sha256"), "optimiser": False}  # fmt: skip
        return model.on(self.run.model), None, origin


def classify(
    run: Trained,
    *,
    data: Any = None,
    binarisation: str = "means",
    epochs: float | None = None,
    seed: int = 0,
    seeds: int | None = None,
    labels: int | None = None,
    from_scratch: bool = False,
    refit: bool = False,
    baselines: str = "all",
    minutes: float | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Fine-tune the run's stack of features to tell the classes of rows apart, and set it beside baselines.

    The same call goes on where it was stopped.  Of a run that is a classifier already nothing is trained.

    Args:
        data: labelled rows, a name, a path or arrays, of the run's columns; default: the run's own.
        binarisation: ``means`` gives grey pixels as they are, ``dynamic`` draws them afresh at every visit.
        epochs: passes over the labelled training rows [default: 30, and 6,000 steps at least].
        seed: of the fine-tuning.
        seeds: fine-tune so many times, with seeds `seed`, `seed` + 1, ...
        labels: learn from so many labelled rows alone, as many of each class; the baselines too.
        from_scratch: start from random weights: the control.
        refit: learn from the validation rows, too, once all is chosen; the baselines choose first and are fitted again.
        baselines: ``all``, ``none``, or names with commas between: logistic, knn, svm, mlp, features.
        minutes: past which the training stops, saved.
        settings: of the classifier, such as ``rate`` and ``dropout``.

    Returns:
        ``data``, ``labels``, ``results`` (a record a method: ``method``, ``title``, ``test``, ``low``, ``high``,
        ``seconds``, ..., and ``kept``, whether it was not asked for now but is known from before) and ``runs``, the
        folders of the classifiers.

    Raises:
        ReverieError: for a run without a stack, rows without classes, or arguments that make no sense.
        Interrupted: when asked to stop; what is done is kept.
    """
    wanted = methods.names(baselines)
    numbers = [seed] if seeds is None else [seed + i for i in range(_positive("seeds", seeds))]
    question = asked(run, data, binarisation, labels, refit)
    ready = isinstance(run.model, Judged) and run.model.supervised
    if ready and (from_scratch or settings or epochs is not None or seeds is not None):
        raise ReverieError(f"classify: {run.path} is a classifier already; train another with `reverie train {MODEL}`")
    nets, done = [], set(wanted)
    again = {"data": data, "binarisation": binarisation if binarisation != "means" else None, "epochs": epochs,
             "seed": seed or None, "seeds": seeds, "labels": labels, "from_scratch": from_scratch, "refit": refit,
             "baselines": baselines if baselines != "all" else None, "device": device, **settings}  # fmt: skip
    for number in [seed] if ready else numbers:
        with gone_on_with(run, again):
            net = run if ready else fine_tune(
                question, number, epochs, from_scratch, settings, minutes=minutes, device=device, progress=progress
            )  # fmt: skip
        nets.append(net)
        name = _net_name(from_scratch, ready, number)
        done.add(name)
        keep(question, name, told(question, net, from_scratch, ready, number))
    if not from_scratch:
        keep_pictures(question, nets[0])
    beside(question, wanted, progress or Quiet())
    found = read(question)
    results = [{**one, "kept": one["method"] not in done} for one in found["results"]]
    return {**found, "results": results, "runs": [str(net.path) for net in nets]}


def asked(run: Trained, data: Any, binarisation: str, labels: int | None, refit: bool = False) -> Question:
    """Return the question, insisting that the run has a stack and the rows have classes.

    Raises:
        ReverieError: in one line.
    """
    model = run.model
    if not isinstance(model, Stacks):
        able = ", ".join(name for name in models.discover() if "classify" in models.capabilities(name))
        raise ReverieError(
            f"classify: {an(run.record['model'])} has no stack of features to start from; give a run of {able}"
        )
    dataset, arguments = labelled_rows(run, data, binarisation)
    if (refit or dataset.refit) and labels is not None:
        # They would be drawn from validation rows, too, and baselines would choose on what they have learnt.
        whose = "" if refit else f" ({run.path} was trained with --refit)"
        raise ReverieError(f"refit, labels: a few labelled rows leave others to choose by; give one of them{whose}")
    if refit:
        dataset, arguments = dataset.joined(), {**arguments, "refit": True}
    if labels is not None:
        _positive("labels", labels)
        # Refused before anything is trained.
        classification.balanced(np.asarray(dataset.labels("train")), labels)
    return Question(run, dataset, arguments, labels, data is not None)


def labelled_rows(run: Trained, data: Any, binarisation: str) -> tuple[Dataset, dict[str, Any]]:
    """Return labelled rows in the units of the run's model, and the arguments that read them again.

    Raises:
        ReverieError: without classes, with missing cells, or of another width than the run's rows.
    """
    theirs = dict(run.record["data_arguments"])
    law = run.record["data"]["likelihood"]
    if data is not None:
        arguments = {"binarisation": binarisation, "split_rule": None, "likelihood": law, "seed": 0}
        # They have the columns that were left out of training, or not.
        drop = own.held(data, theirs.get("drop", ()))
        arguments |= {"drop": drop} if drop else {}
        dataset = data_floor.load(data, **arguments)
        dataset, arguments = _fitting(run, dataset), {**arguments, "source": str(data)}
    elif theirs.get("in_folder"):
        arguments = {**theirs, "source": f"../{theirs['source']}", "binarisation": binarisation}
        # Rows that were drawn once are kept as they were drawn.
        drawn = run.data.binarisation in ("sampled-fixed", "as-is") or run.data.likelihood != "bernoulli"
        dataset = run.data if drawn else dataclasses.replace(run.data, binarisation=binarisation)  # type: ignore[arg-type]
    else:
        arguments = {**theirs, "binarisation": binarisation, "likelihood": law}
        how = {name: value for name, value in arguments.items() if name != "source"}
        dataset = data_floor.load(theirs["source"], **how)
    if not dataset.classes or any(dataset.labels(split) is None for split in ("train", "valid", "test")):
        raise ReverieError(
            f"{dataset.name}: has no classes to be told apart; give labelled rows of the same columns with --data"
        )
    if dataset.missing and not dataset.whole:
        raise ReverieError(f"{dataset.name}: a classifier takes no missing cells; fill them in with `reverie impute`")
    return dataset, arguments


def _fitting(run: Trained, dataset: Dataset) -> Dataset:
    """Return other rows on the scale of the run's, insisting on their columns."""
    facts = run.facts
    if dataset.width != facts.width:
        raise ReverieError(f"data: {dataset.name} has rows of {dataset.width} columns, the run's have {facts.width}")
    if dataset.likelihood == "gaussian":
        return dataclasses.replace(dataset, shift=facts.shift, scale=facts.scale)
    return dataset


def fine_tune(
    question: Question,
    seed: int,
    epochs: float | None,
    from_scratch: bool,
    settings: dict[str, Any],
    *,
    minutes: float | None,
    device: str | None,
    progress: Progress | None,
) -> Trained:
    """Return the trained classifier of one seed: begun, gone on with, or as it is.

    Raises:
        ReverieError: where its folder holds one of other settings, other data or an older state of the run.
    """
    data, run = question.data, question.run
    plan = _plan(question, seed, epochs, from_scratch, settings)
    folder = RunFolder(run.path / _place(question, from_scratch, seed))
    origin = None if from_scratch else Origin(run)
    if folder.has_checkpoint:
        found = Trained(folder, data=data)
        _same(found, plan, origin, data)
        training.go_on(plan, data, folder, minutes=minutes, device=device, progress=progress)
        return Trained(folder, data=data)
    model, recipe = plan.build(data)
    if origin is not None:
        origin.going_on(model, recipe)
    place = RunFolder.create(MODEL, data.name, path=folder.path)
    arguments = dict(question.arguments)
    if question.other:
        # Kept beside: their scale is the run's, which their file does not know.
        arguments |= {"source": run_data.keep_arrays(place, data), "in_folder": True}
    training.start(
        plan, data, place, arguments, minutes=minutes, init_from=origin, device=device, progress=progress
    )  # fmt: skip
    return Trained(place, data=data)


def _plan(
    question: Question, seed: int, epochs: float | None, from_scratch: bool, settings: dict[str, Any]
) -> training.Plan:
    """Return the plan of the classifier: of the stack's widths, its label layer alone at first."""
    rows, labels = question.data.size("train"), question.labels
    module = models.load_module(MODEL)
    length = float(module.PRESETS["fast"]["epochs"] if epochs is None else epochs)
    learnt = rows if labels is None else labels
    batch = int(settings.get("batch", 100 if labels is None else min(100, labels)))
    batch = min(batch, rows)
    # Told in passes over the rows that are learnt from, planned in those over all.
    length *= learnt / rows
    if epochs is None:
        length = max(length, _STEPS * batch / rows)
    own: dict[str, Any] = {"hidden": question.hidden, "batch": batch, "labels": labels, "labels_seed": question.seed}
    own["units"] = getattr(question.run.model, "activation", "sigmoid")
    if not from_scratch:
        augmented = isinstance(question.run.model, Augments) and len(question.hidden) > 1
        own |= {"augmented": augmented, "warmup": min(_ALONE * length, _MOST_ALONE)}
    given = {**own, **{name: value for name, value in settings.items() if value is not None}}
    return training.resolve(MODEL, given, epochs=length, seed=seed, rows=rows)


def _same(found: Trained, plan: training.Plan, origin: Origin | None, data: Dataset) -> None:
    if differ := training.differences(found.record, plan, data.hash):
        raise ReverieError(
            f"{found.path}: was made with another {', '.join(differ)}; give the same command as before, or remove "
            "that folder"
        )
    now = None if origin is None else origin.run.folder.weights
    then = (found.record.get("init_from") or {}).get("sha256")
    if now != then:
        raise ReverieError(f"{found.path}: began at other weights than the run has now; remove that folder")


def _place(question: Question, from_scratch: bool, seed: int) -> str:
    """Return the folder's name of a classifier within the run's."""
    how = question.data.binarisation
    parts = [
        MODEL, *(["from-scratch"] if from_scratch else []), *([question.data.name] if question.other else []),
        *([] if question.labels is None else [f"{question.labels}-labels"]),
        *([how] if how not in ("means", "as-is") else []), *(["refit"] if question.refitted else []),
        *([f"seed-{seed}"] if seed else []),
    ]  # fmt: skip
    return re.sub(r"[^\w.]+", "-", "-".join(parts))


def _net_name(from_scratch: bool, ready: bool, seed: int) -> str:
    return ("classifier" if ready else "from-scratch" if from_scratch else "fine-tuned") + f"/seed-{seed}"


def told(question: Question, net: Trained, from_scratch: bool, ready: bool, seed: int) -> dict[str, Any]:
    """Return the record of a trained classifier on the test rows, computed and kept with its run."""
    net.data = question.data
    found = asking.evaluate(net, "test")
    error = found["classification_error"]
    low, high = classification.wilson(round(error.value * error.n), error.n)
    title = "this network" if ready else "same network, random weights" if from_scratch else "fine-tuned stack"
    seconds = sum(float(part.get("seconds") or 0.0) for part in net.record["segments"])
    valid = max((line["valid"]["value"] for line in net.journal() if line.get("valid")), default=None)
    return {
        "title": title, "test": error, "cross_entropy": found["cross_entropy"], "low": low, "high": high,
        "valid": None if valid is None else 1.0 - valid, "seconds": round(seconds, 2), "seed": seed,
        "fitted_rows": len(question.labelled), "run": str(net.path),
        "chosen": "-".join(str(b.size) for b in net.model.biases),
    }  # fmt: skip


def beside(question: Question, wanted: tuple[str, ...], progress: Progress) -> None:
    """Fit the baselines that are wanted and not known yet, each kept as soon as it is done.

    Raises:
        Interrupted: when asked to stop, between two fits of a method.
    """
    known = read(question, plain=True)["results"]
    missing = [name for name in wanted if name not in known or known[name]["mark"] != question.mark]
    problem = None
    for number, name in enumerate(missing, 1):
        said = f"classify: stopped at {name}; the methods done are kept, the same command goes on"
        with (
            Stop() as stop,
            progress.task(f"{methods.METHODS[name][0]} ({number} of {len(missing)})", methods.PARTS) as task,
        ):
            watch = asking.until_stopped(task, stop, said)
            problem = question.problem(watch) if problem is None else dataclasses.replace(problem, watch=watch)
            if name == "features" and problem.codes is None:
                continue
            keep(question, name, methods.run(name, problem))
            watch(methods.PARTS)


def _positive(name: str, number: int) -> int:
    if number < 1:
        raise ReverieError(f"{name}: {number} is too few; give 1 or more")
    return number
