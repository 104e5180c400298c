"""The command line: frozen, quick to help, one line for what is wrong, one JSON object on request."""

from __future__ import annotations

import csv
import inspect
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest

from reverie import cli, files, models, settings, train_command
from reverie.completing import Completed
from reverie.data import load as load_data
from reverie.errors import Interrupted, ReverieError
from reverie.estimate import Estimate
from reverie.evaluate.annealing import End
from reverie.evaluate.log_z import LogZ, Round
from reverie.outputs import Target
from reverie.report.tiles import MISSING
from reverie.train.folder import RunFolder

GOLDEN = Path(__file__).parent / "golden" / "cli.json"
RECORD = Estimate(-17.3, 0.2, 0.01, 300, "lower_bound", "importance-1000")


class StubRun:
    """A run that remembers what it was asked."""

    def __init__(self, path: str = "runs/vae-digits-1") -> None:
        self.path = Path(path)
        self.record = {"status": "finished", "model": "vae"}
        self.facts = SimpleNamespace(columns=("a", "b"), class_names=("zero", "one"), missing=True, whole=False)
        self.facts.like = lambda x, missing: (
            np.array([[1.0, 2.0], [np.nan, 3.0]]) if "holes" in str(x) else np.ones((2, 2))
        )
        self.facts.named = self.facts.filed = lambda rows, given=None: rows
        self.model = None
        self.asked: dict[str, Any] = {}
        self.known: Any = None

    def journal(self) -> list[dict[str, Any]]:
        return [{"step": 1}, {"step": 2, "valid": RECORD.to_json()}]

    def evaluate(self, split: str = "test", **how: Any) -> dict[str, Estimate]:
        self.asked = {"split": split, **how}
        return {"log_likelihood": RECORD}

    def sample(self, n: int, **how: Any) -> np.ndarray:
        self.asked = {"n": n, **how}
        return np.arange(2.0 * n).reshape(n, 2) / 4

    def log_z(self) -> Any:
        return self.known

    def encode(self, x: Any, **how: Any) -> np.ndarray:
        return np.array([[0.1, 1], [2, 3]], np.float32)

    def score(self, x: Any, **how: Any) -> Any:
        sys.stdout.write("a library that chatters\n")
        return np.array([-1.0, -2.5]), RECORD

    def memory(self, **how: Any) -> dict[str, Any]:
        return {"layers": np.array(["top"]), "preference_top": np.array([[0.1, 0.7, 0.2, 0.0], [0.9, 0.0, 0.1, 0.0]]),
                "knockout_top": np.array([[0.5, 0.1], [0.0, 0.1], [2.0, 0.2], [1.0, 0.1]])}  # fmt: skip

    def report(self, **how: Any) -> Path:
        return self.path / "report.html"

    def export(self, path: Path) -> Path:
        return path

    def resume(self, epochs: float | None = None, **how: Any) -> StubRun:
        self.asked = {"epochs": epochs, **how}
        return self


class Stub(ModuleType):
    """In the place of `reverie.run`: it remembers, and trains nothing."""

    def __init__(self) -> None:
        super().__init__("reverie.run")
        self.run_, self.asked, self.raises = StubRun(), {}, None

    def train(self, model: str, **asked: Any) -> Any:
        self.asked = {"model": model, **asked}
        if self.raises is not None:
            raise self.raises
        return [StubRun(f"runs/{i}") for i in range(asked["seeds"])] if "seeds" in asked else self.run_

    def load(self, folder: Path) -> StubRun:
        return self.run_

    def compare(self, *folders: Path, estimator: str | None = None) -> dict[str, Any]:
        return {
            "x - y": {"difference": 0.5, "standard_error": 0.1, "low": 0.3, "high": 0.7, "better": "x", "notes": ["n"]}
        }


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    made = Stub()
    monkeypatch.setitem(sys.modules, "reverie.run", made)
    monkeypatch.setattr(RunFolder, "read", lambda self: {})
    return made


def run_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the one object that stands on stdout."""
    code = cli.main([*words, "--json"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.endswith("}\n")
    return code, json.loads(out)


def frozen() -> dict[str, Any]:
    """Return every verb with its options, their types and defaults."""
    found: dict[str, Any] = {}
    for verb, command in cli.COMMANDS.items():
        found[verb] = {}
        for p in inspect.signature(command).parameters.values():
            annotated, option = get_args(p.annotation)[:2]
            word = "DIR..." if p.kind is p.VAR_POSITIONAL else (option.name or (f"--{p.name.replace('_', '-')}",))
            default = "required" if p.default is p.empty else p.default
            kind = annotated.__name__ if isinstance(annotated, type) else str(annotated).replace("typing.", "")
            found[verb][" ".join((word,) if isinstance(word, str) else word)] = [
                kind.replace("pathlib._local.", "").replace("pathlib.", ""),
                str(default) if isinstance(default, Path) else default,
            ]
    return found


def test_the_command_line_is_frozen(golden: bool) -> None:
    """A change here breaks somebody's script: `make golden`, and say so in CHANGELOG.md."""
    now = json.dumps(frozen(), indent=1) + "\n"
    if golden:
        GOLDEN.write_text(now, encoding="utf-8")
    assert json.loads(now) == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_verbs_and_options_are_the_reserved_names() -> None:
    assert tuple(cli.COMMANDS) == tuple(sorted(cli.COMMANDS, key=settings.VERBS.index))
    assert set(cli.COMMANDS) == set(settings.VERBS)
    assert set(inspect.signature(cli.COMMANDS["train"]).parameters) <= set(settings.TRAIN_OPTIONS)


@pytest.mark.parametrize("verb", settings.VERBS)
def test_every_verb_helps_with_types_defaults_and_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Example: reverie {verb}" in out and "--json" in out
    for parameter in inspect.signature(cli.COMMANDS[verb]).parameters.values():
        assert get_args(parameter.annotation)[1].help, f"{verb} {parameter.name} has no help"


def test_the_examples_can_be_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, command in cli.COMMANDS.items():
        (line,) = (line for line in (command.__doc__ or "").splitlines() if "Example:" in line)
        words = line.split("Example: reverie ")[1].split()
        model = words[1] if verb == "train" else None
        parsed, _, _ = cli.application(model).parse_args(words)
        assert words[0] == verb and parsed is not None
    assert capsys.readouterr().out == ""


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from reverie.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'jax', 'numpy', 'matplotlib', 'scipy', 'sklearn'} & set(sys.modules); sys.exit(code or bool(heavy))"
    )
    for words in (["--help"], ["sample", "--help"], ["train", "--help"], ["models"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
    assert subprocess.run([sys.executable, "-c", program, "cite", "vae"], capture_output=True).returncode == 1


@pytest.mark.parametrize("name", models.discover())
def test_a_model_tells_its_own_arguments(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["train", name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Arguments of {name}" in out and "Presets: fast" in out
    for setting in settings.describe(models.load_module(name).recipe).values():
        assert setting.flag in out
    assert "[default: " in out


@pytest.mark.parametrize("name", models.discover())
def test_no_choice_is_broken_in_a_narrow_terminal(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["train", name, "--help"]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for setting in settings.describe(models.load_module(name).recipe).values():
        if "|" in setting.form:
            assert setting.form in out or f"[choices: {setting.form.replace('|', ', ')}]" in out


def test_help_of_one_model_imports_that_model_alone() -> None:
    program = (
        "import sys; from reverie.cli import main; main(['train', 'iwae', '--help']); "
        "sys.exit('reverie.models.directed.mem_vae' in sys.modules or 'reverie.run' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sampel", "sampel: no such verb; did you mean 'sample'?"),
        ("train vea --data digits", "model: there is no 'vea'; did you mean 'vae'?"),
        ("train vae --data digits --latnt 3", "--latnt: reverie train has no such option; did you mean '--latent'?"),
        ("train vae --conv --data digits", "--conv: needs a value after it, int,...; see `reverie train vae --help`"),
        ("train vae --data digits --adam.epsilon", "--adam.epsilon: needs a value after it, float"),
        (
            "train autoencoder --data digits --conditional",
            "--conditional: reverie train has no such option for autoencoder; aae, gan, gmmn, ",
        ),
        ("train vae --data digits --adam.epsilom=1", "did you mean '--adam.epsilon'?"),
        ("train vae --data digits --epohs 3", "did you mean '--epochs'?"),
        ("train vae --data digits --hidden a", "hidden: 'a' is not a list of lists"),
        ("train vae --data digits --surrogate iwea", "did you mean 'iwae'?"),
        ("train vae --data digits --epochs 3 --steps 3", "--epochs and --steps: each says how long; give one of them"),
        ("train vae --data digits --seed 1 --seeds 3", "--seed and --seeds"),
        ("train vae --data digits --epochs 0", "--epochs: 0 is not more than 0"),
        ("train vae --data digits --config nowhere.toml", "--config: there is no file nowhere.toml"),
        ("train vae --data digits --init-from nowhere", "--init-from: there is no run folder nowhere"),
        ("train vae --data digits --device cup", "--device: 'cup' is not cpu, gpu, cpu:N, gpu:N or all"),
        ("train vae", "--data: reverie train needs it; see `reverie train --help`"),
        ("train", "MODEL: reverie train needs it"),
        ("sample runs/x", "--out: reverie sample needs it"),
        ("sample runs/x --out y.png -n many", "many"),
        ("sample runs/x --out y.gif", "out: y.gif does not end in .png, .npy, .csv, .npz"),
        ("sample runs/x --out nowhere/y.png", "out: there is no folder nowhere; make it"),
        ("encode runs/x --input a --out y.png", "y.png does not end in .csv, .npy, .npz"),
        ("export runs/x --out y.npy", "y.npy does not end in .npz"),
        ("sample runs/x --out y.png", "runs/x: no such run folder"),
        ("compare runs/x", "compare: 1 run given; name two or more folders"),
        ("evaluate runs/x --split tset", "tset"),
        ("runs nowhere", "nowhere: there is no such folder"),
        ("cite vae iwae", "iwae: one word too many"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err
    assert err.startswith("reverie: ") and err.count("\n") == 1
    code, record = run_json(words.split(), capsys)
    assert code == 2 and list(record) == ["error"] and said in record["error"]


def test_train_hands_over_what_was_typed_and_nothing_else(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    typed = "train --data digits mem-vae --latent 4,2 --hidden 8,8/4 --no-conditional --adam.epsilon 1e-4 --k=3"
    code, record = run_json([*typed.split(), "--preset", "fast", "--preset", "digits", "--steps", "7"], capsys)
    assert code == 0 and record["run"] == str(stub.run_.path) and record["validation"]["value"] == -17.3
    del stub.asked["progress"]
    assert stub.asked == {
        "model": "mem-vae", "data": "digits", "preset": ("fast", "digits"), "steps": 7, "data_seed": 0, "refit": False,
        "latent": "4,2", "hidden": "8,8/4", "conditional": False, "adam.epsilon": "1e-4", "k": "3",
    }  # fmt: skip


def test_train_prints_the_run_folder_alone_on_stdout(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "vae", "--data", "digits"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{stub.run_.path}\n" and "next: reverie evaluate" in err


def test_seeds_give_their_mean_and_interval(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = run_json(["train", "vae", "--data", "digits", "--seeds", "3"], capsys)
    assert code == 0 and record["runs"] == ["runs/0", "runs/1", "runs/2"]
    assert len(record["log_likelihood"]["records"]) == 3


def test_the_interval_over_seeds_is_students() -> None:
    found = train_command.over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    # t(0.975, 4) = 2.7764 and s = sqrt(2.5): 3 +- 2.7764 * sqrt(2.5 / 5).
    assert found["low"] == pytest.approx(3 - 1.96324, abs=1e-4) and found["high"] == pytest.approx(4.96324, abs=1e-4)
    assert train_command.over_seeds([1.0])["low"] is None


@pytest.mark.parametrize(
    "error", [Interrupted("stopped at step 5; go on with: reverie resume runs/a b"), KeyboardInterrupt()]
)
def test_being_stopped_is_130_and_says_how_to_go_on(
    error: BaseException, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.raises = error
    assert cli.main(["train", "vae", "--data", "digits"]) == 130
    assert "resume" in capsys.readouterr().err
    code, record = run_json(["train", "vae", "--data", "digits"], capsys)
    assert code == 130 and "resume" in record["error"]


def test_a_used_up_budget_of_minutes_is_no_failure(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.raises = Interrupted("stopped at step 5", run=Path("runs/a b"))
    code, record = run_json(["train", "vae", "--data", "digits", "--minutes", "1e-9"], capsys)
    assert code == 0 and record == {"run": "runs/a b", "status": "stopped", "validation": None}


def test_a_bug_is_called_one_and_shows_its_trace_on_request(
    stub: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.raises = ZeroDivisionError("two\nlines")
    assert cli.main(["train", "vae", "--data", "digits"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "bug in reverie" in err and "ZeroDivisionError: two" in err
    monkeypatch.setenv("REVERIE_DEBUG", "1")
    assert cli.main(["train", "vae", "--data", "digits"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_evaluate_gives_the_whole_record_by_metric(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "d", "--estimator", "ais", "--samples", "8", "--rows", "50", "--minutes", "2"]
    code, record = run_json([*words, "--temperatures", "100"], capsys)
    assert code == 0 and record == {"log_likelihood": RECORD.to_json()}
    del stub.run_.asked["progress"]
    assert stub.run_.asked == {
        "split": "test", "data": None, "estimator": "ais", "samples": 8, "rows": 50, "minutes": 2.0, "seed": 0,
        "temperatures": 100,
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "png"])
def test_sample_writes_by_ending(ending: str, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = run_json(["sample", "d", "-n", "3", "--out", f"x.{ending}", "--class", "one"], capsys)
    assert code == 0 and record == {"out": f"x.{ending}", "rows": 3}
    del stub.run_.asked["progress"]
    assert stub.run_.asked == {"n": 3, "seed": 0, "label": "one", "mean": False}
    wanted = np.arange(6.0).reshape(3, 2) / 4
    if ending == "csv":
        with Path("x.csv").open() as file:
            assert list(csv.reader(file)) == [["a", "b"], ["0", "0.25"], ["0.5", "0.75"], ["1", "1.25"]]
    elif ending == "png":
        assert Path("x.png").read_bytes().startswith(b"\x89PNG")
    else:
        found = np.load(f"x.{ending}", allow_pickle=False)
        np.testing.assert_array_equal(found["x"] if ending == "npz" else found, wanted)
    assert [p.name for p in Path().iterdir()] == [f"x.{ending}"]


def test_sample_hands_over_the_chain_that_was_asked_for(stub: Stub, capsys: Any) -> None:
    words = ["--sweeps", "50", "--start", "data", "--tempered", "4", "--picture", "p.png"]
    code, record = run_json(["sample", "d", "-n", "3", "--out", "x.npy", *words], capsys)
    assert code == 0 and record["picture"] == "p.png"
    asked = {name: stub.run_.asked[name] for name in ("sweeps", "start", "tempered", "picture")}
    assert asked == {"sweeps": 50, "start": "data", "tempered": 4, "picture": Path("p.png")}
    assert cli.main(["sample", "d", "--out", "x.npy", "--picture", "p.gif"]) == 2
    assert "does not end in .png" in capsys.readouterr().err


def test_evaluate_tells_both_sides_of_log_z(stub: Stub, capsys: Any) -> None:
    ends = (End("forward", "lower_bound", 9.9, 0.02), End("raise", "upper_bound", 10.2, 0.03))
    stub.run_.known = LogZ(10.05, 9.9, 10.2, 0.02, 41.5, 0.08, "ais-100x2000", None,
                           (Round(1000, ends), Round(2000, ends)), 100, 3.0, "longest")  # fmt: skip
    assert cli.main(["evaluate", "d"]) == 0
    said = capsys.readouterr().out
    for part in ("[9.900, 10.200]", "forwards 9.900 +- 0.020", "RAISE 10.200 +- 0.030", "41.5 effective of 100 chains",
                 "8.0% of the weight", "2,000 temperatures after 1 doubling,"):  # fmt: skip
        assert part in said
    _, record = run_json(["evaluate", "d"], capsys)
    assert record["log_z"]["doublings"] == 1 and record["log_z"]["ess"] == 41.5 and record["log_z"]["worst"] == 0.08
    assert [end["error"] for end in record["log_z"]["rounds"][-1]["ends"]] == [0.02, 0.03]


def filled(monkeypatch: pytest.MonkeyPatch, truth: float = np.nan, shape: tuple[int, ...] = (2,)) -> dict[str, Any]:
    """Put filled-in rows in the place of imputation; what is asked of it appears in the answer."""
    seen: dict[str, Any] = {}
    rows = np.array([[1.0, np.nan], [0.1, 3.0]])

    def completed(run: Any, x: Any, mask: Any, **how: Any) -> Completed:
        seen.update(x=x, mask=mask, **how)
        parts = (rows, np.array([[1.0, np.nan], [np.nan, 3.0]]), np.array([[1.0, np.nan], [truth, 3.0]]))
        return Completed(*(part.reshape(-1, *shape) for part in parts))

    monkeypatch.setattr("reverie.completing.completed", completed)
    return seen


def test_impute_hands_over_the_rule_and_leaves_unknown_cells_empty(
    stub: Stub, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = filled(monkeypatch)
    code, _ = run_json(["impute", "d", "--input", "i.csv", "--mask", "drop:0.6", "--out", "f.csv"], capsys)
    assert code == 0 and Path("f.csv").read_text() == "a,b\n1,\n0.1,3\n"
    asked = {"x": Path("i.csv"), "mask": "drop:0.6", "iterations": 100, "seed": 0, "label": None, "draw": False}
    assert seen == asked


@pytest.mark.parametrize(("truth", "names"), [(np.nan, 2), (0.2, 3)])
def test_a_picture_of_filled_in_rows_shows_what_was_known_and_the_truth_beside(
    stub: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, truth: float, names: int
) -> None:
    from PIL import Image

    filled(monkeypatch, truth, (1, 2))
    monkeypatch.setattr("reverie.using._limits", lambda run: None)
    assert cli.main(["impute", "d", "--input", "i.csv", "--out", "f.png"]) == 0
    said, path = capsys.readouterr().out.splitlines()
    expected = ["known (what is not: amber)", "filled in", "truth"][:names]
    assert path == "f.png" and said == f"of each row, from left to right: {', '.join(expected)}"
    pixels = np.asarray(Image.open("f.png").convert("RGB"), int)
    zoom = (pixels.shape[1] - 2 * (names - 1)) // (2 * names)
    looks = [pixels[-1, look * (2 * zoom + 2)].tolist() for look in range(names)]
    # The second row's first cell: unknown, filled in by 0.1, in truth 0.2, on a scale from 0.1 to 3.
    assert looks[:2] == [list(MISSING[:3]), [0, 0, 0]] and looks[2:] == [[9, 9, 9]][: names - 2]


def test_a_sheet_of_filled_in_rows_of_a_table_is_text(
    stub: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    filled(monkeypatch, 0.2)
    drawings: list[Figure] = []
    monkeypatch.setattr("reverie.report.sheets.save", lambda figure, path: drawings.append(figure) or path)
    assert cli.main(["impute", "d", "--input", "i.csv", "--out", "f.png"]) == 0
    assert capsys.readouterr().out == "of each from top to bottom: known, filled in, truth\nf.png\n"
    (axes,) = drawings[0].axes
    lines: dict[float, list[Any]] = {}
    for text in axes.texts:
        lines.setdefault(text.get_position()[1], []).append(text)
    told = [[text.get_text() for text in line if text.get_text()] for _, line in sorted(lines.items())]
    assert told == [
        ["row", "a", "b"],
        ["1", "known", "1.000", "?"], ["filled in", "1.000", "?"], ["truth", "1.000", "?"],
        ["2", "known", "?", "3"], ["filled in", "0.100", "3"], ["truth", "0.200", "3"],
    ]  # fmt: skip
    bold = [text.get_text() for text in axes.texts if text.get_weight() == "bold"]
    assert bold == ["?", "?", "0.100", "0.200"]


def test_encode_and_score_name_their_columns(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(["encode", "d", "--input", "i", "--out", "c.csv"], capsys)[0] == 0
    assert Path("c.csv").read_text() == "row,h0,h1\n1,0.1,1\n2,2,3\n"
    assert run_json(["encode", "d", "--input", "holes", "--out", "c.csv"], capsys)[0] == 0
    assert Path("c.csv").read_text() == "row,h0,h1,missing\n1,0.1,1,0\n2,2,3,1\n"
    assert run_json(["encode", "d", "--input", "i", "--out", "c.npy"], capsys)[0] == 0
    np.testing.assert_array_equal(np.load("c.npy"), np.array([[0.1, 1], [2, 3]], np.float32))
    # What a library prints besides goes to stderr: run_json finds one object.
    code, record = run_json(["score", "d", "--input", "i", "--out", "s.csv"], capsys)
    assert code == 0 and Path("s.csv").read_text() == "row,log_likelihood\n1,-1\n2,-2.5\n"
    assert record["log_likelihood"] == RECORD.to_json() and record["rows"] == 2 and record["lowest"] == [2, 1]


def test_scores_say_which_rows_are_the_lowest_and_lack_cells(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["score", "d", "--input", "holes.csv", "--out", "s.csv"]) == 0
    assert Path("s.csv").read_text() == "row,log_likelihood,missing\n1,-1,0\n2,-2.5,1\n"
    assert "lowest (rows from 1): row 2 (-2.50), row 1 (-1.00)\n" in capsys.readouterr().out
    assert cli.main(["score", "d", "--input", "holes.csv", "--out", "s.npy"]) == 0
    np.testing.assert_array_equal(np.load("s.npy"), [-1.0, -2.5])


def test_scores_of_a_folder_call_each_row_by_its_file(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for name in ("cats/2.png", "cats/10.png"):
        Path("pictures", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(Path("pictures", name))
    assert cli.main(["score", "d", "--input", "pictures", "--out", "s.csv"]) == 0
    assert "lowest (rows from 1): row 2 cats/2.png (-2.50), row 1 cats/10.png (-1.00)\n" in capsys.readouterr().out
    assert Path("s.csv").read_text() == "row,log_likelihood,name\n1,-1,cats/10.png\n2,-2.5,cats/2.png\n"
    assert cli.main(["encode", "d", "--input", "pictures", "--out", "c.csv"]) == 0
    assert Path("c.csv").read_text() == "row,h0,h1,name\n1,0.1,1,cats/10.png\n2,2,3,cats/2.png\n"


@pytest.mark.parametrize(
    "words", ["score d --input", "encode d --input", "impute d --input", "impute d --input i --mask"]
)
@pytest.mark.parametrize("read", ["table.csv", "link.csv"])
def test_what_is_read_is_never_replaced(words: str, read: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("table.csv").write_text("a,b\n1,2\n")
    Path("link.csv").symlink_to("table.csv")
    # There is no run here: it is refused before anything is opened.
    for out in ("table.csv", "link.csv"):
        assert cli.main([*words.split(), read, "--out", out]) == 2
        assert capsys.readouterr().err == (
            f"reverie: out: {out} is read by the same command ({read}) and would be lost; name another\n"
        )
    assert Path("table.csv").read_text() == "a,b\n1,2\n"


def test_a_file_of_a_folder_that_is_read_is_not_replaced() -> None:
    Path("images").mkdir()
    Path("images/one.png").write_bytes(b"")
    assert Target.check("images/new.png", read=["images"]).path == Path("images/new.png")
    with pytest.raises(ReverieError, match=r"out: images/one\.png is read by the same command"):
        Target.check("images/one.png", read=["images"])


def test_memory_compare_report_export_cite_resume(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = run_json(["memory", "d"], capsys)
    assert code == 0 and record["layers"]["top"]["top"] == {"zero": [1, 2, 0], "one": [0, 2, 1]}
    assert cli.main(["memory", "d"]) == 0
    out = capsys.readouterr().out
    assert "1 (0.70), 2 (0.20), 0 (0.10)" in out and "slot 2 2.00 +- 0.20, slot 3 1.00" in out
    assert cli.main(["compare", "x", "y"]) == 0
    line = "x - y: +0.500 +- 0.100, 95 % interval [+0.300, +0.700]; x is better\n  n\n"
    assert capsys.readouterr().out == line
    assert run_json(["report", "d"], capsys)[1] == {"out": "runs/vae-digits-1/report.html"}
    assert run_json(["export", "d", "--out", "w.npz"], capsys)[1] == {"out": "w.npz"}
    assert run_json(["cite", "vae"], capsys)[1]["bibtex"].startswith("@inproceedings{")
    assert run_json(["resume", "d", "--epochs", "9"], capsys)[1]["run"] == "runs/vae-digits-1"
    assert stub.run_.asked["epochs"] == 9.0


def test_resuming_a_finished_run_says_so(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["resume", "d"]) == 0
    assert "finished already" in capsys.readouterr().err


def test_runs_are_listed_and_a_damaged_one_hides_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"format": 1, "model": "vae", "data": {"name": "digits"}, "status": "stopped",
             "plan": {"steps": 260, "steps_per_epoch": 13.0}}  # fmt: skip
    other = {"log_likelihood": Estimate(-18.0, 0.2, 0.1, 300, "lower_bound", "elbo-100").to_json()}
    for name, text in (("a-1", json.dumps(whole)), ("b-1", "{")):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "run.json").write_text(text)
    Path("runs/a-1/metrics.jsonl").write_text('{"step": 65, "epoch": 5.0}\n')
    found = {"test/elbo-100": other, "test/importance-1000": {"log_likelihood": RECORD.to_json()}}
    Path("runs/a-1/evaluation.json").write_text(json.dumps(found))
    code, record = run_json(["runs"], capsys)
    a, b = record["runs"]
    assert code == 0 and (a["epochs"], a["planned_epochs"], a["status"]) == (5.0, 20.0, "stopped")
    assert a["test"]["estimator"] == "importance-1000" and b["status"].startswith("damaged")
    assert cli.main(["runs"]) == 0
    out = capsys.readouterr().out
    assert "5 / 20" in out and "-17.30 +- 0.20" in out and "b-1" in out
    assert "Those in runs and this folder, two deep; `reverie runs FOLDER ...` lists those elsewhere." in out
    Path("elsewhere").mkdir()
    assert cli.main(["runs", "elsewhere"]) == 0
    assert "No runs in elsewhere, two deep" in (out := capsys.readouterr().out) and "`reverie runs FOLDER ...`" in out


def test_runs_are_found_wherever_they_lie(capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("runs/a-1", "runs/many/seed-0", "runs/many/seed-1", "cleaner", "far/away/odd"):
        Path(place).mkdir(parents=True)
        Path(place, "run.json").write_text(json.dumps({"format": 1, "model": "vae"}))

    def listed(*words: str) -> tuple[list[str], list[str]]:
        code, record = run_json(["runs", *words], capsys)
        assert code == 0
        return [one["run"] for one in record["runs"]], record["looked"]

    here = ["runs/a-1", "runs/many/seed-0", "runs/many/seed-1", "cleaner"]
    assert listed() == (here, ["runs", "."]), "each of them once, and those that --run put into this folder"
    assert listed("far") == (["far/away/odd"], ["far"])
    assert listed("cleaner", "far/away") == (["cleaner", "far/away/odd"], ["cleaner", "far/away"])
    assert cli.main(["runs", "far", "nowhere"]) == 2
    assert capsys.readouterr().err == "reverie: nowhere: there is no such folder; name one that holds runs\n"


def test_data_lists_the_catalogue_and_understands_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, record = run_json(["data"], capsys)
    assert code == 0 and {"digits", "mnist"} <= {e["name"] for e in record["data"]}
    rows = np.random.default_rng(0).normal(size=(40, 2))
    Path("t.csv").write_text("u,v\n" + "".join(f"{a},{b}\n" for a, b in rows))
    code, record = run_json(["data", "t.csv"], capsys)
    assert code == 0 and record["columns"] == ["u", "v"] and record["likelihood"] == "gaussian" and record["notes"]


def test_data_says_what_training_with_a_law_would_see(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("grey.npy", np.random.default_rng(0).integers(0, 17, (40, 4, 4)).astype(np.uint8))
    laws = {}
    for law in ("bernoulli", "gaussian", "categorical"):
        code, record = run_json(["data", "grey.npy", "--likelihood", law], capsys)
        wanted = load_data("grey.npy", likelihood=law)
        assert code == 0 and (record["binarisation"], record["levels"]) == (wanted.binarisation, wanted.levels)
        assert record["notes"] == list(wanted.notes) and f"Law: {law} (as asked)" in " ".join(record["notes"])
        laws[law] = record["likelihood"]
    assert laws == {law: law for law in laws}
    assert cli.main(["data", "--likelihood", "counts"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("reverie: likelihood: counts of what?") and said.count("\n") == 1
    assert cli.main(["data", "grey.npy", "--likelihood", "normal"]) == 2


def test_models_come_from_the_index(capsys: pytest.CaptureFixture[str]) -> None:
    code, record = run_json(["models"], capsys)
    assert code == 0 and [e["name"] for e in record["models"]] == models.discover()


def test_nothing_is_written_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npy"
    path.write_text("old")
    target = Target.check(path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(ReverieError, match="disk is full"):
        target.write(np.zeros(3))
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("reverie.outputs.tempfile.TemporaryFile", refused)
    with pytest.raises(ReverieError, match=r"out: \. cannot be written to \(Read-only file system\)"):
        Target.check("x.npy")


def test_a_float32_is_written_as_short_as_it_is() -> None:
    Target.check("x.csv").write(np.array([[0.1, 2.0]], np.float32))
    assert Path("x.csv").read_text() == "0.1,2\n"


def test_the_reader_of_a_pipe_may_leave() -> None:
    program = [sys.executable, "-c", "from reverie.cli import main; raise SystemExit(main(['models']))"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(program, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize(
    ("device", "set_"), [("cpu", {"JAX_PLATFORMS": "cpu"}), ("cpu:2", {"JAX_NUM_CPU_DEVICES": "2"})]
)
def test_the_device_is_chosen_before_jax(device: str, set_: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES"):
        monkeypatch.setenv(name, "")
    train_command.choose_device(device)
    assert {name: os.environ[name] for name in set_} == set_


def test_a_length_and_a_budget_of_minutes_go_together() -> None:
    train_command._consistent({"epochs": 10, "minutes": 1.0})
    with pytest.raises(ReverieError, match="--epochs and --steps"):
        train_command._consistent({"epochs": 10, "steps": 1})


def test_strict_tells_doubt_by_the_exit_code(stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    doubted = replace(RECORD, note="UNRELIABLE: the two sides lie 3.0 nats apart; give more temperatures")
    monkeypatch.setattr(StubRun, "evaluate", lambda self, split="test", **how: {"log_likelihood": doubted})
    assert cli.main(["evaluate", "x"]) == 0
    assert "UNRELIABLE" in capsys.readouterr().out
    code, record = run_json(["evaluate", "x", "--strict"], capsys)
    assert code == 1 and record["log_likelihood"]["note"].startswith("UNRELIABLE")
