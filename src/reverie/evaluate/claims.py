"""What papers report, as data: a model's file holds its `CLAIMS`, the only home of a published number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


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
    """One published number and what it takes to reproduce it.

    Attributes:
        table, row, column: where it stands in `reverie table`.
        published: the number, in `metric`'s own sign (log-likelihoods are negative).
        source: how it was read: ``deck`` (printed on a slide), ``code`` (the authors' repository), ``text``.
        data, split_rule, binarisation: the paper's protocol.
        settings: arguments of the model's recipe that make this row.
        epochs: the paper's own number of epochs.
        evaluation: arguments of `evaluate` under the paper's protocol.
        budgets: per budget (``smoke``, ``cpu``, ``paper``) what overrides `settings`, with ``epochs`` and
            ``evaluation``.
        beside: other published values of the row, such as active units.
        init_from: the row of the same table whose weights are gone on from (the swap experiment).
    """

    table: str
    row: str
    column: str
    published: float
    source: Literal["deck", "code", "text"]
    data: str
    settings: Mapping[str, Any]
    epochs: float
    split_rule: str | None = None
    binarisation: str | None = None
    metric: str = "log_likelihood"
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    init_from: str | None = None
