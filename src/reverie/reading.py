"""`reverie topics RUN` and `reverie retrieve RUN`: what the hidden units of a model of word counts say, and what for.

What was found of a run is kept in its folder (``topics.json``, ``arrays/retrieval.npz``), where the report finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie import asking
from reverie import data as data_floor
from reverie.data import text
from reverie.data.dataset import Dataset, Rows
from reverie.data.like import titles
from reverie.data.splits import RANDOM, divide
from reverie.errors import ReverieError, an
from reverie.estimate import Estimate
from reverie.evaluate import retrieval, tasks
from reverie.evaluate import topics as speaking
from reverie.evaluate.measure import gather, view
from reverie.files import is_of, read_json, to_json, write_atomic
from reverie.prob.abilities import Encodes, OfWords
from reverie.progress import Progress, Quiet
from reverie.trained import Trained

TOPICS = "topics.json"
#: Documents that an average over queries, and a mean activity, is taken over at most.
_QUERIES, _LIBRARY = 5000, 50_000


def experts(run: Trained) -> speaking.Experts:
    """Return the run's units as a product of experts over words.

    Raises:
        ReverieError: for a model that is none.
    """
    model = run.model
    if not isinstance(model, OfWords):
        also = ", `reverie encode` gives its codes" if isinstance(model, Encodes) else ""
        raise ReverieError(
            f"topics: {an(run.record['model'])} has no topics of words; train a replicated-softmax{also}"
        )
    weights, biases = np.asarray(model.topic_weights()), np.asarray(model.word_biases())
    words = run.facts.columns or tuple(f"column {k}" for k in range(weights.shape[1]))
    return speaking.Experts(weights, biases, words)


def topics(
    run: Trained,
    words: int = 10,
    *,
    raising: str | None = None,
    compose: Sequence[int] | None = None,
    units: int = 3,
    lda: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the top words of every unit, and what units say together.

    Args:
        words: of each unit, those of the largest weights.
        raising: a word; found are the `units` units that together make it likeliest.
        compose: units that are on together; returned are the likeliest words, and how far each is shifted.
        lda: fit scikit-learn's LDA with as many topics to the training documents, and score it alike (kept).

    Returns:
        ``topics``: records ``unit``, ``words``, ``weights``, ``active`` (mean over test documents) and ``npmi`` (of
        the training documents), the most used units first; ``raise`` and ``compose`` where asked for; ``lda``, an
        `Estimate`, where it is known.

    Raises:
        ReverieError: for a model without topics, an unknown word or unit, or numbers that make no sense.
    """
    made = experts(run)
    if not 1 <= words <= len(made.words):
        raise ReverieError(f"words: {words} is no number of words; give 1 to {len(made.words)}")
    found: dict[str, Any] = {"topics": _topics(run, made, words)}
    if raising is not None:
        found["raise"] = speaking.raised(made, raising, units)
    if compose is not None:
        found["compose"] = {"units": list(compose), "words": speaking.composed(made, compose, words)}
    beside = _lda(run, lda, progress or Quiet())
    if beside is not None:
        found["lda"] = beside
    keep_topics(run, found["topics"], beside)
    return found


def _topics(run: Trained, made: speaking.Experts, words: int) -> list[dict[str, Any]]:
    tops = made.top(words)
    active = tasks.encode(run.model, run.data.rows("test", 0, _QUERIES)).mean(axis=0, dtype=np.float64)
    npmi = speaking.coherence(np.asarray(run.data.splits["train"].x[:_LIBRARY]), tops)
    return [
        {
            "unit": int(unit),
            "words": [made.words[k] for k in tops[unit]],
            "weights": [float(made.weights[unit, k]) for k in tops[unit]],
            "active": float(active[unit]),
            "npmi": float(npmi[unit]),
        }
        for unit in np.argsort(-active, kind="stable")
    ]


def _lda(run: Trained, asked: bool, progress: Progress) -> Estimate | None:
    """Return what LDA with as many topics reaches on the test documents, fitted if asked for and not yet known."""
    kept = kept_topics(run).get("lda")
    if kept is not None:
        return Estimate.from_json(dict(kept))
    if not asked:
        return None
    train, test = (gather(run.data, split, np.arange(run.data.size(split))) for split in ("train", "test"))
    count = len(np.asarray(run.model.topic_weights()))
    with progress.task(f"LDA with {count} topics beside {run.path.name}", 1) as task:
        found = speaking.lda(train, test, count, seed=int(run.record["seed"]))
        task.update(1)
    return found


def kept_topics(run: Trained) -> Mapping[str, Any]:
    """Return what ``topics.json`` holds of the run's weights; nothing where they are others."""
    record = read_json(run.path / TOPICS) or {}
    # LDA does not depend on the weights.
    return record if is_of(record, run.folder.weights) else {"lda": record.get("lda")}


def keep_topics(run: Trained, found: Sequence[Mapping[str, Any]], lda: Estimate | None) -> None:
    """Write ``topics.json``, from which the report draws."""
    record = {
        "format": 1,
        "weights": run.folder.weights,
        "topics": list(found),
        "lda": None if lda is None else lda.to_json(),
    }
    write_atomic(run.path / TOPICS, to_json(record, indent=1))


def retrieve(
    run: Trained, query: Any = None, *, data: Any = None, top: int = 10, progress: Progress | None = None
) -> dict[str, Any]:
    """Return the documents nearest to a query by the angle of their codes, and how good that is over all queries.

    Args:
        query: a file, texts or rows of counts, or the number (from 0) of a test document; None asks only how good it
            is on average.
        data: the documents that are searched, a name or path; default: the run's training documents.
        top: how many.

    Returns:
        ``queries``: for each query its ``title`` and, as ``documents``, records ``document`` (its number from 0),
        ``title`` (its file or line, where it was read as text; its row of a table), ``cosine``, ``class`` and
        ``words`` (its most frequent), and the same by tf-idf as ``tf_idf``; ``curves`` where documents have classes:
        ``first``, ``precision``, ``recall``, ``tf_idf_precision`` and ``tf_idf_recall``, test documents as queries.

    Raises:
        ReverieError: for a model without codes, rows that are no counts, or numbers that make no sense.
    """
    if not isinstance(run.model, Encodes) or run.facts.likelihood != "counts":
        raise ReverieError(f"retrieve: {an(run.record['model'])} on {run.facts.name} has no codes of documents; "
                           "train a replicated-softmax on word counts")  # fmt: skip
    library, labels = _library(run, data)
    found: dict[str, Any] = {"searched": len(library)}
    if query is not None:
        called = _titles(run, "train") if data is None else _titles_of(data)
        nearest = _nearest(run, _query(run, query), library, labels, called, top)
        number = _number(query)
        asked = _titles_of(query) if number is None else _titles(run, "test")[number : number + 1]
        named = [{"title": title} for title in asked] or [{}] * len(nearest)
        found["queries"] = [{**title, **ways} for title, ways in zip(named, nearest, strict=True)]
    if labels is not None and run.data.labels("test") is not None:
        found["curves"] = _curves(run, library, labels, progress or Quiet(), kept=data is None)
    return found


def _library(run: Trained, data: Any) -> tuple[np.ndarray, np.ndarray | None]:
    if data is None:
        labels = run.data.labels("train")
        size = min(run.data.size("train"), _LIBRARY)
        return gather(run.data, "train", np.arange(size)), None if labels is None else np.asarray(labels)[:size]
    names = {entry.name for entry in data_floor.catalogue()}
    rows = view(run.facts, asking.new_rows(run, data if str(data) in names else Path(str(data))))
    return rows, None


def _titles(run: Trained, split: str) -> list[str]:
    """Return what the documents of one of the run's splits are called; nothing where they have but a number there."""
    asked, data = run.record["data_arguments"], run.facts
    source = str(asked["source"])
    if asked.get("in_folder"):
        return []
    named = _named(source)
    if not named and data.split_rule == RANDOM and not _has_name(source):
        # A place in a split made by chance leads nobody back to the file; the row it was there does.
        total = sum(data.size(each) for each in data.splits if not (data.refit and each == "valid"))
        named = {"all": [f"row {row + 1}" for row in range(total)]}
    if not named:
        return []
    # As `data.load` splits the rows, with the titles in their place.
    splits, *_ = divide({s: Rows(np.asarray(t)[:, None]) for s, t in named.items()}, asked["seed"], source)
    parts = ("train", "valid") if run.facts.refit and split == "train" else (split,)
    return [str(title) for part in parts for title in splits[part].x[:, 0]]


def _titles_of(source: Any) -> list[str]:
    """Return what the documents of a file or folder of texts are called; nothing for anything else."""
    return titles(source) if isinstance(source, str | Path) and not _has_name(str(source)) else []


def _named(source: str) -> Mapping[str, Sequence[str]]:
    path = Path(source).expanduser()
    return text.titles(path) if not _has_name(source) and path.exists() and text.holds_text(path) else {}


def _has_name(source: str) -> bool:
    return any(entry.name == source for entry in data_floor.catalogue())


def _number(query: Any) -> int | None:
    """Return the number of the test document that is asked for, None for documents of one's own."""
    told = isinstance(query, int) or (isinstance(query, str) and query.isdigit() and not Path(query).exists())
    return int(query) if told else None


def _query(run: Trained, query: Any) -> np.ndarray:
    """Return the rows of a query: a test document by its number, or rows or texts of one's own."""
    if (number := _number(query)) is not None:
        size = run.data.size("test")
        if not 0 <= number < size:
            raise ReverieError(f"query: there is no test document {number}; they are 0 to {size - 1}")
        return run.data.rows("test", number, number + 1)
    return view(run.facts, asking.new_rows(run, query))


def _nearest(
    run: Trained, rows: np.ndarray, library: np.ndarray, labels: np.ndarray | None, called: Sequence[str], top: int
) -> list[dict[str, Any]]:
    codes = tasks.encode(run.model, library)
    weighted, asked = retrieval.tf_idf(library, rows)
    ways = {
        "documents": retrieval.nearest(tasks.encode(run.model, rows), codes, top),
        "tf_idf": retrieval.nearest(asked, weighted, top),
    }
    describe = lambda i, c: _described(run.facts, int(i), float(c), library[i], labels, called)  # noqa: E731
    return [
        {name: [describe(i, c) for i, c in zip(order[q], cosine[q], strict=True)]
         for name, (order, cosine) in ways.items()}
        for q in range(len(rows))
    ]  # fmt: skip


def _described(
    data: Dataset, number: int, cosine: float, row: np.ndarray, labels: np.ndarray | None, called: Sequence[str]
) -> dict[str, Any]:
    often = np.argsort(-row, kind="stable")[:5]
    names = data.columns or tuple(map(str, range(len(row))))
    told: dict[str, Any] = {"document": number, "cosine": cosine, "words": [names[k] for k in often if row[k] > 0]}
    if number < len(called):
        told["title"] = called[number]
    if labels is not None and data.class_names:
        told["class"] = data.class_names[int(labels[number])]
    return told


def _curves(
    run: Trained, library: np.ndarray, labels: np.ndarray, progress: Progress, *, kept: bool
) -> dict[str, np.ndarray]:
    size = min(run.data.size("test"), _QUERIES)
    rows, classes = run.data.rows("test", 0, size), np.asarray(run.data.labels("test", 0, size))
    with progress.task(f"retrieval by {run.path.name}", 2) as task:
        codes = (tasks.encode(run.model, rows), tasks.encode(run.model, library))
        mine = retrieval.curve(codes[0], classes, codes[1], labels)
        task.update(1)
        weighted, asked = retrieval.tf_idf(library, rows)
        beside = retrieval.curve(asked, classes, weighted, labels)
        task.update(2)
    found = {
        "first": mine.first, "precision": mine.precision, "recall": mine.recall,
        "tf_idf_precision": beside.precision, "tf_idf_recall": beside.recall,
    }  # fmt: skip
    if kept:
        sizes = np.asarray([size, len(library)])
        run.folder.save_arrays("retrieval", **found, sizes=sizes, weights=np.asarray(str(run.folder.weights)))
    return found
