"""The verbs that read texts by a run: `reverie topics`, `reverie retrieve` and `reverie ask`."""

from __future__ import annotations

import sys
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
    for number, ways in enumerate(found.get("queries", ()), 1):
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


def ask(
    folder: Folder,
    /,
    *,
    question: Annotated[str | None, Parameter(metavar="TEXT", help="To be answered [default: typed in turn].")] = None,
    story: Annotated[
        Path | None,
        Parameter(
            metavar="FILE", help="Sentences, one a line; - through a pipe [default: typed].", allow_leading_hyphen=True
        ),
    ] = None,
    top: Annotated[int, Parameter(help="How many answers.")] = 3,
) -> Answer:
    """Answer a question about a story: the likeliest answers, and the sentences that each hop attended to.

    Without --question, sentences are typed line by line; a line that ends in ? is answered, an empty line begins a new
    story, and the end of the input (Ctrl-D) ends it.

    Example: reverie ask runs/memn2n-babi-1-1 --story story.txt
    """
    from reverie import questioning
    from reverie.data.stories import text_of

    pipe = story == Path("-")
    if story is not None and not pipe and not story.is_file():
        raise ReverieError(f"story: {story} is no file; give one with a sentence a line")
    run = load(folder)
    questioning.ready(run)
    if pipe and question is None:
        raise ReverieError("story: - is read to its end and leaves nothing to type a question by; give --question")
    told = [] if story is None else questioning.sentences(sys.stdin.read() if pipe else text_of(story))
    if question is not None:
        found = run.ask(told, question, top=top)
        return Answer(found, _answered(found))
    if top < 1:
        raise ReverieError(f"top: {top} is no number of answers; give 1 or more")
    every: list[dict[str, Any]] = []
    for line in questioning.lines():
        if not line:
            told = []
        elif not line.endswith("?"):
            told += questioning.sentences(line)
        else:
            every.append(_asked(run, told, line, top))
            # Answered as it is asked (on stderr with --json, which comes at the end).
            Answer(every[-1], _answered(every[-1])).print(False)
    return Answer({"questions": every})


def _asked(run: Any, told: Sequence[str], question: str, top: int) -> dict[str, Any]:
    """Return the answer to a question that was typed, or why there is none: the story goes on."""
    try:
        return run.ask(told, question, top=top)
    except ReverieError as error:
        return {"question": question, "error": str(error)}


def _answered(found: Mapping[str, Any]) -> list[Any]:
    if "error" in found:
        return [found["error"]]
    answers = ", ".join(f"{one['answer']} ({one['probability']:.3f})" for one in found["answers"])
    rows = [[one["sentence"], *(f"{p:.2f}" for p in one["hops"])] for one in found["story"]]
    rows += [["(nothing)", *(f"{p:.2f}" for p in found["nothing"])]]
    hops = [f"hop {k}" for k in range(1, 1 + len(found["nothing"]))]
    shown = [console.table(["sentence", *hops], rows, right=tuple(range(1, 1 + len(hops))))]
    return [answers, *shown, *([found["note"]] if found["note"] else [])]
