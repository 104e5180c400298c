"""Stories and questions about them: read, split story by story, and written as numbers of words.

A row is texts of J words, flat: the question, then the sentences, the newest first.  A word is its place in the
vocabulary from 1 up, 0 is no word.  The answer is the row's class; the classes are the vocabulary, and an answer of
several words (``n,w``) is one word of it.  What was asked earlier is no part of a story.

Two forms are read.  That of the bAbI tasks, each story's lines numbered from 1, an answer after a tabulator::

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary?	bathroom	1

and a .jsonl with a question a line::

    {"story": ["Mary moved to the bathroom.", "John went to the hallway."], "question": "Where is Mary?",
     "answer": "bathroom"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from reverie.data.rows import Raw, Rows, narrow
from reverie.errors import ReverieError

#: The law of such rows: of the answer, given story and question.
LAW: Literal["stories"] = "stories"
#: So many sentences of a story are kept, the newest ones; later words for time would hardly be learnt.
MOST = 50
BABI = "numbered lines, '1 Mary moved to the bathroom.', a question as '3 Where is Mary?<TAB>bathroom'"
LINES = 'lines such as {"story": ["Mary is in the hall."], "question": "Where is Mary?", "answer": "hall"}'
_LINE = re.compile(r"(\d+) (.*)")
_NUMBERED = re.compile(r"^\s*\d+ ")

Words = tuple[str, ...]


class Asked(NamedTuple):
    """A question with the story before it, oldest sentence first, its answer, and the number of the story."""

    story: tuple[Words, ...]
    question: Words
    answer: str
    number: int = 0


def words_of(text: str) -> Words:
    """Return the words of a text, in small letters."""
    return tuple(re.findall(r"[\w']+", text.lower()))


def answer_of(text: str) -> str:
    """Return an answer as one word of the vocabulary: ``Kitchen.`` is ``kitchen``, ``n, w`` is ``n,w``."""
    return ",".join(" ".join(words_of(part)) for part in text.split(","))


def sentences_of(text: str) -> tuple[Words, ...]:
    """Return the sentences of a text that is not cut into any: lines, or what ends in a full stop.

    Of the bAbI form lines lose their numbers, and questions with their answers are left out.
    """
    lines = [_NUMBERED.sub("", line) for line in text.splitlines() if "\t" not in line]
    return tuple(filter(None, map(words_of, re.split(r"[.!?]+(?:\s|$)|\n", "\n".join(lines)))))


def holds_stories(path: Path) -> bool:
    """Say whether a .txt has the form of the bAbI tasks, or a .jsonl that of questions, by its first line."""
    ending = path.suffix.lower()
    if ending not in (".txt", ".jsonl") or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline()
    if ending == ".jsonl":
        return '"question"' in line
    # A document may begin with a number; only a story says later how it is asked about.
    return line.startswith("1 ") and "\t" in path.read_text(encoding="utf-8", errors="replace")


def text_of(path: Path) -> str:
    """Return the text of a file, without the mark that some editors put first.

    Raises:
        ReverieError: for a file that is not there, or no text.
    """
    if not path.is_file():
        raise ReverieError(f"{path}: no such file; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise ReverieError(f"{path}: cannot be read as text; save it as UTF-8") from None


def read(path: Path) -> Raw:
    """Read a file of stories.

    Raises:
        ReverieError: naming the line that is none.
    """
    asked = asked_in(path)
    return encoded({"all": asked}, vocabulary_of(asked))


def asked_in(path: Path) -> list[Asked]:
    """Return the questions of a file."""
    text = text_of(path)
    found = from_lines(text, str(path)) if path.suffix.lower() == ".jsonl" else from_text(text, str(path))
    if not found:
        raise ReverieError(f"{path}: asks nothing; give {LINES if path.suffix.lower() == '.jsonl' else BABI}")
    return found


def from_text(text: str, where: str) -> list[Asked]:
    """Read the form of the bAbI tasks.

    Raises:
        ReverieError: naming the line that has no number, no question or no answer.
    """
    found: list[Asked] = []
    story: list[Words] = []
    number = -1
    for place, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ReverieError(f"{where}, line {place}: has no number in front; give {BABI}")
        if match[1] == "1":
            story, number = [], number + 1
        said, *more = match[2].split("\t")
        if not more:
            story.append(words_of(said))
        elif not words_of(said) or not answer_of(more[0]):
            raise ReverieError(f"{where}, line {place}: lacks its question or its answer; give {BABI}")
        else:
            found.append(Asked(tuple(story), words_of(said), answer_of(more[0]), max(number, 0)))
    return found


def from_lines(text: str, where: str) -> list[Asked]:
    """Read a question a line, in JSON; equal stories that follow each other are one.

    Raises:
        ReverieError: naming the line that is none.
    """
    found: list[Asked] = []
    for place, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
            story, question, answer = told["story"], told["question"], told["answer"]
            if answer is None:
                raise TypeError
            sentences = sentences_of(story) if isinstance(story, str) else tuple(words_of(one) for one in story)
            asked = Asked(tuple(filter(None, sentences)), words_of(question), answer_of(str(answer)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ReverieError(f"{where}, line {place}: is no question; give {LINES}") from None
        if not asked.question or not asked.answer:
            raise ReverieError(f"{where}, line {place}: lacks its question or its answer; give {LINES}")
        before = found[-1] if found else None
        # A story that goes on where the one before ended is the same story.
        goes_on = before is not None and asked.story[: len(before.story)] == before.story
        number = 0 if before is None else before.number + (not goes_on)
        found.append(asked._replace(number=number))
    return found


def vocabulary_of(asked: Iterable[Asked]) -> Words:
    """Return every word of stories, questions and answers, in alphabetical order."""
    words: set[str] = set()
    for one in asked:
        words.update(one.question, [one.answer], *one.story)
    return tuple(sorted(words))


def sizes_of(asked: Sequence[Asked]) -> tuple[int, int]:
    """Return the most sentences that are kept of a story, at least one, and the most words of a text."""
    most = max(len(one.story) for one in asked)
    longest = max(len(text) for one in asked for text in (one.question, *one.story))
    return max(1, min(most, MOST)), longest


def encoded(splits: dict[str, list[Asked]], vocabulary: Words, notes: tuple[str, ...] = ()) -> Raw:
    """Return questions in their splits as rows, their answers as classes."""
    every = [one for asked in splits.values() for one in asked]
    slots, places = sizes_of(every)
    rows = {split: Rows(*numbered(asked, vocabulary, slots, places)) for split, asked in splits.items()}
    groups = np.asarray([one.number for one in splits["all"]]) if "all" in splits else None
    longest = max(len(one.story) for one in every)
    if longest > MOST:
        notes = (*notes, f"Of stories of up to {longest:,} sentences the newest {MOST} are kept.")
    return Raw(rows, (1 + slots, places), None, vocabulary, notes, LAW, groups=groups)


def numbered(
    asked: Sequence[Asked], vocabulary: Words, slots: int, places: int
) -> tuple[Int[np.ndarray, "n D"], Int[np.ndarray, " n"]]:
    """Return questions as rows, and their answers as classes; words that the vocabulary has not are left out.

    Of a story the newest `slots` sentences are kept, of a text its first `places` words; an answer that the vocabulary
    has not is -1.
    """
    place = {word: number for number, word in enumerate(vocabulary, 1)}
    x = np.zeros((len(asked), 1 + slots, places), narrow(0, len(vocabulary), True, False))
    for row, one in zip(x, asked, strict=True):
        for line, text in zip(row, (one.question, *reversed(one.story)), strict=False):
            known = [place[word] for word in text if word in place][:places]
            line[: len(known)] = known
    answers = np.asarray([place.get(one.answer, 0) - 1 for one in asked], np.int32)
    return x.reshape(len(x), -1), answers


def recoded(asked: Sequence[Asked], vocabulary: Words, shape: tuple[int, ...], where: str) -> tuple[Rows, str]:
    """Return new questions as rows of a trained model, and a sentence about what it cannot hear of them ("" for all).

    Raises:
        ReverieError: for answers that training did not have.
    """
    known = set(vocabulary)
    strange = sorted({one.answer for one in asked} - known)
    if strange:
        some = ", ".join(strange[:5]) + (" ..." if len(strange) > 5 else "")
        raise ReverieError(f"{where}: has answers that training did not have ({some}); train on such questions, too")
    return Rows(*numbered(asked, vocabulary, shape[0] - 1, shape[1])), unheard(asked, known, shape, where)


def unheard(asked: Sequence[Asked], known: set[str], shape: tuple[int, ...], where: str) -> str:
    """Return a sentence about words that are not known and about what is too long; "" where all is heard."""
    texts = [text for one in asked for text in (one.question, *one.story)]
    strange = dict.fromkeys(word for text in texts for word in text if word not in known)
    said = []
    if strange:
        some = ", ".join(list(strange)[:5]) + (" ..." if len(strange) > 5 else "")
        said.append(f"{len(strange):,} words that training did not have are left out ({some})")
    if any(len(one.story) > shape[0] - 1 for one in asked):
        said.append(f"of longer stories the newest {shape[0] - 1} sentences are kept")
    if any(len(text) > shape[1] for text in texts):
        said.append(f"of longer sentences the first {shape[1]} words")
    return f"{where}: {'; '.join(said)}." if said else ""


def check(splits: dict[str, Rows], where: str) -> None:
    """Refuse stories that cannot be learnt from.

    Raises:
        ReverieError: where there is nothing to tell apart.
    """
    answers = np.unique(np.concatenate([rows.y for rows in splits.values() if rows.y is not None]))
    if len(answers) < 2:
        raise ReverieError(f"{where}: all answers are the same; give questions with different ones")


def asked_of(rows: Rows, vocabulary: Words, shape: tuple[int, ...]) -> list[Asked]:
    """Return rows as the questions they are."""
    assert rows.y is not None
    found = []
    for (question, story), answer in zip(in_words(rows.x, vocabulary, shape), rows.y, strict=True):
        found.append(Asked(tuple(tuple(one.split()) for one in story), tuple(question.split()), vocabulary[answer]))
    return found


def in_words(rows: Int[np.ndarray, "n D"], vocabulary: Words, shape: tuple[int, ...]) -> list[tuple[str, list[str]]]:
    """Return rows as they are read: the question, and the story, the oldest sentence first."""
    names = ("", *vocabulary)
    found = []
    for row in np.asarray(rows).reshape(-1, *shape).astype(int):
        question, *story = (" ".join(names[word] for word in line if word) for line in row)
        found.append((question, [sentence for sentence in reversed(story) if sentence]))
    return found
