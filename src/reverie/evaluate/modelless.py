"""Rows of tables that no model of the house makes: others' models, and rows that a table may not be without."""

from __future__ import annotations

from reverie.evaluate.claims import Claim, on_toronto_faces
from reverie.evaluate.parzen import NAME, SAMPLES, SANITY

_HOW = {"estimator": NAME, "samples": SAMPLES}


def _published(row: str, digits: float, faces: float, why: str) -> tuple[Claim, Claim]:
    """Return the two cells of a row of the lecture on adversarial nets."""
    claim = Claim(
        table=NAME, row=row, column="mnist", published=digits, source="deck", metric=NAME, data="mnist",
        binarisation="means", settings={}, epochs=None, evaluation=_HOW, kind="estimate", notes=("windows",),
        not_run=why,
    )  # fmt: skip
    return claim, on_toronto_faces(claim, faces, "deck")


def _sanity(row: str, column: str) -> Claim:
    return Claim(
        table=NAME, row=row, column=column, published=None, source=None, metric=NAME, data=column,
        binarisation="means" if column == "mnist" else None, settings={}, epochs=None, baseline=row, evaluation=_HOW,
        budgets={"smoke": {"evaluation": {**_HOW, "samples": 500, "rows": 200}}, "cpu": {}, "paper": {}},
        notes=("no-figure", "windows"),
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    *_published("stacked CAE", 121.0, 2110.0, "our autoencoders do not generate"),
    *_published("deep GSN", 214.0, 1890.0, "reverie has no such model"),
    *(_sanity(row, column) for column in ("mnist", "frey-faces") for row in SANITY),
)
