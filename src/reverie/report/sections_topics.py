"""The sections on documents: topics as words, perplexity beside unigram and LDA, draws as words, retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.files import is_of, read_json
from reverie.report import blocks, figures
from reverie.report.blocks import Block, Section
from reverie.report.reading import RunView
from reverie.report.style import ACCENT, DASHES, SECOND, blank, drawn

FILE = "topics.json"
#: Drawn documents, and words of each.
_DRAWN, _WORDS = 12, 12


def topics(run: RunView) -> Section | None:
    """Return the units as words and the perplexities, None where nothing is known of the run's weights."""
    record = _known(run)
    if record is None:
        return None
    lead = "Each hidden unit is an expert that multiplies the odds of words. The most used ones first."
    section = Section("topics", "Topics", lead)
    section.add(_perplexities(run, record))
    rows = [
        [str(t["unit"]), blocks.data(t["active"]), blocks.data(t["npmi"]), ", ".join(t["words"])]
        for t in record["topics"]
    ]
    caption = (
        "Words of the largest weights. On: mean activity over test documents. NPMI: how much a unit's words keep "
        "company in training documents, from -1 (never) over 0 (by chance) to 1."
    )
    section.add(blocks.table(["unit", "on", "NPMI", "words"], rows, caption, numeric=(0, 1, 2)))
    return section


def _known(run: RunView) -> Mapping[str, Any] | None:
    record = read_json(run.path / FILE)
    if record is None or not is_of(record, run.folder.weights):
        return None
    if not isinstance(record.get("topics"), list):
        raise ReverieError(f"{run.path / FILE}: damaged, it has no topics; delete it and run `reverie topics` again")
    return record


def _perplexities(run: RunView, record: Mapping[str, Any]) -> Block | None:
    found = [n for n in run.numbers if n.metric in ("perplexity", "unigram_perplexity") and n.split == "test"]
    if not found:
        return None
    names = {"perplexity": f"this model, {len(record['topics'])} units", "unigram_perplexity": "unigram"}
    rows = [_row(names[n.metric], n.record) for n in found]
    said = "Of a word, in documents of the test split; documents count alike. Smaller is better. "
    if record.get("lda"):
        rows.append(_row(f"LDA, {len(record['topics'])} topics", Estimate.from_json(record["lda"])))
        said += "LDA's comes from a variational bound of the same words, so that the true one may be smaller."
    else:
        said += f"`reverie topics {run.place} --lda` sets LDA beside."
    return blocks.table(["perplexity", "value ± standard error", "kind", "estimator", "documents"], rows, said,
                        numeric=(1, 4))  # fmt: skip


def _row(name: str, record: Estimate) -> list[Any]:
    kind = record.kind.replace("_", " ")
    return [name, blocks.estimate_cell(record), kind, record.estimator, f"{record.n:,}"]


def documents(run: RunView) -> Section | None:
    """Return draws of the model as words."""
    arrays = run.arrays("samples")
    if run.data.get("likelihood") != "counts" or "samples" not in arrays:
        return None
    names = run.data.get("columns") or [f"column {k}" for k in range(arrays["samples"].shape[1])]
    rows = [[f"{int(x.sum()):,}", _listed(x, names)] for x in arrays["samples"][:_DRAWN]]
    section = Section("samples", "Samples", "Documents that chains of the model drew, of lengths as in training.")
    section.add(blocks.table(["words", "the most frequent, and how often"], rows, numeric=(0,)))
    return section


def _listed(counts: np.ndarray, names: Sequence[str]) -> str:
    often = [k for k in np.argsort(-counts, kind="stable")[:_WORDS].tolist() if counts[k] > 0]
    return ", ".join(names[k] if counts[k] == 1 else f"{names[k]} {counts[k]:.0f}" for k in often)


def retrieval(run: RunView) -> Section | None:
    """Return precision against recall of the codes, beside the words themselves."""
    arrays = run.arrays("retrieval")
    if "precision" not in arrays or not is_of({"weights": str(arrays.get("weights"))}, run.folder.weights):
        return None
    queries, searched = arrays["sizes"].tolist()
    lead = (
        f"The documents nearest to each of {queries:,} test documents among {searched:,} training documents; relevant "
        "are those of its class."
    )
    section = Section("retrieval", "Retrieval", lead)
    alt = f"Precision against recall: {arrays['precision'][0]:.3f} at the first document"
    caption = "After the first 1, 2, 4, ... documents, averaged over queries. Codes: p(h | n); both by cosine."
    names = ("precision", "recall", "tf_idf_precision", "tf_idf_recall")
    rows = [
        [f"{first:,}", *(blocks.data(value, 4) for value in values)]
        for first, *values in zip(arrays["first"].tolist(), *(arrays[name] for name in names), strict=True)
    ]
    head = ["first", "precision", "recall", "tf-idf precision", "tf-idf recall"]
    section.add(blocks.figure(precision_recall(arrays), alt, caption))
    section.add(blocks.table(head, rows, numeric=tuple(range(5))))
    return section


@drawn
def precision_recall(arrays: Mapping[str, np.ndarray]) -> Figure:
    """Draw precision against recall on a logarithmic axis, as a few documents are what a reader looks at."""
    figure, axes = blank(480, 260)
    for start, name, colour, dash in (("", "codes", ACCENT, DASHES[0]), ("tf_idf_", "tf-idf", SECOND, DASHES[1])):
        recall, precision = arrays[f"{start}recall"], arrays[f"{start}precision"]
        axes.plot(recall, precision, color=colour, linestyle=dash, marker="o", markersize=3.5, label=name)
    axes.set_xscale("log")
    # The axis' own formatter writes powers as formulas, which figures here do not set.
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set(xlabel="recall", ylabel="precision")
    axes.set_ylim(bottom=0)
    figures.legend_above(axes)
    return figure
