"""What is to be told apart and by whom, and what each method reached: RUN/classification.json, arrays of the report."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.dataset import Dataset
from reverie.errors import Interrupted
from reverie.estimate import Estimate
from reverie.evaluate import baselines as methods
from reverie.evaluate import classification, tasks
from reverie.files import read_json, to_json, write_atomic
from reverie.prob.abilities import Encodes
from reverie.prob.contracts import Judged
from reverie.showing import display
from reverie.trained import Trained

FILE, FORMAT = "classification.json", 1
#: Mistakes that are kept as pictures.
_MISTAKES = 12


@dataclass(frozen=True)
class Question:
    """What is to be told apart, and by whom.

    Attributes:
        run: whose stack it is.
        data: labelled rows, and `arguments` that read them again.
        labels: so many training rows are labelled, None for all.
        other: whether the rows are not the run's own.
        seed: of which rows are labelled, and of the baselines.
    """

    run: Trained
    data: Dataset
    arguments: dict[str, Any]
    labels: int | None = None
    other: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        """What the results are kept under."""
        own = [self.data.name, *([] if self.labels is None else [f"labels-{self.labels}"])]
        how = self.data.binarisation
        more = [*([how] if how not in ("means", "as-is") else []), *(["refit"] if self.refitted else [])]
        return "/".join([*own, *more])

    @property
    def refitted(self) -> bool:
        """Whether the validation rows are learnt from though the run left them out."""
        return self.data.refit and (self.other or not self.run.facts.refit)

    @property
    def mark(self) -> str:
        """A hash of what the methods are given."""
        parts = f"{self.data.hash} {self.data.binarisation} {self.labels} {self.seed}"
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    @property
    def hidden(self) -> tuple[int, ...]:
        return tuple(int(bias.size) for _, bias in self.run.model.feed_forward())

    @cached_property
    def labelled(self) -> np.ndarray:
        """The training rows that are labelled."""
        y = np.asarray(self.data.labels("train"))
        return np.arange(len(y)) if self.labels is None else classification.balanced(y, self.labels, self.seed)

    def problem(self, watch: methods.Watch) -> methods.Problem:
        """Return the rows as the baselines are given them."""
        x, y = labelled_rows(self.data, self.labelled)
        model = self.run.model

        def codes() -> dict[str, np.ndarray]:
            return {split: tasks.encode(model, rows) for split, rows in x.items()}

        able = isinstance(model, Encodes) and not (isinstance(model, Judged) and model.supervised)
        return methods.Problem(x, y, self.hidden, self.seed, codes if able else None, watch, self.data.refit)


def labelled_rows(data: Dataset, chosen: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return rows and classes of each split as baselines are given them, of training rows those chosen."""
    x = {split: np.nan_to_num(data.rows(split)) for split in ("train", "valid", "test")}
    y = {split: np.asarray(data.labels(split)) for split in x}
    if data.refit:
        # Methods choose on rows that they have not seen, and are fitted to all of them afterwards.
        chosen = chosen[: len(y["train"]) - len(y["valid"])]
    x["train"], y["train"] = x["train"][chosen], y["train"][chosen]
    return x, y


def keep(question: Question, method: str, record: dict[str, Any]) -> None:
    """Put one method's record into the run's classification.json."""
    path = question.run.path / FILE
    whole = read_json(path, FORMAT) or {"format": FORMAT, "tables": {}}
    data = question.data
    table = whole["tables"].setdefault(question.name, {"results": {}})
    table |= {
        "data": data.name, "hash": data.hash, "binarisation": data.binarisation, "labels": question.labels,
        "rows": {split: data.size(split) for split in ("train", "valid", "test")},
        "class_names": list(data.class_names or ()),
    }  # fmt: skip
    record["test"] = dataclasses.replace(record["test"], data_hash=data.hash, binarisation=data.binarisation)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    table["results"][method] = {**record, "mark": question.mark, "when": when}
    write_atomic(path, to_json(whole, indent=1))


def read(question: Question, plain: bool = False) -> dict[str, Any]:
    """Return what is known of a question: its table, with the results as records that name their method.

    Args:
        plain: as the file has it.
    """
    whole = read_json(question.run.path / FILE, FORMAT) or {"tables": {}}
    table = whole["tables"].get(question.name) or {"results": {}}
    if plain:
        return table
    results = [
        {"method": name, **{k: v for k, v in one.items() if k != "mark"}, "test": Estimate.from_json(one["test"])}
        for name, one in table["results"].items()
        if one["mark"] == question.mark
    ]
    return {**table, "results": results}


def keep_pictures(question: Question, net: Trained) -> None:
    """Keep who was taken for whom, and the surest mistakes, for the report."""
    data = question.data
    rows, truth = data.rows("test"), np.asarray(data.labels("test"))
    p = classification.probabilities(net.model, rows)
    said = p.argmax(axis=1)
    wrong = np.flatnonzero(said != truth)
    worst = wrong[np.argsort(-p[wrong, said[wrong]], kind="stable")][:_MISTAKES]
    question.run.folder.save_arrays(
        "classification",
        table=np.asarray(question.name),
        confusion=classification.confusion(truth, said, data.classes),
        mistakes=display(net, rows[worst]),
        truth=truth[worst],
        said=said[worst],
        sure=p[worst, said[worst]],
    )


@contextlib.contextmanager
def gone_on_with(run: Trained, again: Mapping[str, Any]) -> Iterator[None]:
    """Have a training that is stopped name the command that goes on with all that was asked, not with it alone."""
    try:
        yield
    except Interrupted as stopped:
        where, _, _ = str(stopped).partition("; go on with")
        raise Interrupted(f"{where}; go on with: {_command(run, again)}", run=stopped.run) from None


def _command(run: Trained, again: Mapping[str, Any]) -> str:
    """Return the command line of a call."""
    words = ["reverie", "classify", str(run.path)]
    for name, value in again.items():
        flag = f"--{name.replace('_', '-')}"
        if value is not None and value is not False:
            # Rows that came as arrays have no name to be given again.
            own = "ROWS" if name == "data" and not isinstance(value, str | Path) else value
            words += [flag] if value is True else [flag, f"{own:g}" if isinstance(own, float) else str(own)]
    return shlex.join(words)
