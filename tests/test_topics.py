"""Topics as words, what units say together, and retrieval, on machines and corpora worked out by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.oracles import assert_kills

import reverie
from reverie import cli, reading
from reverie import data as data_floor
from reverie.data.tiny_text import THEMES
from reverie.errors import ReverieError
from reverie.evaluate import retrieval, topics

WORDS = ("law", "bribe", "oil", "putin", "tea")


def experts() -> topics.Experts:
    """Three units that each favour putin a little beside a word of their own, as in the lecture's example."""
    weights = np.array([[2.0, 0, 0, 1.5, 0], [0, 2.0, 0, 1.5, 0], [0, 0, 2.0, 1.5, 0], [0, 0, 0, -3.0, 2.0]])
    return topics.Experts(weights, np.zeros(5), WORDS)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum()


def test_top_words_are_those_of_the_largest_weights() -> None:
    assert [[WORDS[k] for k in top] for top in experts().top(2)[:3]] == [
        ["law", "putin"], ["bribe", "putin"], ["oil", "putin"]
    ]  # fmt: skip


def test_units_together_multiply() -> None:
    made = experts()
    found = topics.composed(made, [0, 1, 2], 5)
    together = softmax(made.weights[:3].sum(axis=0))
    assert found[0]["word"] == "putin"
    assert found[0]["probability"] == pytest.approx(together[3])
    assert found[0]["alone"] == pytest.approx([softmax(w)[3] for w in made.weights[:3]])
    assert found[0]["shift"] == pytest.approx(np.log(together[3] / 0.2))


def test_a_word_is_raised_by_the_units_that_share_it_beyond_any_mixture() -> None:
    found = topics.raised(experts(), "putin")

    def check(units: list[int]) -> None:
        assert sorted(units) == [0, 1, 2]

    assert_kills(check, found["units"], [0, 1, 3])
    assert found["probability"] > max(found["alone"]) > found["without"]
    assert found["mixture"] == pytest.approx(np.mean(found["alone"]))
    assert found["probability"] > 1.5 * found["mixture"]
    assert topics.raised(experts(), "tea", size=1)["units"] == [3]
    # No other unit favours tea: one more would take away.
    assert topics.raised(experts(), "tea", size=3)["units"] == [3]


@pytest.mark.parametrize(("word", "size", "says"), [("putn", 3, "putin"), ("putin", 9, "1 to 4")])
def test_what_is_not_there_is_refused_in_one_line(word: str, size: int, says: str) -> None:
    with pytest.raises(ReverieError, match=says) as caught:
        topics.raised(experts(), word, size)
    assert "\n" not in str(caught.value)


def test_coherence_is_one_for_words_that_come_together_and_less_for_those_that_never_do() -> None:
    rows = np.array([[1, 2, 0, 1], [3, 1, 0, 0], [0, 0, 1, 1], [0, 0, 2, 0]])
    found = topics.coherence(rows, np.array([[0, 1], [0, 2], [0, 3]]))
    assert found == pytest.approx([1.0, -1.0, 0.0])


def test_lda_is_scored_by_a_bound_that_is_exact_for_one_topic() -> None:
    rng = np.random.default_rng(0)
    train, test = (rng.multinomial(20, [0.5, 0.3, 0.2], size) for size in (200, 50))
    found = topics.lda(train, test, 1, passes=3)
    share = (train.sum(axis=0) + 1.0) / (train.sum() + 3.0)
    wanted = np.exp(-np.mean((test @ np.log(share)) / test.sum(axis=1)))
    assert found.kind == "upper_bound" and found.unit == "perplexity"
    assert found.value == pytest.approx(wanted, rel=5e-3)


def test_precision_and_recall_are_counted_right() -> None:
    library = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    found = retrieval.curve(np.array([[2.0, 0.1]]), np.array([0]), library, np.array([0, 1, 0, 1]))
    np.testing.assert_array_equal(found.first, [1, 2, 4])
    np.testing.assert_allclose(found.precision, [1.0, 0.5, 0.5])
    np.testing.assert_allclose(found.recall, [0.5, 0.5, 1.0])


def test_the_nearest_is_by_angle_and_not_by_length() -> None:
    library = np.array([[10.0, 10.0], [0.1, 0.0], [0.0, 5.0]])
    order, cosine = retrieval.nearest(np.array([[3.0, 0.0]]), library, 2)
    np.testing.assert_array_equal(order, [[1, 0]])
    assert cosine[0] == pytest.approx([1.0, np.sqrt(0.5)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> reverie.Run:
    """A replicated softmax on the tiny corpus of six known themes."""
    folder = tmp_path_factory.mktemp("topics") / "run"
    return reverie.train("replicated-softmax", "tiny-text", run=folder, hidden=8, batch=50, epochs=20, rate=0.02)


def test_a_run_finds_the_themes_and_documents_of_a_theme(run: reverie.Run) -> None:
    found = run.topics(5)
    themes = [set(text.split()) for text in THEMES.values()]
    # Words of one theme: by chance 12 of 92 words, five of them would be of one with a probability of 2e-4.
    pure = sum(max(len(theme & set(topic["words"])) for theme in themes) >= 4 for topic in found["topics"])
    assert pure >= 3, found["topics"]
    curves = run.retrieve(data=None)["curves"]
    assert curves["precision"][0] > 0.5
    assert curves["recall"][-1] > 0.5


def test_the_verbs_answer_as_text_and_json(run: reverie.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["topics", str(run.path), "--raise", "island", "--compose", "0,1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["raise"]["word"] == "island" and len(found["compose"]["words"]) == 10
    assert cli.main(["retrieve", str(run.path), "--query", "3", "--top", "2"]) == 0
    assert "cosine" in capsys.readouterr().out
    assert cli.main(["topics", str(run.path), "--compose", "0,99"]) == 2
    assert "units are 0 to 7" in capsys.readouterr().err
    assert cli.main(["topics", str(run.path), "--raise", "ilsand"]) == 2
    assert "island" in capsys.readouterr().err
    assert cli.main(["retrieve", str(run.path), "--query", "100000"]) == 2


def test_texts_of_ones_own_are_queries(run: reverie.Run, tmp_path: Path) -> None:
    file = tmp_path / "asked.txt"
    file.write_text("The captain anchored the boat in the harbour before the tide and the wave\n")
    found = run.retrieve(file, top=5)["queries"][0]["documents"]
    assert sum(d["class"] == "sea" for d in found) >= 3, found


def test_what_it_cannot_do_is_refused_with_what_it_can(run: reverie.Run) -> None:
    with pytest.raises(ReverieError, match=r"it can: evaluate, sample, score, encode, topics, retrieve$"):
        run.impute(np.zeros((1, 92)))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of texts of two classes that differ in every file."""
    words = [text.split()[1] for text in THEMES.values()] + [text.split()[4] for text in THEMES.values()]
    for number in range(40):
        file = tmp_path / "texts" / ("odd" if number % 2 else "even") / f"{number:02}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        picked = [words[k] for k in range(12) if (number * 7 + 5) >> (k % 6) & 1 or k == number % 12]
        file.write_text(" ".join(picked * (1 + number % 3)))
    return tmp_path / "texts"


@pytest.mark.parametrize("refit", [False, True])
def test_documents_are_called_by_their_files(texts: Path, refit: bool) -> None:
    arguments = {"binarisation": None, "split_rule": None, "likelihood": None, "seed": 3, "refit": refit}
    data = data_floor.load(texts, **arguments)
    stub = SimpleNamespace(record={"data_arguments": {"source": str(texts), **arguments}}, facts=data)
    for split in ("train", "test"):
        titles = reading._titles(stub, split)  # type: ignore[arg-type]
        assert len(titles) == data.size(split)
        for title, row in zip(titles, np.asarray(data.splits[split].x), strict=True):
            told = Counter((texts / title).read_text().split())
            assert {data.columns[k]: int(row[k]) for k in np.flatnonzero(row)} == dict(told)  # type: ignore[index]


@pytest.mark.parametrize("refit", [False, True])
def test_documents_of_a_table_are_called_by_their_rows_there(tmp_path: Path, refit: bool) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (40, 5)) + np.eye(5, dtype=int)[np.arange(40) % 5]
    np.savetxt(tmp_path / "counts.csv", counts, fmt="%d", delimiter=",")
    arguments = {"binarisation": None, "split_rule": None, "likelihood": "counts", "seed": 3, "refit": refit}
    source = str(tmp_path / "counts.csv")
    data = data_floor.load(source, **arguments)
    stub = SimpleNamespace(record={"data_arguments": {"source": source, **arguments}}, facts=data)
    for split in ("train", "test"):
        titles = reading._titles(stub, split)  # type: ignore[arg-type]
        rows = [int(title.removeprefix("row ")) - 1 for title in titles]
        np.testing.assert_array_equal(counts[rows], data.splits[split].x)


def test_documents_found_in_texts_of_ones_own_are_named(
    run: reverie.Run, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = sorted(texts.rglob("*.txt"))[7]
    words = ["retrieve", str(run.path), "--data", str(texts), "--query", str(query), "--top", "3"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "query line 1, by codes" in said and query.relative_to(texts).as_posix() in said
    # Counts have no files: documents go by their numbers.
    found = run.retrieve(3, top=2)["queries"][0]
    assert "title" not in found and "title" not in found["documents"][0]


def test_the_report_tells_topics_perplexities_and_retrieval(run: reverie.Run) -> None:
    page = run.report().read_text(encoding="utf-8")
    for said in ("Topics", "unigram", "Retrieval", "tf-idf", "Documents that chains of the model drew"):
        assert said in page, said
    assert "Reconstructions" not in page
    # Powers of ten as formulas, and a difference of energies among the nats of a likelihood.
    assert "mathdefault" not in page and "minus the loss" not in page


@pytest.mark.parametrize("how", [{"tempered": 3}, {"start": "data"}])
def test_chains_of_ragged_documents_refuse_what_needs_one_length(run: reverie.Run, how: dict[str, object]) -> None:
    with pytest.raises(ReverieError, match="different lengths"):
        run.sample(2, **how)
    assert (run.sample(4, sweeps=5).sum(axis=1) >= 10).all()


def test_completion_is_refused_with_what_can_be_done(run: reverie.Run) -> None:
    with pytest.raises(ReverieError, match="encode"):
        run.impute(run.data.rows("test", 0, 1))
