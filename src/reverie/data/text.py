"""Plain text as word counts: a folder of .txt files, a file with one document a line, or lists of strings.

The words are chosen by scikit-learn's `CountVectorizer`; new documents are counted with the words of the training rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from reverie.data import counts, folders, images, tables
from reverie.data.cells import is_number
from reverie.data.rows import Raw, Rows
from reverie.errors import ReverieError

#: The most words that are kept, the most frequent ones, and how many documents a word must occur in.
MOST_WORDS, FEWEST_DOCUMENTS = 2000, 2
#: So many lines are looked at to tell text from a table.
_SEEN = 20
_OTHERWISE = (
    "For other words count them yourself: scipy.sparse.save_npz('docs.npz', CountVectorizer(...).fit_transform(texts)) "
    "and the words, one a line, in docs.vocab.txt."
)
#: Documents by split, and what a message calls each of them.
Documents = Mapping[str, Sequence[str]]


def holds_text(path: Path) -> bool:
    """Say whether a folder has text files and no image, or a .txt file has text and no table of numbers."""
    if path.is_dir():
        found = folders.files(path)
        return not any(map(images.is_image, found)) and any(map(_is_txt, found))
    return _is_txt(path) and path.exists() and is_prose(path)


def is_texts(value: Any) -> bool:
    """Say whether `value` is a list (tuple, array) of strings, a document each."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "UO" and all(isinstance(text, str) for text in value)
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(text, str) for text in value)


def is_prose(path: Path) -> bool:
    """Say whether a file's first lines are text rather than a table of numbers.

    A table has lines of as many cells each, one of them a number in every line below the header, or at least as many
    numbers as words.
    """
    lines = _lines(_decoded(path, 2**16), _SEEN)
    if not lines:
        return False
    body = lines[1:] or lines
    for delimiter in (*tables.DELIMITERS, None):
        cells = [line.split(delimiter) for line in body]
        if len(cells[0]) > 1 and {len(row) for row in cells} == {len(cells[0])}:
            numeric = [all(is_number(cell) for cell in column) for column in zip(*cells, strict=True)]
            if (any(numeric) and delimiter is not None) or all(numeric):
                return False
    tokens = [token for line in body for token in re.split(rf"[\s{tables.DELIMITERS}]+", line) if token]
    return 2 * sum(map(is_number, tokens)) < len(tokens)


def read(path: Path) -> Raw:
    """Read a folder of .txt files or a file with one document a line; see `holds_text`.

    Raises:
        ReverieError: naming the file that is no text, the documents without words, or a corpus without any.
    """
    documents, names, y, class_names, notes = _documents(path)
    x, words, more = counted(documents, str(path), names)
    splits = {split: Rows(x[split], None if y is None else y[split]) for split in x}
    return Raw(splits, (len(words),), words, class_names, (*notes, *more), counts.LAW)


def titles(path: Path) -> dict[str, list[str]]:
    """Return what each document is called, its file or its line, by split: ``all`` where that is yet to be made."""
    return _documents(path)[1]


def recounted(source: Path | Sequence[str], words: Sequence[str], where: str) -> tuple[Shaped[np.ndarray, "n K"], str]:
    """Return the documents of `source` as counts of `words`, and a sentence on what was left out, if anything.

    Raises:
        ReverieError: as `read`, and for documents that have none of the words.
    """
    if isinstance(source, Path):
        documents, names, *_ = _documents(source)
    else:
        documents, names = {"all": list(source)}, {"all": [f"document {i + 1}" for i in range(len(source))]}
    place: dict[str, int] = {}
    for i, word in enumerate(words):
        place.setdefault(word.lower(), i)
    maker = _vectoriser(vocabulary=list(place))
    texts = [text for split in documents.values() for text in split]
    matrix, total = maker.transform(texts), sum(len(tokens) for tokens in map(maker.build_analyzer(), texts))
    x = np.zeros((len(texts), len(words)), np.int32)
    # Of words that differ in capitals alone the first one takes all.
    x[:, list(place.values())] = counts.dense(matrix, where)
    _refuse_empty({"all": x}, {"all": [name for split in names.values() for name in split]}, where)
    lost = total - int(x.sum())
    said = f"{where}: {lost:,} of {total:,} words are not of the model's vocabulary and were left out."
    return x, said if lost else ""


def counted(
    documents: Documents, where: str, names: Mapping[str, Sequence[str]] | None = None
) -> tuple[dict[str, Shaped[np.ndarray, "n K"]], tuple[str, ...], tuple[str, ...]]:
    """Return the counts of each split, the words they count, and a sentence or two on how they were chosen.

    The words are those of ``train`` (of ``all`` where the split is yet to be made).

    Raises:
        ReverieError: for documents without words, or a corpus in which no word is left.
    """
    maker = _vectoriser(stop_words="english", max_features=MOST_WORDS, min_df=FEWEST_DOCUMENTS)
    first = "train" if "train" in documents else "all"
    try:
        maker.fit(documents[first])
    except ValueError:
        raise ReverieError(
            f"{where}: no word is left: none is in {FEWEST_DOCUMENTS} documents or more besides stop words; "
            "give more or longer documents, or counts of your own"
        ) from None
    x = {split: counts.dense(maker.transform(texts), where) for split, texts in documents.items()}
    _refuse_empty(x, names or _numbered(documents), where)
    words = tuple(map(str, maker.get_feature_names_out()))
    chosen = "of the training documents alone" if first == "train" else "over all documents, before they are split"
    return x, words, (
        f"{len(words):,} words, chosen {chosen}: lower case, of two letters or digits at least, no English stop "
        f"words of scikit-learn, in at least {FEWEST_DOCUMENTS} documents, at most the {MOST_WORDS:,} most frequent.",
        _OTHERWISE,
    )  # fmt: skip


def _vectoriser(**how: Any) -> Any:
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(lowercase=True, **how)


def _numbered(documents: Documents) -> dict[str, list[str]]:
    return {
        split: [f"{'' if split == 'all' else f'{split} '}document {i + 1}" for i in range(len(texts))]
        for split, texts in documents.items()
    }


def _refuse_empty(x: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]], where: str) -> None:
    empty = [names[split][i] for split, rows in x.items() for i in np.flatnonzero(~rows.any(axis=1)).tolist()]
    if empty:
        counts.refuse_empty(empty, where)


def _documents(path: Path) -> tuple[dict[str, list[str]], dict[str, list[str]], Any, Any, list[str]]:
    """Return documents, their names and their classes by split; the classes' names; and what was read."""
    return _of_folder(path) if path.is_dir() else _of_lines(path)


def _of_folder(folder: Path) -> tuple[dict[str, list[str]], dict[str, list[str]], Any, Any, list[str]]:
    found = folders.files(folder)
    paths = [path for path in found if _is_txt(path)]
    places, y, class_names = folders.arranged(folder, paths, "text files")
    texts = [_decoded(path) for path in paths]
    titles = [path.relative_to(folder).as_posix() for path in paths]
    notes = [f"Read as text: {len(paths):,} .txt files, one document each."]
    if len(found) > len(paths):
        notes.append(f"{len(found) - len(paths):,} files that are no .txt were left out.")
    return (
        {split: [texts[i] for i in mine] for split, mine in places.items()},
        {split: [titles[i] for i in mine] for split, mine in places.items()},
        None if y is None else {split: y[mine] for split, mine in places.items()},
        class_names,
        notes,
    )


def _of_lines(path: Path) -> tuple[dict[str, list[str]], dict[str, list[str]], Any, Any, list[str]]:
    lines = [(number, line) for number, line in enumerate(_decoded(path).splitlines(), 1)]
    kept = [(number, line) for number, line in lines if line.strip()]
    blank = f", blank ones left out ({len(lines) - len(kept):,})" if len(lines) > len(kept) else ""
    notes = [f"Read as text, one document a line: {len(kept):,} lines{blank}."]
    names = {"all": [f"line {number}" for number, _ in kept]}
    return {"all": [line for _, line in kept]}, names, None, None, notes


def _is_txt(path: Path) -> bool:
    return path.suffix.lower() == ".txt" and not path.name.lower().endswith(".vocab.txt")


def _lines(text: str, most: int) -> list[str]:
    return [line for line in text.splitlines() if line.strip()][:most]


def _decoded(path: Path, most: int = -1) -> str:
    """Return the text of a file, of its first `most` bytes where it is given.

    Raises:
        ReverieError: for what is no text in UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most)
    except OSError as error:
        raise ReverieError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    cut = most >= 0 and len(content) == most
    try:
        # What is cut off within a letter is no fault of the file.
        text = content.decode("utf-8-sig", errors="ignore") if cut else content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ReverieError(f"{path}: not text in UTF-8; save it in UTF-8, or take it out")
    return text
