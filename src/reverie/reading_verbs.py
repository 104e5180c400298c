"""The verbs that read documents by a run: `reverie topics` and `reverie retrieve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from reverie import console, progress
from reverie.console import Answer
from reverie.errors import ReverieError
from reverie.options import Folder, load


def topics(
    folder: Folder,
    /,
    *,
    words: Annotated[int, Parameter(help="Of each unit.")] = 10,
    raise_: Annotated[
        str | None, Parameter(name="--raise", metavar="WORD", help="Which units together make this word likeliest.")
    ] = None,
    units: Annotated[int, Parameter(help="How many units --raise may turn on.")] = 3,
    compose: Annotated[
        str | None, Parameter(metavar="3,7,9", help="Units that are on together: what they say, word by word.")
    ] = None,
    lda: Annotated[bool, Parameter(help="Fit scikit-learn's LDA with as many topics, to be set beside.")] = False,
) -> Answer:
    """Say what the hidden units of a model of word counts are about: their words, alone and multiplied together.

    Example: reverie topics runs/replicated-softmax-20news-1 --raise god
    """
    on = None if compose is None else _units(compose)
    found = load(folder).topics(
        words, raising=raise_, compose=on, units=units, lda=lda, progress=progress.for_stderr()
    )  # fmt: skip
    rows = [[str(t["unit"]), f"{t['active']:.2f}", f"{t['npmi']:.2f}", " ".join(t["words"])] for t in found["topics"]]
    shown: list[Any] = [console.table(["unit", "on", "NPMI", "words"], rows, right=(0, 1, 2))]
    if "raise" in found:
        shown += _raised(found["raise"])
    if "compose" in found:
        shown += _composed(found["compose"])
    if "lda" in found:
        shown.append(f"LDA with {len(found['topics'])} topics: perplexity {found['lda']}")
    return Answer(found, shown)


def _units(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ReverieError(f"compose: {text!r} are not numbers of units; give such as 3,7,9") from None


def _raised(found: Mapping[str, Any]) -> list[Any]:
    rows = [["no unit on", _share(found["without"])]]
    rows += [[f"unit {u} alone", _share(p)] for u, p in zip(found["units"], found["alone"], strict=True)]
    rows += [["their average, as of a mixture", _share(found["mixture"])]]
    rows += [[f"units {', '.join(map(str, found['units']))} together", _share(found["probability"])]]
    return [console.table([f"p({found['word']})", "probability"], rows, right=(1,))]


def _composed(found: Mapping[str, Any]) -> list[Any]:
    head = ["word", "together", "no unit on", *(f"unit {u}" for u in found["units"]), "shift, nats"]
    rows = [
        [w["word"], _share(w["probability"]), _share(w["without"]), *map(_share, w["alone"]), f"{w['shift']:+.2f}"]
        for w in found["words"]
    ]
    return [console.table(head, rows, right=tuple(range(1, len(head))))]


def _share(p: float) -> str:
    return f"{p:.2e}" if p < 1e-3 else f"{p:.4f}"


def retrieve(
    folder: Folder,
    /,
    *,
    query: Annotated[
        str | None, Parameter(metavar="FILE|ROW", help="Documents to look for, or a test document's number from 0.")
    ] = None,
    data: Annotated[
        str | None, Parameter(metavar="NAME|FILE", help="Documents to search [default: the training ones].")
    ] = None,
    top: Annotated[int, Parameter(help="How many.")] = 10,
) -> Answer:
    """Find the documents nearest to a query by their codes, and say how good that is over all test documents.

    Example: reverie retrieve runs/replicated-softmax-20news-1 --query 7
    """
    asked = query if query is None or query.isdigit() else Path(query)
    found = load(folder).retrieve(asked, data=data, top=top, progress=progress.for_stderr())
    shown: list[Any] = []
    for number, ways in enumerate(found.get("queries", ())):
        for name, said in (("documents", "by codes"), ("tf_idf", "by tf-idf")):
            title = f"query {ways.get('title', number)}, {said}"
            shown.append(console.table([title, "cosine", "class", "words"], _rows(ways[name]), right=(0, 1)))
    if "curves" in found:
        shown.append(_curves(found["curves"], found["searched"]))
    if not shown:
        raise ReverieError("query: these documents have no classes to judge by; give --query FILE or a number")
    return Answer(found, shown)


def _rows(documents: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [
        [d.get("title", str(d["document"])), f"{d['cosine']:.3f}", str(d.get("class", "")), " ".join(d["words"])]
        for d in documents
    ]


def _curves(found: Mapping[str, Any], searched: int) -> Any:
    head = [f"first of {searched:,}", "precision", "recall", "tf-idf precision", "tf-idf recall"]
    names = ("precision", "recall", "tf_idf_precision", "tf_idf_recall")
    columns = zip(found["first"], *(found[name] for name in names), strict=True)
    rows = [[f"{r:,}", *(f"{value:.4f}" for value in values)] for r, *values in columns]
    return console.table(head, rows, right=tuple(range(5)))
