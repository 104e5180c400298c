r"""Are samples what they should be: new rows, of every kind, as varied as the data, and not to be told from them?

Four questions that a likelihood, or a Parzen window, does not answer.  Samples are set beside rows of a split that the
model did not learn from, and every alarm is a test whose chance to be false is at most `ALPHA` (a thousandth), so that
of healthy samples less than one look in a hundred raises any.  Each alarm also asks for an effect that matters:
samples of a good model *can* be told from the data, with enough of them, and that alone is no illness.

- copies: samples within half the usual distance between training rows (the median, to the nearest other) of one, and
  the share of held-out rows that are; Fisher's exact test.  Half, not a quantile: means of a generator are smooth, and
  lie nearer to training rows than held-out rows do without being copies.
- modes: classes that five nearest training rows vote for (cells of k-means without labels), of samples and of held-out
  rows; a class is missed where a tenth of its share, or less, is there and Fisher's test says that is no chance.
- difference: the maximum mean discrepancy (`mmd`), width by the median rule, with a permutation test; its size beside
  that of columns drawn independently, which is 1.
- diversity: the mean distance between samples beside that between held-out rows, with a permutation test; and samples
  that repeat another one, as copies are told.

References: Gretton et al., *A Kernel Two-Sample Test*, 2012; Richardson & Weiss, *On GANs and GMMs*, 2018.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate import mmd
from reverie.evaluate.measure import gather
from reverie.evaluate.parzen import generator, judged_view, k_means
from reverie.evaluate.rows import visiting_order

#: The chance that one alarm is false, and the permutations that can show it.
ALPHA, PERMUTATIONS = 1e-3, 1999
#: Rows and samples looked at, those of the permutation tests, training rows looked among, and those that vote.
ROWS, PAIRS, AMONG, VOTERS = 1000, 500, 60_000, 10_000
NEIGHBOURS, CELLS = 5, 10
#: Effects below which an alarm is none: of the diversity, of shares of classes, of the discrepancy.
_DIVERSE, _UNEVEN, _APART, _MISSED = 0.7, 0.15, 0.25, 0.1
#: Rows below which nothing is told, and below which small differences go unseen.
_LEAST, _FEW = 20, 100

Rows = Float[np.ndarray, "n D"]
Finding = dict[str, str]


class Health(NamedTuple):
    """What was found: certified numbers, sentences (the gravest first), and what pictures show."""

    records: dict[str, Estimate]
    findings: list[Finding]
    pictures: dict[str, np.ndarray]


class Look(NamedTuple):
    """One question's answer."""

    records: dict[str, Estimate]
    findings: list[tuple[str, str]]
    pictures: dict[str, np.ndarray]


def look(model: Any, data: Dataset, split: str = "test", *, seed: int = 0, n: int = ROWS) -> Health:
    """Look at n samples of a model beside as many rows of a split that it did not learn from.

    Means of grey rows, draws of others.  Pictures are in the model's units.

    Raises:
        ReverieError: for rows without distances, or too few.
    """
    data = _distant(data)
    _require_enough(min(data.size("train"), data.size(split)))
    n = min(n, data.size(split))
    made = generator(model, data, seed=seed, draws=data.binarisation != "means", most=n)(0, n)
    held = gather(data, split, np.sort(visiting_order(data.size(split), seed)[:n]))
    train, labels = data.rows("train", 0, AMONG), data.labels("train", 0, AMONG)
    names = data.class_names if labels is not None else None
    keep = ~data.constant
    found = examine(train[:, keep], held[:, keep], made[:, keep], labels, names, seed=seed)
    nearest = found.pictures.pop("nearest").astype(int)
    rest = {"samples": made, "neighbours": train[nearest]}
    return found._replace(pictures={**found.pictures, **rest})


def tellable(data: Dataset, split: str = "test") -> bool:
    """Whether there are rows enough for `look`, and distances between them."""
    try:
        _distant(data)
        _require_enough(min(data.size("train"), data.size(split)))
    except ReverieError:
        return False
    return True


def _distant(data: Dataset) -> Dataset:
    return judged_view(data, "health", "distances between samples and rows")


def _require_enough(fewest: int) -> None:
    if fewest < _LEAST:
        raise ReverieError(f"health: {fewest} rows to compare are too few to tell; have {_LEAST} or more in the split")


def examine(
    train: Rows, held: Rows, made: Rows, labels: Int[np.ndarray, " m"] | None = None,
    names: tuple[str, ...] | None = None, *, seed: int = 0,
) -> Health:  # fmt: skip
    """Answer the four questions of samples `made`, beside rows `held` out and the rows that were learnt from.

    Args:
        labels, names: classes of the training rows, if they have any.

    Raises:
        ReverieError: for fewer than 20 rows of a kind, or samples that are not finite.
    """
    _require_enough(min(len(train), len(held), len(made)))
    if not np.isfinite(made).all():
        raise ReverieError("health: samples are not finite; look for NaN in the weights")
    train, held, made = (np.ascontiguousarray(rows, np.float32) for rows in (train, held, made))
    rng = np.random.default_rng(seed)
    looks = [
        copies(train, held, made, rng),
        modes(train, held, made, labels, names, rng),
        difference(train, held, made, rng),
        diversity(train, held, made, rng),
    ]
    if (fewest := min(len(held), len(made))) < _FEW:
        words = f"Only {fewest} rows are compared with as many samples: only a large difference would be seen."
        looks.append(Look({}, [("warning", words)], {}))
    order = ("problem", "warning", "ok")
    told = sorted((f for found in looks for f in found.findings), key=lambda f: order.index(f[0]))
    return Health(
        {k: v for found in looks for k, v in found.records.items()},
        [{"level": level, "text": text} for level, text in told],
        {k: v for found in looks for k, v in found.pictures.items()},
    )


def nearest(rows: Rows, among: Rows, *, own: bool = False) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return the distance to each row's nearest row of a set, and its number; of another row where it is its `own`."""
    from sklearn.neighbors import NearestNeighbors

    numbers = NearestNeighbors(n_neighbors=1 + own, algorithm="brute").fit(among).kneighbors(rows)[1][:, -1]
    # Squares of sums leave equal rows a rounding apart, and whether rows are equal is what is asked.
    return np.linalg.norm(rows.astype(np.float64) - among[numbers], axis=1), numbers


def copies(train: Rows, held: Rows, made: Rows, rng: np.random.Generator) -> Look:
    """Tell how many samples are all but training rows."""
    from scipy.stats import mannwhitneyu

    # The limit is of training rows alone: held-out rows and samples are then alike under the test.
    some = rng.choice(len(train), min(ROWS, len(train)), replace=False)
    limit = 0.5 * float(np.median(nearest(train[some], train, own=True)[0]))
    (of_made, numbers), (of_held, _) = nearest(made, train), nearest(held, train)
    close, usual = of_made <= limit, of_held <= limit
    p = _more(int(close.sum()), len(made), int(usual.sum()), len(held))
    nearer = float(mannwhitneyu(of_made, of_held, alternative="less").pvalue)
    where = "lie within half the usual distance of a training row" if limit > 0 else "repeat a training row exactly"
    words = f"{_share(close)} of samples, {_share(usual)} of held-out rows {where} (p = {p:.2g})"
    note = f"{words}; {_medians(of_made, of_held)} (nearer with p = {nearer:.2g})"
    alarm = p < ALPHA and close.mean() > usual.mean() + 0.01
    told = f"Memorising: {words}. Train for less, on more rows, or with a smaller network."
    text = told if alarm else f"Samples are no copies: {words}."
    return Look(
        {"near_copies": _record(close, "nearest-training-row", note)}, [("problem" if alarm else "ok", text)],
        {"distances": of_made, "held_distances": of_held, "limit": np.asarray(limit), "nearest": numbers},
    )  # fmt: skip


def _medians(of_made: np.ndarray, of_held: np.ndarray) -> str:
    """Return how far samples are from training rows, as a part of how far held-out rows are.

    Rows that repeat a training row are at no distance, of which nothing is a part: they stand apart.
    """
    made, held = of_made[of_made > 0], of_held[of_held > 0]
    same = [1.0 - len(some) / len(every) for some, every in ((made, of_made), (held, of_held))]
    again = f"{100 * same[0]:.1f} % of samples, {100 * same[1]:.1f} % of held-out rows repeat a training row exactly"
    if not len(made) or not len(held):
        return f"{again}, so that their distances have no ratio"
    ratio = f"median distance {np.median(made) / np.median(held):.2f} of held-out rows'"
    return f"{ratio}, those apart that repeat a training row exactly ({again})" if max(same) > 0 else ratio


def modes(
    train: Rows, held: Rows, made: Rows, labels: np.ndarray | None, names: tuple[str, ...] | None,
    rng: np.random.Generator,
) -> Look:  # fmt: skip
    """Tell which classes samples miss, and how far their shares are from the data's."""
    from scipy.stats import chi2_contingency

    some = rng.permutation(len(train))[:VOTERS]
    what, kinds, words, tell = _teller(train[some], None if labels is None else np.asarray(labels)[some], names)
    ours, theirs = (np.bincount(tell(rows), minlength=len(kinds)) for rows in (made, held))
    share, usual = ours / ours.sum(), theirs / theirs.sum()
    apart = 0.5 * float(abs(share - usual).sum())
    there = (ours + theirs) > 0
    p = float(chi2_contingency(np.stack([ours, theirs])[:, there]).pvalue) if there.sum() > 1 else 1.0
    missed = [
        kind
        for c, kind in enumerate(kinds)
        if share[c] <= _MISSED * usual[c]
        and _more(int(theirs[c]), len(held), int(ours[c]), len(made)) < ALPHA / len(kinds)
    ]
    text = f"{what} of samples and of held-out rows differ by {apart:.2f} in total variation (p = {p:.2g}); {words}"
    found = [("ok", f"No class is missing: {text}.")]
    if missed:
        found = [("problem", f"Missing from the samples: {', '.join(missed)}. {text[:1].upper()}{text[1:]}.")]
    elif p < ALPHA and apart > _UNEVEN:
        found = [("warning", f"Shares are off: {text}.")]
    # Its own error: of the counts, by the delta method at independent rows.
    spread = np.sqrt(share * (1 - share) / len(made) + usual * (1 - usual) / len(held))
    record = Estimate(apart, float(0.5 * np.sqrt((spread**2).sum())), 0.0, len(made), "estimate", "classes-told",
                      unit="fraction", note=text)  # fmt: skip
    return Look({"class_distance": record}, found,
                {"class_names": np.asarray(kinds), "class_shares": share, "held_class_shares": usual})  # fmt: skip


def _teller(train: Rows, labels: np.ndarray | None, names: tuple[str, ...] | None) -> tuple[str, list[str], str, Any]:
    if labels is None:
        centres = k_means(train, min(CELLS, len(train)), rounds=50)
        kinds = [f"cell {i + 1}" for i in range(len(centres))]
        return "cells", kinds, f"{len(kinds)} cells of k-means", lambda rows: nearest(rows, centres)[1]
    from sklearn.neighbors import KNeighborsClassifier

    votes = KNeighborsClassifier(NEIGHBOURS, algorithm="brute").fit(train, np.asarray(labels, np.int64))
    kinds = [str(name) for name in names] if names else [str(i) for i in range(int(np.max(labels)) + 1)]
    return "classes", kinds, f"told by {NEIGHBOURS} nearest training rows", votes.predict


def difference(train: Rows, held: Rows, made: Rows, rng: np.random.Generator) -> Look:
    """Tell whether, and how well, samples can be told from held-out rows."""
    n = min(PAIRS, len(held), len(made))
    x, y = held[:n], made[:n]
    squares = np.asarray(mmd.squared_distances(*(jnp.asarray(np.concatenate([x, y])),) * 2))
    width = 0.5 * float(np.median(squares[np.triu_indices(2 * n, 1)]))
    gram = np.asarray(mmd.kernel(jnp.asarray(squares), (width,)), np.float64)
    signs = np.where(np.arange(2 * n) < n, 1.0, -1.0)
    moved = np.stack([signs, *(rng.permutation(signs) for _ in range(PERMUTATIONS))])
    values = np.einsum("bi,bi->b", moved @ gram, moved)
    p = float((values >= values[0] * (1 - 1e-9)).mean())
    free = rng.permuted(train[rng.choice(len(train), n, replace=len(train) < n)], axis=0)
    apart, most = (float(mmd.mmd2(jnp.asarray(x), jnp.asarray(rows), (width,))) for rows in (y, free))
    size = max(apart, 0.0) / max(most, 1e-12)
    words = f"p = {p:.2g} by {PERMUTATIONS:,} permutations of {n} samples and {n} held-out rows; the discrepancy is "
    words += f"{size:.2f} times that of independent columns"
    text, level = f"Samples cannot be told from held-out rows: {words}.", "ok"
    if p < ALPHA:
        level = "warning" if size >= _APART else "ok"
        text = f"Samples can be told from held-out rows: {words}."
    record = Estimate(apart, float("nan"), 0.0, n, "estimate", "mmd-unbiased", unit="squared discrepancy", note=words)
    return Look({"discrepancy": record}, [(level, text)], {})


def diversity(train: Rows, held: Rows, made: Rows, rng: np.random.Generator) -> Look:
    """Tell whether samples are less varied than the data, or repeat each other."""
    n = min(PAIRS, len(held), len(made))
    both = jnp.asarray(np.concatenate([held[:n], made[:n]]))
    gaps = np.sqrt(np.asarray(mmd.squared_distances(both, both), np.float64))
    np.fill_diagonal(gaps, 0.0)
    ours = (np.arange(2 * n) >= n).astype(np.float64)
    moved = np.stack([ours, *(rng.permutation(ours) for _ in range(PERMUTATIONS))])
    within = np.einsum("bi,bi->b", moved @ gaps, moved)
    others = np.einsum("bi,bi->b", (1 - moved) @ gaps, 1 - moved)
    ratio = within / np.maximum(others, 1e-12)
    p = float((ratio <= ratio[0] * (1 + 1e-9)).mean())
    words = f"samples are {ratio[0]:.2f} as far from each other as held-out rows (p = {p:.2g})"
    small = p < ALPHA and ratio[0] < _DIVERSE
    size, repeats = min(len(train), len(held), len(made)), _repeats(train, held, made, rng)
    found = [("problem" if small else "ok", f"{'Collapsed: ' if small else ''}{words[:1].upper()}{words[1:]}.")]
    found[0] = (found[0][0], found[0][1].replace("Collapsed: Samples", "Collapsed: samples"))
    again = f"{_share(repeats[0])} of samples, {_share(repeats[1])} of held-out rows all but repeat another one"
    chance = _more(*(v for r in repeats for v in (-(-int(r.sum()) // 2), size // 2)))
    if chance < ALPHA and repeats[0].mean() > repeats[1].mean() + 0.01:
        found.append(("problem", f"Collapsed: {again} (p = {chance:.2g})."))
    record = Estimate(float(ratio[0]), float("nan"), 0.0, n, "estimate", "mean-distance", unit="of held-out rows'",
                      note=words)  # fmt: skip
    return Look({"diversity": record, "repeats": _record(repeats[0], "nearest-sample", again)}, found, {})


def _repeats(train: Rows, held: Rows, made: Rows, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return which samples, and which held-out rows, are nearer to another one than half of what is usual."""
    size = min(len(train), len(held), len(made))
    some = train[rng.choice(len(train), size, replace=False)]
    limit = 0.5 * float(np.median(nearest(some, some, own=True)[0]))
    first, second = (nearest(rows[:size], rows[:size], own=True)[0] <= limit for rows in (made, held))
    return first, second


def _more(a: int, n: int, b: int, m: int) -> float:
    """Return the chance of a share a/n so far above b/m where both are of one law: Fisher's exact test."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[a, n - a], [b, m - b]], alternative="greater")[1])


def _share(which: np.ndarray) -> str:
    return f"{100 * which.mean():.1f} %"


def _record(which: np.ndarray, estimator: str, note: str) -> Estimate:
    return Estimate.of_rows(which, kind="estimate", estimator=estimator, unit="fraction", note=note)
