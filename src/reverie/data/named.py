"""The data sets that have a name: what they are, how they are split, and how they are taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from reverie.data import babi, norb, published, stories, tasks, tiny_stories, tiny_text
from reverie.data.fetch import Published, arrays, is_here
from reverie.data.rows import Raw, Rows
from reverie.data.splits import cut, permutation

#: Splits, and a sentence that says how they were made.
Split = tuple[dict[str, Rows], str]


@dataclass(frozen=True)
class Entry:
    """A data set with a name.

    Attributes:
        name: as `--data` takes it.
        what: one line.
        rows: train, validation and test rows of the default split.
        shape: of one row.
        taken: how it is taken unless something else is asked for.
        licence, source: what may be done with it, and where it comes from.
        rules: the names of its splits, the default first.
        read: gives rows of a rule (or all that there is to say of them), and a sentence about the split.
        classes: names of the classes.
        files: what has to be here.
        binarisation: the default where the rows would not tell.
        white: the value that stands for 1, where the rows would not tell.
        notes: what a reader of results must know besides.
        words: gives the names of the columns, for word counts.
        likelihood: the default law where the rows would not tell.
        inputs: of sequences, the channels of a step that are heard.
    """

    name: str
    what: str
    rows: tuple[int, int, int]
    shape: tuple[int, ...]
    taken: str
    licence: str
    source: str
    read: Callable[[str], Split | tuple[Raw, str]]
    rules: tuple[str, ...] = ("default",)
    classes: tuple[str, ...] | None = None
    files: tuple[Published, ...] = ()
    binarisation: str | None = None
    white: float | None = None
    notes: tuple[str, ...] = ()
    words: Callable[[], tuple[str, ...]] | None = None
    likelihood: str | None = None
    inputs: int = 0

    @property
    def here(self) -> bool:
        """Whether everything needed is on this machine."""
        return all(is_here(file) for file in self.files)

    def raw(self, rule: str) -> tuple[Raw, str]:
        """Return the rows in their splits, and a sentence about the split."""
        splits, text = self.read(rule)
        if isinstance(splits, Raw):
            return replace(splits, notes=(*splits.notes, *self.notes)), text
        columns = self.words() if self.words else None
        return Raw(splits, self.shape, columns, self.classes, self.notes, self.likelihood, inputs=self.inputs), text


def _parts(x: np.ndarray, y: np.ndarray | None, places: Mapping[str, np.ndarray]) -> dict[str, Rows]:
    labels = None if y is None else y.astype(np.int32)
    return {s: Rows(x[index], None if labels is None else labels[index]) for s, index in places.items()}


def _digits(rule: str) -> Split:
    from sklearn.datasets import load_digits

    digits = load_digits()
    places = cut(permutation(1797, 0), 1297, 200)
    text = "Split by the permutation of seed 0: 1,297 / 200 / 300 rows to train, choose and test."
    return _parts(digits.data.astype(np.uint8), digits.target, places), text


def _mnist(rule: str) -> Split:
    train, labels, test, test_labels = (next(iter(arrays(file).values())) for file in published.MNIST)
    ends = {"default": (50_000, 50_000), "iwae": (59_600, 59_600), "mem": (60_000, 50_000)}[rule]
    index = np.arange(60_000)
    splits = _parts(train, labels, {"train": index[: ends[0]], "valid": index[ends[1] :]})
    sizes = f"{ends[0]:,} / {60_000 - ends[1]:,} / 10,000 rows"
    text = f"Split {rule!r}: the first and the last of the 60,000, and the published test rows: {sizes}."
    if rule == "mem":
        text += " The validation rows are training rows too: a choice made on them is optimistic."
    return {**splits, "test": Rows(test, test_labels.astype(np.int32))}, text


def _binarized(rule: str) -> Split:
    splits = {s: Rows(arrays(f)["rows"]) for s, f in zip(("train", "valid", "test"), published.BINARIZED, strict=True)}
    return splits, "Split as published: 50,000 / 10,000 / 10,000 rows to train, choose and test."


def _letters(rule: str) -> Split:
    found = arrays(published.LETTERS[0])
    order = permutation(52_152, 0) if rule == "shuffled" else np.arange(52_152)
    how = "shuffled with seed 0" if rule == "shuffled" else "in the file's order"
    text = f"Split {rule!r}: {how}, 32,152 / 10,000 / 10,000 rows to train, choose and test."
    return _parts(found["rows"], found["labels"], cut(order, 32_152, 10_000)), text


def _omniglot(rule: str) -> Split:
    background, evaluation = (arrays(file) for file in published.OMNIGLOT)
    order = permutation(19_280, 0)
    splits = _parts(background["rows"], background["labels"], {"train": order[:17_352], "valid": order[17_352:]})
    # The alphabets of the evaluation set are others: their numbers go on where those of the background end.
    labels = evaluation["labels"].astype(np.int32) + 30
    text = "Background alphabets to train and choose (17,352 / 1,928, seed 0), evaluation alphabets to test (13,180)."
    return {**splits, "test": Rows(evaluation["rows"], labels)}, text


def _frey(rule: str) -> Split:
    order = permutation(1965, 0)
    places = {"train": order[200:], "valid": order[100:200], "test": order[:100]}
    text = "Split at random with seed 0: 1,765 / 100 / 100 frames to train, choose and test."
    return _parts(arrays(published.FREY[0])["rows"], None, places), text


def _norb(rule: str) -> Split:
    splits = {}
    for split, files in published.NORB.items():
        labels, toys, pairs = (next(iter(arrays(file).values())) for file in files)
        held = toys[:, 0] == norb.HELD_OUT
        parts = {"train": ~held | (rule == "all"), "valid": held} if split == "train" else {"test": ~held}
        for name, some in parts.items():
            splits[name] = Rows(norb.foveate(pairs[some]).reshape(-1, norb.PAIR), labels[some].astype(np.int32))
    sizes = " / ".join(f"{len(splits[name].x):,}" for name in ("train", "valid", "test"))
    text = f"Split {rule!r}: toy {norb.HELD_OUT} of each category to choose, the published toys to test: {sizes} rows."
    if rule == "all":
        text += " The validation rows are training rows too: a choice made on them is optimistic."
    return splits, text


def _tiny_text(rule: str) -> Split:
    x, main = tiny_text.corpus()
    train, valid, test = tiny_text.SIZES
    text = f"Split in the order drawn: {train:,} / {valid} / {test} documents to train, choose and test."
    return _parts(x, main, cut(np.arange(len(x)), train, valid)), text


def _words_in(file: Published) -> tuple[str, ...]:
    return tuple(bytes(arrays(file)["words"]).decode().split("\n"))


def _news(rule: str) -> Split:
    train, test = (_dense(arrays(file)["cells"], 1995) for file in published.NEWS[:2])
    splits = _parts(train, None, cut(permutation(len(train), 0), len(train) - 1000, 1000))
    text = "Split as published, 1,000 training documents held out with seed 0 to choose: 10,258 / 1,000 / 7,487."
    return {"train": splits["train"], "valid": splits["valid"], "test": Rows(test)}, text


def _dense(cells: np.ndarray, words: int) -> np.ndarray:
    x = np.zeros((cells[-1, 0] + 1, words), np.uint16)
    x[cells[:, 0], cells[:, 1]] = cells[:, 2]
    return x


def _news_w100(rule: str) -> Split:
    found = arrays(published.NEWS_W100[0])
    text = "Split by the permutation of seed 0: 12,242 / 2,000 / 2,000 documents to train, choose and test."
    return _parts(found["rows"], found["labels"], cut(permutation(16_242, 0), 12_242, 2_000)), text


def _task(task: tasks.Task) -> Entry:
    def read(rule: str) -> Split:
        from reverie.data import drawn

        sizes = " / ".join(f"{n:,}" for n in tasks.SIZES)
        return drawn.splits(task), f"Drawn by fixed seeds: {sizes} sequences to train, choose and test."

    more = f"Sizes, each drawn evenly: {task.text}. " if task.sizes else ""
    return Entry(
        task.name, f"sequences: {task.what}", tasks.SIZES, task.shape, "drawn afresh at every step of training",
        "Apache-2.0", "reverie, after A. Graves, G. Wayne, I. Danihelka (2014)", read, inputs=task.inputs,
        likelihood="sequences",
        notes=(f"{more}Training draws fresh sequences by seed and step; an epoch is {tasks.SIZES[0]:,} of them.",),
    )  # fmt: skip


def _questions(name: str) -> Entry:
    """Return the entry of bAbI tasks: a set, or some of its tasks."""
    asked = babi.tasks_of(name)
    assert asked is not None
    base, numbers = asked
    file, train = published.BABI[base], babi.SETS[base][1]

    def read(rule: str) -> tuple[Raw, str]:
        return babi.raw(name, babi.texts_of(arrays(file)))

    which = babi.TASKS[numbers[0] - 1] if len(numbers) == 1 else f"{len(numbers)} tasks"
    held, n = train // 10, len(numbers)
    return Entry(
        name, f"questions about stories: {which}", (n * (train - held), n * held, n * 1000), (), "answers to be told",
        "CC BY 3.0, it is said", "J. Weston et al. (2015), bAbI tasks 1.2", read, files=(file,), likelihood=stories.LAW,
    )  # fmt: skip


def _tiny_stories(rule: str) -> tuple[Raw, str]:
    splits = tiny_stories.stories()
    every = [one for some in splits.values() for one in some]
    train, valid, test = tiny_stories.SIZES
    text = f"Split in the order drawn: {train:,} / {valid} / {test} questions to train, choose and test."
    return stories.encoded(splits, stories.vocabulary_of(every)), text


def entry(name: str) -> Entry | None:
    """Return the data set of this name, a task's with its sizes (of bAbI: its number) after a colon; None for no name.

    Raises:
        ReverieError: for sizes, or tasks, that there are not.
    """
    if babi.tasks_of(name) is not None:
        return _questions(name)
    task = tasks.of(name)
    if task is not None:
        return _task(task)
    return next((known for known in ENTRIES if known.name == name), None)


_NUMERALS = tuple("0123456789")
_ALPHABETS = (
    "Alphabet_of_the_Magi Anglo-Saxon_Futhorc Arcadian Armenian Asomtavruli_(Georgian) Balinese Bengali "
    "Blackfoot_(Canadian_Aboriginal_Syllabics) Braille Burmese_(Myanmar) Cyrillic Early_Aramaic Futurama Grantha Greek "
    "Gujarati Hebrew Inuktitut_(Canadian_Aboriginal_Syllabics) Japanese_(hiragana) Japanese_(katakana) Korean Latin "
    "Malay_(Jawi_-_Arabic) Mkhedruli_(Georgian) N_Ko Ojibwe_(Canadian_Aboriginal_Syllabics) Sanskrit "
    "Syriac_(Estrangelo) Tagalog Tifinagh "
    "Angelic Atemayar_Qelisayer Atlantean Aurek-Besh Avesta Ge_ez Glagolitic Gurmukhi Kannada Keble Malayalam Manipuri "
    "Mongolian Old_Church_Slavonic_(Cyrillic) Oriya Sylheti Syriac_(Serto) Tengwar Tibetan ULOG"
)

ENTRIES = (
    Entry(
        "digits", "handwritten digits, embedded in scikit-learn", (1297, 200, 300), (8, 8),
        "binary where the pixel is at least 8", "CC BY 4.0", "E. Alpaydin, C. Kaynak, UCI repository (1998)",
        _digits, classes=_NUMERALS, binarisation="threshold", white=16.0,
    ),
    Entry(
        "mnist", "handwritten digits", (50_000, 10_000, 10_000), (28, 28),
        "grey means, binarised afresh at every visit", "none stated; usually cited as CC BY-SA 3.0",
        "Y. LeCun, C. Cortes, C. Burges", _mnist, ("default", "iwae", "mem"), _NUMERALS, published.MNIST,
    ),
    Entry(
        "binarized-mnist", "handwritten digits, binarised once and published", (50_000, 10_000, 10_000), (28, 28),
        "as is, without classes", "none stated; derived from MNIST", "H. Larochelle, I. Murray (2011)",
        _binarized, files=published.BINARIZED,
    ),
    Entry(
        "ocr-letters", "handwritten letters", (32_152, 10_000, 10_000), (16, 8), "as is", "none stated",
        "R. Kassel, B. Taskar", _letters, ("file", "shuffled"), tuple("abcdefghijklmnopqrstuvwxyz"), published.LETTERS,
    ),
    Entry(
        "omniglot", "characters of 50 alphabets", (17_352, 1_928, 13_180), (28, 28),
        "shares of ink, binarised afresh at every visit", "MIT", "B. Lake, R. Salakhutdinov, J. Tenenbaum (2015)",
        _omniglot, classes=tuple(_ALPHABETS.split()), files=published.OMNIGLOT,
        notes=("Made from the 105 x 105 drawings by area means: not the rows of chardata.mat, on which the IWAE "
               "paper's numbers stand.",),
    ),
    Entry(
        "frey-faces", "photographs of one face, frames of a film", (1765, 100, 100), (28, 20), "real numbers",
        "none stated; long public for research", "B. Frey, S. Roweis", _frey, files=published.FREY,
    ),
    Entry(
        "norb-small", "photographs of toys by two cameras, pooled towards the border", (19_440, 4_860, 24_300),
        (norb.PAIR,), "real numbers, each column centred and scaled", "research only, not to be sold",
        "Y. LeCun, F. J. Huang, L. Bottou (2004)", _norb, ("toys", "all"), norb.CLASSES,
        tuple(file for files in published.NORB.values() for file in files), "as-is",
        notes=("Foveal view: of each 96 x 96 image the central 64 x 64 pixels, and means of blocks in four rings "
               "around them; 4,488 numbers an image, left camera first.",
               "Files put into a folder were not compared with a known SHA-256: checked are magic number, shape, "
               "length, categories and toys.  Files fetched are compared with sums that TensorFlow Datasets recorded."),
    ),
    Entry(
        "tiny-text", "synthetic documents drawn from six themes, made here", tiny_text.SIZES, (len(tiny_text.WORDS),),
        "word counts", "Apache-2.0", "reverie, data/tiny_text.py", _tiny_text, classes=tuple(tiny_text.THEMES),
        notes=("Synthetic: no one wrote these documents. Each is drawn from its main theme, half of them from a "
               "second one too, with a quarter of common words; classes are the main themes.",),
        words=lambda: tiny_text.WORDS, likelihood="counts",
    ),
    Entry(
        "tiny-stories", "small stories made here, with questions", tiny_stories.SIZES, (9, 5), "answers to be told",
        "Apache-2.0", "reverie, data/tiny_stories.py", _tiny_stories, likelihood=stories.LAW,
        notes=("Synthetic: people move and take things, by seed; a quarter of the questions need two sentences.",),
    ),
    Entry(
        "20news", "posts to 20 newsgroups, counts of 1,995 words", (10_258, 1_000, 7_487), (1995,), "word counts",
        "none stated; free for research", "K. Lang (1995); A. Srivastava, C. Sutton's preprocessing (2017)", _news,
        files=published.NEWS, words=lambda: _words_in(published.NEWS[2]), likelihood="counts",
        notes=("The one document without words in each of the two files is left out; there are no classes. "
               "The first word, _eos_, never occurs.",
               "Not the 2,000-word version of the Replicated Softmax and DocNADE papers: their perplexities do not "
               "compare with these.",),
    ),
    Entry(
        "20news-w100", "posts to 4 groups of newsgroups, which of 100 words occur", (12_242, 2_000, 2_000), (100,),
        "as is", "none stated; free for research", "S. Roweis", _news_w100,
        classes=("comp.*", "rec.*", "sci.*", "talk.*"), files=published.NEWS_W100,
        words=lambda: _words_in(published.NEWS_W100[0]),
        notes=("A cell is 1 where the document has the word, however often: --likelihood counts takes it as once.",),
    ),
)  # fmt: skip


# The module is not named so: imported, it would take the function's place in the package.
def catalogue() -> list[Entry]:
    """Return the data sets that have a name."""
    return [*ENTRIES, *map(_questions, babi.SETS), *map(_task, tasks.TASKS)]
