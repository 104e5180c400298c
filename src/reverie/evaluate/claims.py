"""What papers report, as data: a model's file holds its `CLAIMS`, the only home of a published number.

Those of no model of the house are in `evaluate.modelless`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from reverie.estimate import Kind

#: Metrics that are shares, printed per cent, and of which less is better: these, and those of one task of several.
_SHARES = ("classification_error", "error_rate")
#: What rows of published prior draws are judged by: their number is not stated, ours is what a core scores in minutes.
PRIOR_DRAWS: Mapping[str, Any] = {"estimator": "prior", "samples": 1_000_000}
#: Footnotes of the tables, by the name that claims give in `notes`: where sources contradict themselves or each other,
#: and what makes two numbers of a table another thing than they look.  No figure stands here that nobody has read.
NOTES: Mapping[str, str] = {
    "ocr-size": "The deck says 42,152 letters; there are 52,152, of which 42,152 are those to train and choose on. "
    "Ours are shuffled, where nearest neighbours and logistic regression agree with the deck's; in the file's order, "
    "whose test letters are of other writers, both are three points worse.",
    "norb-size": "The deck says 24,000 pairs to train on; there are 24,300.",
    "norb-copied": "18.92 % stands for OCR letters and for NORB, digit for digit; one of them looks copied.",
    "norb-best": "The deck's 9.0 % is not that paper's best: its abstract says 6.5 %, and 5.2 % with unlabelled pairs. "
    "So this column does not show that DBMs beat DBNs; and the DBM is said to have had unlabelled, moved pairs too.",
    "dbn-attribution": "Attributed to Hinton et al. 2006, but fine-tuned by backpropagation, which is Hinton & "
    "Salakhutdinov 2006; a slide of Hinton's says 1.15 %.",
    "net-attribution": "The deck says Platt 2005; whose network this was is not clear.",
    "misdated": "Salakhutdinov & Murray, whom the deck cites for Gaussian machines, anneal binary ones; the deck's "
    "Robbins & Monro 1957 is 1951.",
    "with-labels": "The released code gives the machine the labels while it learns, and doubles weights as it is "
    "pretrained; the published bound is said to be of a machine without labels. Ours never sees them while it learns.",
    "log-z-scale": "log Z is not comparable across programs (356.18 and 1040.39 for much the same machine); "
    "log-probabilities are.",
    "batches": "The text released with the fine-tuning speaks of 60 batches of 1,000; the arrays hold 10,000.",
    "grown": "CD-25 means sweeps that grow to 25, one more every ten epochs.",
    "one-sided": "Annealed from one side; the same program's reverse annealing of the same weights says -96.61.",
    "threshold": "Thresholded pixels: such rows score better than drawn ones and compare with no other row.",
    "bound-and-point": "The DBM's number is a bound and the RBM's a point estimate, both with errors of annealing of a "
    "tenth to half a nat, and on test rows that were not binarised alike: their order is no finding.",
    "windows": "Windows around draws rank models badly: the training rows themselves score lower than centres of "
    "k-means of them, and a model that misses modes is not found out.",
    "gan-million": "The deck on the generative auto encoder prints 300.331 for this row: Wu et al.'s figure for "
    "another GAN, from a million draws and 1,000 test rows, beside others' from 10,000 draws.",
    "prior-draws": "By draws from the prior, whose number the slides do not state (ours: a million, the same for every "
    "row): a loose bound that mostly tells how few of the draws hit a code, comparable with no importance-sampled "
    "number; ours by importance sampling stands beside. Which of the last two numbers is whose is inferred.",
    "gae-windows": "The slides choose bandwidth and pixels in a way of their own: their VAE of faces stands 400 nats "
    "above every other published one, so that only rows of the same slides compare.",
    "unread": "What papers print of this row was not read at a source, so none stands here.",
    "babi-alone": "One network for each task; rows that are joint are one network for all.",
    "no-figure": "No table may be without this row; figures that papers quote for it were not read at their source.",
    "binarisations": "Of the fixed binarisation of MNIST, other rows of pixels drawn afresh, which score about two "
    "nats better: rows of one kind compare with each other alone. Letters are binary as they are.",
    "fixed-as-drawn": "Published for the fixed binarisation; ours learnt from pixels drawn afresh and is judged on "
    "rows drawn once.",
    "tfd-transposed": "The deck on the generative auto encoder prints 2294 in this cell; the paper says 2204.",
    "parzen": "Likelihoods of Parzen windows fitted to samples, as some tables have them for DBNs (138 on MNIST), are "
    "not likelihoods of the model.",
}


def is_share(metric: object) -> bool:
    """Say whether a metric is a share of rows that is wrong."""
    return isinstance(metric, str) and metric.startswith(_SHARES)


@dataclass(frozen=True)
class Paper:
    """Where a model comes from."""

    title: str
    authors: str
    year: int
    venue: str
    bibtex: str


@dataclass(frozen=True)
class Claim:
    """One published number, or a row that a table needs beside them, and what it takes to reproduce it.

    Attributes:
        table, row, column: where it stands in `reverie table`.
        published: the number, in `metric`'s own sign (log-likelihoods are negative); None where none was read.
            Shares such as a classification error are fractions, printed per cent.
        source: how it was read, None with no number: ``deck`` (printed on a slide), ``code`` (the authors' repository),
            ``text``, or ``quoted``, at second hand: another source says that the paper says so.
        data, split_rule, binarisation: the paper's protocol.
        settings: arguments of the model's recipe that make this row.
        epochs: the paper's own number of epochs; None where it is not known, or nothing learns by epochs.
        evaluation: arguments of `evaluate` under the paper's protocol; of `classify` for a classification error of a
            stack, and ``labels`` and ``seed`` for one of a baseline.
        budgets: per budget (``smoke``, ``cpu``, ``paper``) what overrides `settings`, with ``epochs``,
            ``evaluation`` and ``binarisation``.
        beside: other published values of the row, such as active units.
        init_from: the row of the same table whose weights are gone on from (the swap experiment).
        kind: what the published number is, where it is said: a bound, an estimate, exact.
        baseline: what makes the row in place of a model: a method of `evaluate.baselines`, or rows that no model made
            (`evaluate.parzen.SANITY`).
        run_of: (table, row), of the same column, or (table, row, column) of the claim whose run this row judges too.
        mean_of: (table, column) of the claims whose numbers this row is the mean of.
        notes: names of footnotes (`NOTES`).
        not_run: why it is not run, whatever is at hand.
        at_hand_only: its data are not fetched for a table.
    """

    table: str
    row: str
    column: str
    published: float | None
    source: Literal["deck", "code", "text", "quoted"] | None
    data: str
    settings: Mapping[str, Any]
    epochs: float | None
    split_rule: str | None = None
    binarisation: str | None = None
    metric: str = "log_likelihood"
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    init_from: str | None = None
    kind: Kind | None = None
    baseline: str | None = None
    run_of: tuple[str, ...] | None = None
    mean_of: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()
    not_run: str | None = None
    at_hand_only: bool = False


def on_toronto_faces(claim: Claim, published: float, source: Literal["deck", "text"], *notes: str) -> Claim:
    """Return the row of `claim` in the column ``tfd``: a figure to read, and nothing that could be run."""
    return replace(
        claim, column="tfd", data="tfd", published=published, source=source, settings={}, binarisation=None,
        epochs=None, budgets={}, notes=("windows", *notes), not_run="the Toronto faces are not freely available",
    )  # fmt: skip


def on_frey_faces(claim: Claim, **cpu: Any) -> Claim:
    """Return the row of `claim` in the column ``frey-faces``, of which no figure was read; `cpu` is that budget's own.

    The faces are 1,765 rows of real numbers: an epoch is a thirtieth of one of digits.
    """
    smoke = {**claim.budgets["smoke"], "epochs": 2}
    return replace(
        claim, column="frey-faces", data="frey-faces", published=None, source=None, kind=None, binarisation=None,
        epochs=None, notes=("windows",), budgets={"smoke": smoke, "cpu": {**claim.budgets["cpu"], **cpu}, "paper": {}},
    )  # fmt: skip
