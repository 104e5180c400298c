"""Questions to a trained model about stories of a person's own: `reverie ask`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from reverie import asking
from reverie.data import stories
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate import questions
from reverie.trained import Trained

#: Test questions whose reading is drawn; words of running text that stand for a question.
_QUESTIONS, _WORDS = 6, 8
_FROM_NOTHING = "No sentence of a story is heard: the answer is a guess from the question alone."


def ask(run: Trained, story: str | Sequence[str], question: str, *, top: int = 3) -> dict[str, Any]:
    """Answer a question about a story.

    Args:
        story: its sentences, the oldest first, or a text of them.
        question: one line.
        top: how many answers are told.

    Returns:
        ``question``; ``answers``, likeliest first, each ``answer`` and ``probability``; ``story``, of each sentence
        that is heard ``sentence`` and ``hops``, what each hop attends to; ``nothing``, how much of each hop reads none
        of them; ``note``, what it cannot hear ("" for all).

    Raises:
        ReverieError: for a model that answers none, or was trained on running text, and for a question without a word
            that it knows.
    """
    model, facts = ready(run), run.facts
    texts = isinstance(story, str) or (isinstance(story, Sequence) and all(isinstance(one, str) for one in story))
    if not (isinstance(question, str) and texts):
        raise ReverieError("ask: question must be a text, and story a text or a list of sentences")
    if top < 1:
        raise ReverieError(f"top: {top} is no number of answers; give 1 or more")
    told = tuple(sentences(story) if isinstance(story, str) else story)
    heard = tuple(filter(None, map(stories.words_of, told)))
    vocabulary = facts.class_names or ()
    asked = stories.Asked(heard, stories.words_of(question), vocabulary[0])
    if not set(asked.question) & set(vocabulary):
        known = ", ".join(vocabulary[:12])
        raise ReverieError(f"question: has no word that training had; it had {known}{' ...' * (len(vocabulary) > 12)}")
    x, _ = stories.numbered([asked], vocabulary, facts.shape[0] - 1, facts.shape[1])
    found = questions.answers(model, x, top)
    kept = heard[-(facts.shape[0] - 1) :]
    read = found.attention[0, :, : len(kept)][:, ::-1]
    return {
        "question": question,
        "answers": [
            {"answer": vocabulary[word], "probability": float(p)}
            for word, p in zip(found.words[0], found.chances[0], strict=True)
        ],
        "story": [
            {"sentence": " ".join(text), "hops": [float(p) for p in read[:, i]]} for i, text in enumerate(kept)
        ],
        "nothing": [max(0.0, float(1.0 - p.sum())) for p in read],
        "note": stories.unheard([asked], set(vocabulary), facts.shape, "not heard") if kept else _FROM_NOTHING,
    }  # fmt: skip


def ready(run: Trained) -> Any:
    """Return the run's model, insisting that it answers questions.

    Raises:
        ReverieError: for one that does not.
    """
    model = asking.need(run, "ask")
    if model.running:
        raise ReverieError("ask: this run tells running text and answers no questions; train a memn2n on stories")
    return model


def look(run: Trained, data: Dataset, split: str, made: np.ndarray) -> dict[str, Any]:
    """Keep what each hop reads for a few questions of a split, and draw it in ``memory.png``.

    Args:
        made: what says of which weights this is a look.

    Returns:
        ``questions``, ``told``, ``right`` and ``chances`` (n,), ``attention`` (n, K, S), the newest sentence first, and
        ``sentences`` (n, S), "" where there is none.
    """
    from reverie.report.hops import attention
    from reverie.report.style import save

    names = np.asarray(run.facts.class_names)
    # One from every stretch of the questions, so that each of several tasks has its turn; the first words of a text
    # have little before them.
    first = min(data.shape[0], data.size(split)) - 1 if run.model.running else 0
    places = np.unique(np.linspace(first, data.size(split) - 1, _QUESTIONS).astype(int))
    rows, right = data.rows(split)[places], np.asarray(data.labels(split))[places]
    found = questions.answers(run.model, rows)
    texts = stories.in_words(rows, tuple(names), data.shape)
    newest = [[*reversed(story), *[""] * (data.shape[0] - 1 - len(story))] for _, story in texts]
    if run.model.running:
        texts = [(" ".join(["...", *story[-_WORDS:], "_"]), story) for _, story in texts]
        newest = [[f"{word} ({age} before)" if word else "" for age, word in enumerate(some, 1)] for some in newest]
    kept = {
        "questions": np.asarray([question for question, _ in texts]), "sentences": np.asarray(newest),
        "told": names[found.words[:, 0]], "right": names[right], "chances": found.chances[:, 0],
        "attention": found.attention,
    }  # fmt: skip
    run.folder.save_arrays("memory", **kept, made=made)
    save(attention(kept), run.path / "memory.png")
    return {"layers": np.asarray(["hops"]), **kept}


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, one a line or each ended by a full stop."""
    return [" ".join(words) for words in stories.sentences_of(text)]


def lines() -> Iterator[str]:
    """Yield the lines that are typed, or come through a pipe, until the input ends."""
    typed = sys.stdin.isatty()
    if typed:
        sys.stderr.write("A story, a sentence a line, and a question that ends in ? (an empty line: a new story).\n")
    while True:
        if typed:
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        yield line.strip()
