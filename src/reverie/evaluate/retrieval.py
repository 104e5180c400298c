r"""Documents by their codes: the nearest to a query, and how many of the nearest are of its class.

Codes :math:`p(h \mid n)` are compared by the cosine of their angle, and beside them the counts themselves, weighted by
tf-idf as scikit-learn does, the inverse frequencies those of the documents that are searched.  A document is relevant
to a query of the same class; after the first r documents precision is the share of them that is relevant, recall the
share of the relevant ones that is among them, both averaged over queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reverie.errors import ReverieError

_BLOCK = 500


@dataclass(frozen=True)
class Curve:
    """Precision and recall after the first documents, averaged over queries.

    Attributes:
        first: powers of two, how many documents, shape (r,).
        precision, recall: shape (r,).
    """

    first: Int[np.ndarray, " r"]
    precision: Float[np.ndarray, " r"]
    recall: Float[np.ndarray, " r"]


def unit_length(codes: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Return codes of length one, so that their products are cosines; codes of zeros stay so."""
    x = np.asarray(codes, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def tf_idf(
    library: Float[np.ndarray, "n K"], queries: Float[np.ndarray, "m K"]
) -> tuple[Float[np.ndarray, "n K"], Float[np.ndarray, "m K"]]:
    """Return counts weighted by how seldom a word is in the library."""
    from sklearn.feature_extraction.text import TfidfTransformer

    made = TfidfTransformer().fit(library)
    return tuple(np.asarray(made.transform(x).toarray(), np.float32) for x in (library, queries))  # type: ignore[return-value]


def nearest(
    queries: Float[np.ndarray, "m d"], library: Float[np.ndarray, "n d"], top: int
) -> tuple[Int[np.ndarray, "m t"], Float[np.ndarray, "m t"]]:
    """Return the `top` documents nearest to each query, the nearest first, and their cosines.

    Raises:
        ReverieError: for no document at all.
    """
    if top < 1:
        raise ReverieError(f"top: {top} is not a number of documents; give 1 or more")
    cosine = unit_length(queries) @ unit_length(library).T
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :top]
    return order, np.take_along_axis(cosine, order, axis=1)


def curve(
    queries: Float[np.ndarray, "m d"],
    query_classes: Int[np.ndarray, " m"],
    library: Float[np.ndarray, "n d"],
    library_classes: Int[np.ndarray, " n"],
) -> Curve:
    """Return precision and recall after the first 1, 2, 4, ... documents of the library.

    Raises:
        ReverieError: where no query has a relevant document.
    """
    first = 2 ** np.arange(int(np.log2(len(library))) + 1)
    library = unit_length(library)
    hits, relevant = [], []
    for start in range(0, len(queries), _BLOCK):
        part = slice(start, start + _BLOCK)
        order = np.argsort(-(unit_length(queries[part]) @ library.T), axis=1, kind="stable")[:, : first[-1]]
        same = library_classes[order] == np.asarray(query_classes[part])[:, None]
        hits.append(np.cumsum(same, axis=1)[:, first - 1])
        relevant.append((library_classes[None] == np.asarray(query_classes[part])[:, None]).sum(axis=1))
    found, total = np.concatenate(hits), np.concatenate(relevant)
    if not (total > 0).any():
        raise ReverieError("data: no document has the class of a query; give documents of the same classes")
    # A query without a relevant document has no recall.
    found, total = found[total > 0], total[total > 0]
    return Curve(first, (found / first).mean(axis=0), (found / total[:, None]).mean(axis=0))
