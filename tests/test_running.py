"""Running text: words, the vocabulary, windows that look back within their part, perplexity, and the verb that asks."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

import reverie
from reverie import cli
from reverie import data as data_floor
from reverie.data import running
from reverie.errors import ReverieError


def chain(path: Path, words: int = 400) -> Path:
    """Write a text in which every word but the first says the next: a, b, c, d, a ..."""
    path.write_text(" ".join("abcd"[i % 4] for i in range(words)))
    return path


def test_words_are_told_from_those_before_them_in_their_part(tmp_path: Path) -> None:
    text = "The cat. " * 60 + "A dog barks!"
    (tmp_path / "t.txt").write_text(text)
    found = data_floor.load(tmp_path / "t.txt", likelihood="words")
    assert found.likelihood == "words" and found.shape == (101, 1) and found.class_names == ("<unk>", ".", "cat", "the")
    assert [found.size(s) for s in ("train", "valid", "test")] == [148, 18, 18]
    x, y = found.splits["train"]
    said = [found.class_names[code] for code in y[:4]]
    assert said == ["the", "cat", ".", "the"]
    # No question, then the newest word first; the first word has nothing before it.
    assert not x[0].any() and list(x[2, :4]) == [0, 3, 4, 0]
    assert not found.splits["test"].x[0].any()
    assert [found.class_names[code] for code in found.splits["test"].y[-4:]] == ["<unk>"] * 4
    assert "cut in order" in " ".join(found.notes)


def test_windows_are_those_of_a_loop() -> None:
    codes = np.random.default_rng(0).integers(0, 7, 130)
    x = running._windows(codes, 7).x
    for place, row in enumerate(x):
        before = list(codes[max(0, place - running.MEMORY) : place][::-1] + 1)
        assert list(row[1:]) == before + [0] * (running.MEMORY - len(before)) and row[0] == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.csv", "1,2\n3,4", "is no running text"), ("a.txt", "few words", "has 2 words; give a text of 100"),
     ("a.txt", b"\xff\xfe\x00", "save it as UTF-8")],
)  # fmt: skip
def test_what_is_no_running_text_is_named(name: str, content: str | bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ReverieError, match=words):
        data_floor.load(tmp_path / name, likelihood="words")


def test_a_text_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVERIE_RESIDENT_BYTES", "10000")
    with pytest.raises(ReverieError, match="do not fit into memory; give a part"):
        data_floor.load(chain(tmp_path / "t.txt"), likelihood="words")


def test_what_follows_is_learnt_and_told_as_perplexity(tmp_path: Path) -> None:
    run = reverie.train(
        "memn2n", chain(tmp_path / "t.txt"), likelihood="words", preset="language", width=20, hops=1, batch=16,
        epochs=20, rate=0.2,
    )  # fmt: skip
    found = run.evaluate()
    first = next(iter(found))
    assert first == "cross_entropy" and found["cross_entropy"].value < 0.5 * math.log(4)
    assert found["perplexity"].value == pytest.approx(math.exp(found["cross_entropy"].value))
    assert found["perplexity"].unit == "perplexity" and run.model.running
    with pytest.raises(ReverieError, match="tells running text and answers no questions"):
        run.ask("a b", "c?")
    other = run.evaluate(data=chain(tmp_path / "other.txt", 40))
    assert other["cross_entropy"].n == 40 and other["cross_entropy"].split == "other"
    told = run.memory()
    assert told["questions"][0].startswith("... ") and told["questions"][0].endswith("_")
    assert told["sentences"][0][0].endswith("(1 before)")
    with pytest.raises(ReverieError, match="running text"):
        reverie.train("vae", tmp_path / "t.txt", likelihood="words")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "run"
    reverie.train("memn2n", "tiny-stories", run=place, width=8, hops=2, restarts=1, epochs=2)
    return place


def test_ask_answers_one_question(asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.txt").write_text("Anna went to the attic.\nBoris went to the garden. Anna moved to the cellar.")
    words = ["ask", str(asked), "--story", str(tmp_path / "s.txt"), "--question", "Where is Anna?", "--top", "2"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "anna moved to the cellar" in said and "hop 2" in said
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["answers"]) == 2 and len(told["story"]) == 3 and told["question"] == "Where is Anna?"
    assert cli.main(["ask", str(asked), "--story", "none.txt", "--question", "Where?"]) == 2
    assert "none.txt is no file" in capsys.readouterr().err


def test_ask_takes_lines_until_they_end(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "Anna went to the attic.\nWhere is Anna?\nBoris went to the garden.\nWhere is Boris?\n\nWhere is Anna?\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert cli.main(["ask", str(asked), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["questions"]
    # An empty line begins a new story.
    assert [len(one["story"]) for one in found] == [1, 2, 0]
    monkeypatch.setattr("sys.stdin", io.StringIO("Anna went to the attic.\nWhere is Anna?"))
    assert cli.main(["ask", str(asked)]) == 0
    assert "anna went to the attic" in capsys.readouterr().out


def test_a_question_nobody_understands_does_not_end_the_story(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Anna went to the attic.\nWhrre iz Annna?\n?\nWhere is Anna?\n"))
    assert cli.main(["ask", str(asked), "--json"]) == 0
    one, two, three = json.loads(capsys.readouterr().out)["questions"]
    assert "has no word that training had" in one["error"] and "error" in two
    assert len(three["story"]) == 1 and three["answers"]


def test_a_story_comes_through_a_pipe_and_one_without_sentences_is_said(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    question = ["--story", "-", "--question", "Where is Anna?", "--json"]
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("1 Anna went to the attic.\n2 Where is Anna?\tattic\t1\n3 Boris left.\n")
    )
    assert cli.main(["ask", str(asked), *question]) == 0
    told = json.loads(capsys.readouterr().out)
    # Numbers are no words of a sentence, and what was asked before is none.
    assert [one["sentence"] for one in told["story"]] == ["anna went to the attic", "boris left"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli.main(["ask", str(asked), *question]) == 0
    assert "a guess from the question alone" in json.loads(capsys.readouterr().out)["note"]
    assert cli.main(["ask", str(asked), "--story", "-"]) == 2
    assert "give --question" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [(["a"], ["b"]), ([1, 2], "Where is Anna?"), ("Anna left.", 3), (None, "Who?")])
def test_ask_takes_texts_alone(asked: Path, wrong: tuple) -> None:
    with pytest.raises(ReverieError, match="question must be a text"):
        reverie.load(asked).ask(*wrong)


def test_ask_is_refused_where_no_model_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reverie.train("rbm", "digits", run=tmp_path / "run", hidden=4, steps=2)
    assert cli.main(["ask", str(tmp_path / "run"), "--question", "Where?"]) == 2
    assert "ask: an rbm cannot" in capsys.readouterr().err


def test_one_task_of_a_set_is_asked_for(data_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "memn2n", "--data", "babi", "--task", "15", "--restarts", "1", "--steps", "3", "--run", "r"]
    assert cli.main(words) == 0
    assert reverie.load("r").record["data"]["source"] == "babi:15"
    capsys.readouterr()
    assert cli.main(["train", "memn2n", "--data", "tiny-stories", "--task", "1"]) == 2
    assert "--task: tiny-stories is no set of tasks (babi, babi-10k)" in capsys.readouterr().err


def test_errors_are_told_task_by_task(data_folder: Path) -> None:
    run = reverie.train("memn2n", "babi:19-20", width=6, hops=1, restarts=1, steps=40, run="r")
    found = run.evaluate()
    parts = [found[f"error_rate_task_{task}"] for task in (19, 20)]
    assert [part.n for part in parts] == [1000, 1000] and found["error_rate"].n == 2000
    assert np.mean([part.value for part in parts]) == pytest.approx(found["error_rate"].value)
    some = run.evaluate(rows=50)
    assert sum(some[f"error_rate_task_{task}"].n for task in (19, 20)) == 50
