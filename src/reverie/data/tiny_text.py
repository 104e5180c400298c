"""A small synthetic corpus: documents drawn from six themes whose words are known."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

THEMES = {
    "sea": "wave sail harbour tide boat anchor fish captain island storm coast rope",
    "kitchen": "oven flour butter sugar recipe bread onion soup knife salt pan taste",
    "space": "planet star orbit rocket moon comet telescope galaxy gravity astronaut satellite launch",
    "music": "violin melody rhythm concert guitar song piano singer chord drum choir orchestra",
    "garden": "rose soil seed leaf tulip spade root flower bee hedge apple compost",
    "court": "judge lawyer trial witness jury crime verdict evidence prison appeal statute bail",
}
COMMON = (
    "time people day year thing way life world hand part place week case point number group problem fact home morning"
)
WORDS = tuple(" ".join([*THEMES.values(), COMMON]).split())
#: Documents to train, choose and test; the shortest and the longest.
SIZES, SHORTEST, LONGEST = (1000, 200, 300), 10, 40
#: Share of common words; of two themes, how much the main one has; how often there are two.
_COMMON_SHARE, _MAIN_SHARE, _TWO = 0.25, 0.7, 0.5


def topics() -> Float[np.ndarray, "7 K"]:
    r"""Return the words' probabilities in each theme, and last in the common part.

    The i-th word of a part has a share proportional to :math:`1/(i + 2)`, i from 1.
    """
    parts = [text.split() for text in (*THEMES.values(), COMMON)]
    out = np.zeros((len(parts), len(WORDS)))
    start = 0
    for row, part in zip(out, parts, strict=True):
        share = 1.0 / (np.arange(len(part)) + 3.0)
        row[start : start + len(part)] = share / share.sum()
        start += len(part)
    return out


def corpus(seed: int = 0) -> tuple[UInt8[np.ndarray, "n K"], Int[np.ndarray, " n"]]:
    """Return counts and the main theme of each document.

    A document has 10 to 40 words, a quarter of them common ones; half of the documents mix in a second theme, with
    three tenths of what is left.
    """
    rng, laws, n = np.random.default_rng(seed), topics(), sum(SIZES)
    main = (rng.random(n) * len(THEMES)).astype(np.int32)
    second = (main + 1 + (rng.random(n) * (len(THEMES) - 1)).astype(np.int32)) % len(THEMES)
    share = np.where(rng.random(n) < _TWO, _MAIN_SHARE, 1.0)[:, None]
    mixed = share * laws[main] + (1 - share) * laws[second]
    ends = np.cumsum((1 - _COMMON_SHARE) * mixed + _COMMON_SHARE * laws[-1], axis=1)
    length = SHORTEST + (rng.random(n) * (LONGEST - SHORTEST + 1)).astype(np.int32)
    x = np.zeros((n, len(WORDS)), np.uint8)
    for row, end, words in zip(x, ends, length, strict=True):
        # The last sum is 1 to within rounding, so a draw could fall behind it.
        drawn = np.minimum(np.searchsorted(end, rng.random(words), side="right"), len(WORDS) - 1)
        row += np.bincount(drawn, minlength=len(WORDS)).astype(np.uint8)
    return x, main
