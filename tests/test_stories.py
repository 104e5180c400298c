"""Stories: the two forms they are read from, how they become rows, how they are split, and the published archive."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import reverie
from reverie import data as data_floor
from reverie.data import babi, stories, tiny_stories
from reverie.errors import ReverieError

TEXT = """1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Daniel took 2 apples, didn't he?!
5 Which way to the hall?\tn,w\t2 4
1 It is late.
2 Is it late?\tYes
"""


def test_the_form_of_the_tasks_is_read_line_by_line() -> None:
    one, two, three = stories.from_text(TEXT, "x")
    assert one.question == ("where", "is", "mary") and one.answer == "bathroom"
    assert one.story == (("mary", "moved", "to", "the", "bathroom"), ("john", "went", "to", "the", "hallway"))
    # What was asked before is no part of the story, and an answer of several words is one word.
    assert two.story == (*one.story, ("daniel", "took", "2", "apples", "didn't", "he")) and two.answer == "n,w"
    assert three == ((("it", "is", "late"),), ("is", "it", "late"), "yes", 1)
    assert [q.number for q in (one, two, three)] == [0, 0, 1]


def test_lines_of_json_are_read_and_a_story_that_goes_on_is_one() -> None:
    lines = [
        {"story": ["Mary is here.", ""], "question": "Where?", "answer": "here"},
        {"story": ["Mary is here.", "She left."], "question": "Where?", "answer": "gone"},
        {"story": "John came. He sat\ndown", "question": "Who?", "answer": "John."},
    ]
    found = stories.from_lines("\n\n".join(map(json.dumps, lines)), "x")
    assert [q.number for q in found] == [0, 0, 1] and found[2].answer == "john"
    assert found[2].story == (("john", "came"), ("he", "sat"), ("down",)) and found[0].story == (
        ("mary", "is", "here"),
    )


def test_a_row_is_the_question_and_the_newest_sentences_first() -> None:
    asked = stories.from_text(TEXT, "x")
    raw = stories.encoded({"all": asked}, stories.vocabulary_of(asked))
    assert raw.shape == (4, 6) and raw.splits["all"].x.dtype == np.uint8 and list(raw.groups) == [0, 0, 1]
    texts = stories.in_words(raw.splits["all"].x, raw.class_names, raw.shape)
    assert texts[0] == ("where is mary", ["mary moved to the bathroom", "john went to the hallway"])
    assert [raw.class_names[y] for y in raw.splits["all"].y] == ["bathroom", "n,w", "yes"]
    first = raw.splits["all"].x[0].reshape(raw.shape)
    assert raw.class_names[first[1, 0] - 1] == "john" and not first[3].any()
    assert stories.asked_of(raw.splits["all"], raw.class_names, raw.shape) == [q._replace(number=0) for q in asked]


def test_of_long_stories_the_oldest_sentences_are_dropped() -> None:
    told = tuple((f"word{i}",) for i in range(60))
    raw = stories.encoded(
        {"all": [stories.Asked(told, ("q",), "a")]}, stories.vocabulary_of([stories.Asked(told, ("q",), "a")])
    )
    question, story = stories.in_words(raw.splits["all"].x, raw.class_names, raw.shape)[0]
    assert story == [f"word{i}" for i in range(10, 60)] and question == "q"
    assert any("newest 50" in note for note in raw.notes) and raw.splits["all"].x.dtype == np.uint8


def test_own_stories_are_split_story_by_story(tmp_path: Path) -> None:
    lines = [f"1 Sentence {s}.\n2 Which?\tone\n3 And?\ttwo\n" for s in range(40)]
    (tmp_path / "mine.txt").write_text("".join(lines))
    found = data_floor.load(tmp_path / "mine.txt")
    assert found.likelihood == "stories" and found.classes == len(found.class_names)
    seen = {split: {text for _, (text,) in stories.in_words(found.splits[split].x, found.class_names, found.shape)}
            for split in ("train", "valid", "test")}  # fmt: skip
    assert [len(seen[split]) for split in seen] == [32, 4, 4] and not set.intersection(*seen.values())
    assert found.size("train") == 64 and "stories kept whole" in " ".join(found.notes)
    other = data_floor.load(tmp_path / "mine.txt", seed=1)
    assert other.hash != found.hash and data_floor.load(tmp_path / "mine.txt").hash == found.hash


def test_stories_are_told_from_documents_and_from_sequences(tmp_path: Path) -> None:
    lines = ["1 apple pie every day", "2 apple trees bear fruit", "3 fruit trees grow here", "4 pie every day again"]
    (tmp_path / "documents.txt").write_text("\n".join(lines * 5))
    assert data_floor.load(tmp_path / "documents.txt").likelihood == "counts"
    (tmp_path / "s.jsonl").write_text('{"input": [[0]], "answer": [[1]]}\n' * 9)
    assert data_floor.load(tmp_path / "s.jsonl").likelihood == "sequences"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "1 One.\nTwo.\n3 Q?\tx", r"a\.txt, line 2: has no number in front; give numbered lines"),
        ("a.txt", "1 One.\n2 Q?\t \t1", r"line 2: lacks its question or its answer"),
        ("a.txt", "1 One.\n2 ?\tyes", r"line 2: lacks its question or its answer"),
        ("a.txt", "1 A.\n2 Q?\tx\n3 Q?\tx\n1 B.\n2 Q?\ty", r"has 2 stories; give at least three"),
        ("a.txt", "1 A.\n2 Q?\tx\n1 B.\n2 Q?\tx\n1 B.\n2 Q?\tx", r"all answers are the same"),
        ("a.jsonl", '{"question": "Q?", "story": []}', r"line 1: is no question; give lines such as"),
        ("a.jsonl", '{"question": "?!", "story": [], "answer": "x"}', r"line 1: lacks its question"),
        ("a.jsonl", '{"question": "Q?", "story": [], "answer": null}', r"line 1: is no question"),
        ("a.jsonl", '{"question": 3, "story": [], "answer": "x"}', r"line 1: is no question"),
    ],
)
def test_what_is_no_story_is_named(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReverieError, match=words) as caught:
        data_floor.load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_mark_that_editors_put_first_is_no_word(tmp_path: Path) -> None:
    text = "".join(f"1 A{s} b.\n2 Which?\tone\n3 And?\ttwo\n" for s in range(9))
    lines = "".join(json.dumps({"story": [f"A{s}"], "question": "Q?", "answer": "xy"[s % 2]}) + "\n" for s in range(9))
    for name, content in (("a.txt", text), ("a.jsonl", lines)):
        (tmp_path / name).write_text(content, encoding="utf-8")
        plain = data_floor.load(tmp_path / name)
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
        assert data_floor.load(tmp_path / name).hash == plain.hash and plain.likelihood == "stories"


def test_rows_and_stories_are_not_taken_for_each_other() -> None:
    with pytest.raises(ReverieError, match="digits: a memn2n answers questions about stories, and these are rows"):
        reverie.train("memn2n", "digits")
    with pytest.raises(ReverieError, match=r"copy:1-2: a memn2n answers questions .*, and these are sequences"):
        reverie.train("memn2n", "copy:1-2")
    with pytest.raises(
        ReverieError, match=r"tiny-stories: has stories with questions, and a vae models rows; use memn2n"
    ):
        reverie.train("vae", "tiny-stories")
    with pytest.raises(ReverieError, match=r"tiny-stories has stories, whose answers are words; leave it out"):
        data_floor.load("tiny-stories", likelihood="bernoulli")


def answered_by_hand(asked: stories.Asked) -> str:
    """Return the answer that the sentences bear out, followed in order."""
    at, carried = {}, {}
    for told in asked.story:
        if told[1] == "took":
            carried[told[3]] = told[0]
        else:
            at[told[0]] = told[-1]
    what = asked.question[-1]
    return at[carried.get(what, what)]


def test_small_stories_bear_their_answers_out_and_need_two_sentences_a_quarter_of_the_time() -> None:
    made = tiny_stories.stories()
    every = [asked for some in made.values() for asked in some]
    assert [len(some) for some in made.values()] == list(tiny_stories.SIZES)
    assert all(answered_by_hand(asked) == asked.answer for asked in every)
    assert 0.2 < np.mean([asked.question[2] == "the" for asked in every]) < 0.35
    assert tiny_stories.stories() == made and tiny_stories.stories(1) != made


def archive(folder: str, lacking: tuple[str, ...] = ()) -> bytes:
    """Return a tar of 20 tasks whose stories say which they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for task in range(1, 21):
            for part in ("train", "test"):
                name = f"tasks_1-20_v1-2/{folder}/qa{task}_some-task_{part}.txt"
                if f"qa{task}_{part}" in lacking:
                    continue
                text = f"1 This is task {task}.\n2 Is it?\tyes\n3 Not?\tno\n" * 20
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                made.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_the_archive_is_read_task_by_task() -> None:
    texts = babi.texts_of(babi.parse(archive("en"), "en"))
    assert len(texts) == 40 and "task 7." in texts[7, "train"] and "task 20." in texts[20, "test"]
    lacking = babi.texts_of(babi.parse(archive("en-10k", ("qa3_train",)), "en-10k"))
    assert lacking[3, "train"] == "" and "task 3." in lacking[3, "test"] and lacking.keys() == texts.keys()
    with pytest.raises(ReverieError, match="lacks a file of task 3"):
        babi.raw("babi-10k:3", lacking)


def test_tasks_stand_where_they_are_without_the_one_that_is_not_here() -> None:
    whole, lacking = (babi.parts("babi-10k:2-5", "test", rows) for rows in (4000, 3000))
    assert whole["task 4"] == slice(2000, 3000) and "task 3" in whole
    assert lacking["task 4"] == slice(1000, 2000) and "task 3" not in lacking
    # Training rows with those that chose among them are in another order.
    assert babi.parts("babi", "train", 20_000) == {} and len(babi.parts("babi", "train", 18_000)) == 20


@pytest.mark.parametrize(
    ("name", "found"),
    [("babi", ("babi", tuple(range(1, 21)))), ("babi:7", ("babi", (7,))), ("babi-10k:2-4", ("babi-10k", (2, 3, 4))),
     ("digits", None), ("babies", None)],
)  # fmt: skip
def test_names_of_tasks(name: str, found: object) -> None:
    assert babi.tasks_of(name) == found


@pytest.mark.parametrize("name", ["babi:0", "babi:21", "babi:5-2", "babi:x", "babi:1-", "babi-10k:1,2"])
def test_names_of_no_tasks_are_refused(name: str) -> None:
    with pytest.raises(ReverieError, match="is no task of babi"):
        data_floor.load(name)


def test_the_published_tasks(data_folder: Path) -> None:
    one = data_floor.load("babi:1")
    assert one.classes == 19 and one.shape == (11, 6) and [one.size(s) for s in one.splits] == [900, 100, 1000]
    every = data_floor.load("babi")
    # The paper counts 177 words.
    assert every.shape[0] == 51 and every.size("test") == 20_000 and 170 < every.classes < 185
    place = babi.parts("babi", "test", every.size("test"))["task 8"]
    answers = {every.class_names[y] for y in every.splits["test"].y[place]}
    assert "milk" in answers and "nothing" in answers and not answers & {"yes", "no"}
    assert babi.parts("babi:8", "test", 1000) == {}
    with pytest.raises(ReverieError, match="lacks a file of task 3"):
        data_floor.load("babi-10k:3")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> reverie.Run:
    return reverie.train(
        "memn2n", "tiny-stories", run=tmp_path_factory.mktemp("runs") / "run", width=8, hops=2, restarts=1, epochs=2
    )


def test_questions_of_ones_own_are_evaluated_by_the_words_of_training(
    run: reverie.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("1 Anna went to the attic.\n2 Zoe ran quickly.\n3 Where is Anna?\tattic\n")
    found = run.evaluate(data=tmp_path / "mine.txt")
    assert found["error_rate"].n == 1 and found["error_rate"].split == "mine"
    assert "3 words that training did not have are left out (zoe, ran, quickly)" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("1 Anna went to the attic.\n2 Is she?\tyes\n")
    with pytest.raises(ReverieError, match=r"answers that training did not have \(yes\)"):
        run.evaluate(data=tmp_path / "mine.txt")
    with pytest.raises(ReverieError, match="holds no stories"):
        run.evaluate(data="digits")
    with pytest.raises(ReverieError, match=r"none\.txt: no such file"):
        run.evaluate(data="none.txt")
    # Its own test questions, by name, are those of the test split.
    again = run.evaluate(data="tiny-stories")
    assert again["cross_entropy"].value == pytest.approx(run.evaluate()["cross_entropy"].value, rel=1e-6)


def test_a_model_that_answers_questions_says_what_it_cannot(run: reverie.Run) -> None:
    for verb in (lambda: run.score("tiny-stories"), lambda: run.sample(3), lambda: run.encode("tiny-stories")):
        with pytest.raises(ReverieError):
            verb()
    with pytest.raises(ReverieError, match=r"question: has no word that training had; it had anna, attic"):
        run.ask("Anna went to the attic.", "Warum?")
    with pytest.raises(ReverieError, match="top: 0 is no number of answers"):
        run.ask("Anna went to the attic.", "Where is Anna?", top=0)
    long = ["Anna went to the attic."] * 12
    told = run.ask(long, "Where is Anna?", top=40)
    assert len(told["answers"]) == 20 and len(told["story"]) == 8 and "newest 8 sentences" in told["note"]
    assert sum(one["probability"] for one in told["answers"]) == pytest.approx(1.0, rel=1e-5)


def test_what_hops_read_is_kept_and_drawn(run: reverie.Run) -> None:
    found = run.memory()
    assert found["attention"].shape == (6, 2, 8) and found["questions"][0].startswith("where is")
    assert ((found["attention"].sum(axis=2) > 0) & (found["attention"].sum(axis=2) < 1)).all()
    assert (run.path / "memory.png").stat().st_size > 5000
    page = run.report().read_text()
    assert "What it reads" in page and str(found["questions"][0]) in page
    before = (run.path / "arrays" / "memory.npz").stat().st_mtime_ns
    run.report()
    assert (run.path / "arrays" / "memory.npz").stat().st_mtime_ns == before


def test_what_hops_read_of_other_questions(run: reverie.Run, tmp_path: Path) -> None:
    text = "1 Anna went to the attic.\n2 Where is Anna?\tattic\n3 Boris took the key.\n4 Where is Boris?\tcellar\n"
    (tmp_path / "mine.txt").write_text(text)
    found = run.memory(data=tmp_path / "mine.txt")
    assert list(found["questions"]) == ["where is anna", "where is boris"] and list(found["right"]) == [
        "attic",
        "cellar",
    ]
    # The report looks at test questions again.
    assert "where is boris" not in run.report().read_text() or len(run.folder.load_arrays("memory")["questions"]) == 6
