"""Running text, each word told from those before it: the language-modelling form of a memory network's rows.

A row is as of `stories`, texts of one word: a question without words, then the words before the one that is asked for,
the newest first.  The word that is asked for is the row's class; the classes are the vocabulary.  The first tenths of
the text train, the last two choose and test, so that nothing that is asked for was read in training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from reverie.data.rows import Raw, Rows, narrow, resident_limit
from reverie.data.splits import HELD_OUT
from reverie.data.stories import text_of
from reverie.errors import ReverieError

#: The law of such rows.
LAW: Literal["words"] = "words"
#: Words before the one that is asked for; the largest vocabulary, of the commonest words of the training part that
#: it has twice at least; what stands for the others; and the shortest text.
MEMORY, MOST, OTHER, FEWEST = 100, 10_000, "<unk>", 100


def read(path: Path) -> Raw:
    """Read a .txt file as running text.

    Raises:
        ReverieError: for another kind of file, one that is no text, too short, or too long for memory.
    """
    if path.suffix.lower() != ".txt" or not path.is_file():
        raise ReverieError(f"{path}: is no running text; give a .txt file, or leave --likelihood {LAW} out")
    words = words_of(text_of(path))
    if len(words) < FEWEST:
        raise ReverieError(f"{path}: has {len(words)} words; give a text of {FEWEST} at least")
    if 2 * len(words) * (MEMORY + 1) > resident_limit():
        raise ReverieError(
            f"{path}: {len(words):,} words with {MEMORY} before each do not fit into memory; give a part of the text, "
            "or raise REVERIE_RESIDENT_BYTES"
        )
    held = max(1, round(HELD_OUT * len(words)))
    ends = {"train": (0, len(words) - 2 * held), "valid": (-2 * held, -held), "test": (-held, None)}
    parts = {split: words[low:high] for split, (low, high) in ends.items()}
    counts = Counter(parts["train"])
    twice = [word for word in counts if counts[word] > 1]
    common = sorted(twice, key=lambda word: (-counts[word], word))[: MOST - 1]
    vocabulary = (OTHER, *sorted(common))
    place = {word: number for number, word in enumerate(vocabulary)}
    splits = {
        split: _windows(np.asarray([place.get(w, 0) for w in part]), len(vocabulary)) for split, part in parts.items()
    }
    lost = 1 - sum(counts[word] for word in common) / len(parts["train"])
    note = f"Each word is told from the {MEMORY} before it; {lost:.1%} of the training words are rarer, {OTHER}. "
    note += "The text is cut in order: its first eight tenths train."
    return Raw(splits, (1 + MEMORY, 1), None, vocabulary, (note,), LAW)


def recoded(path: Path, vocabulary: Sequence[str]) -> Rows:
    """Return another text as rows of a trained model, words that its vocabulary has not as `OTHER`.

    Raises:
        ReverieError: for what is no text, or has no two words.
    """
    words, place = words_of(text_of(path)), {word: number for number, word in enumerate(vocabulary)}
    if len(words) < 2:
        raise ReverieError(f"{path}: has {len(words)} words; give a text of two at least")
    return _windows(np.asarray([place.get(word, 0) for word in words]), len(vocabulary))


def words_of(text: str) -> list[str]:
    """Return the words of a text in small letters, and its marks, each a word."""
    return re.findall(r"[\w']+|[^\w\s]", text.lower())


def _windows(codes: Int[np.ndarray, " n"], vocabulary: int) -> Rows:
    """Return each word with those before it in its part of the text; the first words have fewer."""
    kind = narrow(0, vocabulary, True, False)
    padded = np.concatenate([np.zeros(MEMORY, kind), (codes + 1).astype(kind)])
    before = np.lib.stride_tricks.sliding_window_view(padded[:-1], MEMORY)[:, ::-1]
    # The question, which has no word.
    return Rows(np.pad(before, ((0, 0), (1, 0))), codes.astype(np.int32))
