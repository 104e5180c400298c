"""The report reads folders: synthetic ones here, of plausible arrays, so that no model has to be trained."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from sklearn.datasets import load_digits

from reverie.errors import ReverieError
from reverie.estimate import Estimate, paired_difference
from reverie.report import figures, microscope, page, sections, sections_memory, sections_missing, strips, tables, tiles
from reverie.report.reading import Number, RunView
from reverie.report.sections_about import command, spelled
from reverie.report.style import RUNS, inline_svg

SECTIONS = ["numbers", "diagnoses", "curves", "samples", "reconstructions", "imputation", "units", "codes", "memory",
            "settings", "data", "provenance"]  # fmt: skip
ALWAYS = ["numbers", "settings", "data", "provenance"]
HASH = "9f2ab47c3de81f60" * 4


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return 300 real rows in [0, 1] and their classes, which look like what a model would draw."""
    bunch = load_digits()
    return (bunch.data[:300] / 16.0).astype(np.float32), bunch.target[:300]


def record(seed: int, shift: float = 0.0) -> tuple[Estimate, np.ndarray]:
    rows = np.random.default_rng(7).normal(-17.3, 4.0, 300) + np.random.default_rng(seed).normal(shift, 0.6, 300)
    certificate = {"kind": "lower_bound", "estimator": "importance-5000", "measure": "mass", "split": "test",
                   "binarisation": "threshold", "data_hash": HASH, "seed": 0}  # fmt: skip
    return Estimate.of_rows(rows, row_variances=np.full(300, 0.004), **certificate), rows


def write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")


def write_record(folder: Path, model: str, seed: int) -> None:
    write_json(folder / "run.json", {
        "format": 1, "model": model, "presets": ["digits"], "seed": seed,
        "settings": {"latent": [16], "hidden": [[100, 100]], "k": 1, "rate": 0.001, "attention": "softmax",
                     "slots": [20, 10], "warmup": None, "analytic": False,
                     "adam": {"epsilon": 1e-8, "clip_norm": None}},
        "data": {"name": "digits", "source": "digits", "rows": {"train": 1297, "valid": 200, "test": 300},
                 "shape": [8, 8], "likelihood": "bernoulli", "binarisation": "threshold", "levels": 0, "shift": 0.0,
                 "scale": 16.0, "columns": None, "class_names": [str(i) for i in range(10)], "missing": False,
                 "split_rule": "default", "hash": HASH, "measure": "mass",
                 "notes": ["1,797 images of 8 x 8, 0 to 16: made binary at 8.", "3 columns are constant."]},
        "data_arguments": {"source": "digits", "binarisation": None, "likelihood": None, "split_rule": None, "seed": 0},
        "plan": {"epochs": 300, "steps": 7800, "batch": 50, "steps_per_epoch": 25.94, "asked_steps": None},
        "parameters": 38912 + 4144 * (model == "mem-vae"), "select": "best", "init_from": None,
        "versions": {"reverie": "0.1.0", "jax": "0.10.2", "python": "3.11.9"}, "commit": "0871db9",
        "hardware": {"machine": "x86_64", "cores": 2, "device": "cpu"}, "exact": True, "status": "finished",
        "reason": None,
        "segments": [{"from_step": 0, "to_step": 5000, "started": "2026-11-21T10:00:00Z", "seconds": 31.2,
                      "device": "cpu"},
                     {"from_step": 5000, "to_step": 7800, "started": "2026-11-21T10:04:00Z", "seconds": 17.9,
                      "device": "cpu"}],
    })  # fmt: skip


def write_journal(folder: Path, seed: int) -> None:
    rng, lines = np.random.default_rng(seed), []
    for epoch in np.arange(1, 301, 2.0):
        value = -18.2 - 25 * np.exp(-epoch / 9) - 4 * np.exp(-epoch / 60) + rng.normal(0, 0.12)
        line = {"step": int(26 * epoch), "epoch": epoch, "seconds": epoch / 6, "loss": -value, "elbo": value}
        if epoch % 10 == 1:
            falling = 0.004 * max(0.0, epoch - 200)
            valid = Estimate(value + 0.9 - falling, 0.3, 0.01, 200, "lower_bound", "importance-100", split="valid")
            line["valid"] = valid.to_json()
        lines.append(json.dumps(line))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def write_arrays(folder: Path, rng: np.random.Generator) -> None:
    x, y = digits()
    soft = np.clip(0.85 * x + 0.15 * x[rng.permutation(300)], 0, 1)
    save(folder, "samples", means=soft[:64], samples=(rng.random((64, 64)) < soft[:64]).astype(np.float32))
    save(folder, "reconstructions", inputs=(x[:16] > 0.5).astype(np.float32), outputs=soft[:16])
    fade = 0.08 + 0.3 * np.exp(-np.arange(30) / 3)
    for rule, known in (("drop-0.6", rng.random((8, 64)) > 0.6), ("half", np.arange(64) % 8 >= 4)):
        masks = np.broadcast_to(known, (8, 64))
        frames = np.where(masks, x[:8], np.clip(x[:8] + fade[:, None, None] * rng.normal(size=(30, 8, 64)), 0, 1))
        save(folder, f"imputation-{rule}", inputs=x[:8], masks=masks, frames=frames, errors=fade**2)
    save(folder, "units", activity_1=np.r_[10 ** rng.uniform(-0.8, 0, 11), 10 ** rng.uniform(-5, -3, 5)],
         kl_1=np.r_[rng.uniform(0.5, 2, 11), rng.uniform(0, 0.01, 5)])  # fmt: skip
    centred = x - x.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    save(folder, "codes", codes=centred @ axes.T, labels=y, kind=np.array("pca"))


def write_memory(folder: Path, rng: np.random.Generator) -> None:
    x, y = digits()
    arrays: dict[str, Any] = {"layers": np.array(["near data", "near code"])}
    for layer, slots in (("near data", 20), ("near code", 10)):
        preference = rng.dirichlet(np.full(slots, 0.25), 10)
        arrays[f"preference_{layer}"] = arrays[f"profile_{layer}"] = preference
        arrays[f"usage_{layer}"] = preference.mean(0)
        arrays[f"entropy_{layer}"] = np.log(slots) * rng.beta(2, 4, 300)
        arrays[f"images_{layer}"] = np.stack([x[y == s % 10].mean(0) for s in range(slots)])
        arrays[f"knockout_{layer}"] = np.stack([preference.mean(0) * 6 - 0.05, np.full(slots, 0.06)], 1)
    save(folder, "memory", **arrays)


def save(folder: Path, name: str, **arrays: Any) -> None:
    (folder / "arrays").mkdir(exist_ok=True)
    np.savez(folder / "arrays" / f"{name}.npz", **arrays)


def make_run(folder: Path, model: str = "mem-vae", seed: int = 0, *, shift: float = 0.0, memory: bool = True) -> Path:
    """Write a whole run folder, without checkpoint."""
    scored(folder, model, seed, shift)
    write_journal(folder, seed)
    write_arrays(folder, np.random.default_rng(seed))
    if memory:
        write_memory(folder, np.random.default_rng(seed + 1))
    notes = [
        {"level": "ok", "text": "11 of 16 latent units are active."},
        {"level": "warning", "text": "Validation fell by 0.4 nats after epoch 200; the best weights are kept."},
    ]
    write_json(folder / "diagnoses.json", notes)
    return folder


def scored(folder: Path, model: str = "mem-vae", seed: int = 0, shift: float = 0.0) -> Path:
    """Write a run folder that holds a record and its numbers alone, whose page is quickly made."""
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, model, seed)
    estimate, rows = record(seed, shift)
    save(folder, "evaluation-test-importance-5000", values=rows, variances=np.full(300, 0.004), indices=np.arange(300))
    elbo = Estimate(-18.21, 0.24, 0.02, 300, "lower_bound", "elbo-1000", split="test", data_hash=HASH)
    found = {"log_likelihood": estimate.to_json(), "rows": "arrays/evaluation-test-importance-5000.npz"}
    write_json(
        folder / "evaluation.json",
        {"test/elbo-1000": {"log_likelihood": elbo.to_json()}, "test/importance-5000": found},
    )
    return folder


def make_pair(base: Path) -> tuple[list[Path], dict[str, Any]]:
    folders = [make_run(base / "mem-vae-digits-1", seed=1, shift=0.25),
               make_run(base / "vae-digits-1", "vae", 2, memory=False)]  # fmt: skip
    difference = paired_difference(record(1, 0.25)[1], record(2)[1])
    return folders, {"mem-vae-digits-1 - vae-digits-1": difference}


class Page(HTMLParser):
    """What a page fetches, contains and says."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.tags if name == tag)

    @property
    def sections(self) -> list[str]:
        return [str(a["id"]) for a in self.all("section")]

    @property
    def values(self) -> list[float]:
        """The exact numbers behind what is printed."""
        return [float(str(a["value"])) for a in self.all("data")]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def fetched(self) -> list[str]:
        """What a browser would get from elsewhere."""
        links = [
            str(a[k]) for _, a in self.tags for k in ("src", "href", "srcset", "data", "poster", "action") if k in a
        ]
        styled = [part.split(")")[0] for part in self.source.split("url(")[1:]]
        loaded = ["@import"] if "@import" in self.source else []
        return [link for link in [*links, *styled, *loaded] if not link.startswith(("#", "data:image/png;base64,"))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "mem-vae-digits-1")


@pytest.fixture(scope="module")
def report(run: Path) -> Page:
    return Page(page.write(run))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Page:
    base = tmp_path_factory.mktemp("arena")
    folders, differences = make_pair(base)
    return Page(page.write_comparison(folders, differences, base / "report.html"))


def test_every_section_stands_in_its_order(report: Page) -> None:
    assert report.sections == SECTIONS
    links = [a["href"] for a in report.all("a")]
    assert links == [f"#{section}" for section in SECTIONS]


@pytest.mark.parametrize("which", ["report", "compared"])
def test_a_page_fetches_nothing_and_runs_nothing(which: str, request: pytest.FixtureRequest) -> None:
    found: Page = request.getfixturevalue(which)
    assert found.fetched() == []
    assert not {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not [name for _, a in found.tags for name in a if name.startswith("on")]
    assert len(found.source) < 2_000_000


def test_the_test_of_fetching_would_notice(tmp_path: Path) -> None:
    """A mutant of each kind: a picture, a font and an import from elsewhere."""
    for part in ('<img src="//elsewhere/x.png">', "<style>a{src:url(http://elsewhere)}</style>", "<style>@import 'x'"):
        (tmp_path / "bad.html").write_text(part)
        assert Page(tmp_path / "bad.html").fetched()


def test_ids_are_used_once_and_every_reference_is_met(report: Page) -> None:
    ids = [a["id"] for _, a in report.tags if "id" in a]
    assert len(ids) == len(set(ids))
    used = {str(a["href"])[1:] for _, a in report.tags if str(a.get("href", "")).startswith("#")}
    clips = {part.split(")")[0] for part in report.source.split("url(#")[1:]}
    assert used | clips <= set(ids)
    assert clips


def test_pictures_are_told_in_words(report: Page, compared: Page) -> None:
    for found in (report, compared):
        assert all(a.get("alt") for a in found.all("img"))
        assert all(a.get("aria-label") and a.get("role") == "img" for a in found.all("svg"))


def test_printed_numbers_are_the_records(run: Path, report: Page) -> None:
    records = [entry["log_likelihood"] for entry in json.loads((run / "evaluation.json").read_text()).values()]
    for found in records:
        assert found["value"] in report.values
        assert f"{found['value']:.2f}".replace("-", "−") in report.words
        assert found["standard_error"] in report.values
        assert found["monte_carlo_error"] in report.values
        assert found["estimator"] in report.words
    assert "the true log-likelihood is at least this" in report.words
    assert HASH[:12] in report.words
    assert report.words.index("importance-5000") < report.words.index("elbo-1000"), "the tighter bound is shown first"


def test_facts_of_the_run_are_told(report: Page) -> None:
    for fact in ("mem-vae on digits", "43,056 parameters", "100,100", "0871db9", "jax 0.10.2",
                 "train 1,297, valid 200, test 300", "3 columns are constant.", "Validation fell by 0.4 nats",
                 "11 of 16"):  # fmt: skip
        assert fact in report.words, fact


def test_colours_follow_the_reader(report: Page) -> None:
    assert "prefers-color-scheme: dark" in report.source
    assert "var(--run-0)" in report.source
    assert "#fe" not in "".join(part.split("</svg>")[0] for part in report.source.split("<svg")[1:]), (
        "a stand-in stayed"
    )


def test_the_same_folder_gives_the_same_page(run: Path, report: Page) -> None:
    assert page.write(run).read_text(encoding="utf-8") == report.source


@pytest.mark.parametrize("name", ["samples", "reconstructions", "imputation", "units", "codes", "memory"])
def test_a_missing_array_is_a_missing_section(tmp_path: Path, run: Path, name: str) -> None:
    make = sections_memory.memory if name == "memory" else getattr(sections, name)
    folder = shutil.copytree(run, tmp_path / "run")
    found = make(RunView.read(folder))
    assert found is not None
    assert found.id == name
    for file in (folder / "arrays").glob(f"{name}*.npz"):
        file.unlink()
    assert make(RunView.read(folder)) is None


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    write_record(tmp_path, "vae", 0)
    found = Page(page.write(tmp_path))
    assert found.sections == ALWAYS
    # Tests are run from their folder.
    assert "reverie evaluate ." in found.words


def test_commands_run_from_where_the_page_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "vae"
    folder.mkdir(parents=True)
    write_record(folder, "vae", 0)
    monkeypatch.chdir(tmp_path)
    found = Page(page.write(folder))
    assert "reverie evaluate runs/vae" in found.words and str(tmp_path) not in found.words


def test_parts_of_the_memory_may_be_missing(tmp_path: Path) -> None:
    write_record(tmp_path, "mem-vae", 0)
    save(tmp_path, "memory", layers=np.array(["1"]), preference_1=np.eye(10, 12))
    assert "memory" in Page(page.write(tmp_path)).sections


HOSTILE = "<script>alert('1')</script> & \"$\\frac{\" {{ 7*7 }} _x"


def test_hostile_names_are_only_letters(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    record["data"] |= {"name": HOSTILE, "source": HOSTILE, "class_names": [f"{HOSTILE}{i}" for i in range(10)],
                       "notes": [HOSTILE]}  # fmt: skip
    record |= {"commit": HOSTILE, "hardware": HOSTILE, "settings": {HOSTILE: HOSTILE}, "reason": HOSTILE}
    write_json(folder / "run.json", record)
    write_json(folder / "diagnoses.json", [{"level": '"><script>', "text": HOSTILE}])
    found = Page(page.write(folder))
    assert found.sections == SECTIONS
    assert found.fetched() == []
    assert "script" not in {tag for tag, _ in found.tags}
    assert found.words.count(HOSTILE) >= 20


def test_letters_of_any_script(tmp_path: Path) -> None:
    folder = scored(tmp_path)
    save(folder, "codes", codes=np.arange(20.0).reshape(10, 2), labels=np.arange(10))
    record = json.loads((folder / "run.json").read_text())
    record["data"]["class_names"] = [f"数字{i}" for i in range(10)]
    write_json(folder / "run.json", record)
    assert "数字7" in Page(page.write(folder)).words


@pytest.mark.parametrize(
    ("name", "content"),
    [("run.json", b"{"), ("run.json", b"[]"), ("run.json", b'{"format": 99}'), ("run.json", b'{"format": 1}'),
     ("evaluation.json", b"nonsense"), ("evaluation.json", b'{"test/x": {"log_likelihood": {"value": 1.0}}}'),
     ("metrics.jsonl", b'{"step": 1}\n{"st\n{"step": 3}\n'), ("diagnoses.json", b"{}"),
     ("arrays/samples.npz", b"PK\x03"),
     ("arrays/memory.npz", b"")],
)  # fmt: skip
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    folder = scored(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(ReverieError) as error:
        page.write(folder)
    message = str(error.value)
    assert name in message
    assert "\n" not in message


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    folder = scored(tmp_path)
    np.savez(folder / "arrays" / "codes.npz", codes=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ReverieError, match=r"codes\.npz"):
        page.write(folder)


def test_rows_of_another_width_are_refused(tmp_path: Path) -> None:
    folder = scored(tmp_path)
    save(folder, "samples", means=np.zeros((4, 65)))
    with pytest.raises(ReverieError, match=r"samples\.npz: means has shape \(4, 65\)"):
        page.write(folder)


def test_a_line_torn_by_a_kill_is_left_out(tmp_path: Path) -> None:
    write_record(tmp_path, "vae", 0)
    write_journal(tmp_path, 0)
    whole = RunView.read(tmp_path).metrics
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "ep')
    assert RunView.read(tmp_path).metrics == whole
    assert len(whole) == 150


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match=r"run\.json"):
        page.write(tmp_path)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (5,), (64,), (16, 8), (28, 28, 1)])
def test_rows_of_every_shape_have_pictures(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write_record(tmp_path, "vae", 0)
    record = json.loads((tmp_path / "run.json").read_text())
    columns = [f"column {i}" for i in range(5)] if shape == (5,) else None
    record["data"] |= {"shape": list(shape), "columns": columns}
    write_json(tmp_path / "run.json", record)
    rng = np.random.default_rng(0)
    x = rng.random((9, int(np.prod(shape))))
    save(tmp_path, "samples", means=x, samples=x)
    save(tmp_path, "reconstructions", inputs=np.where(x > 0.9, np.nan, x), outputs=x)
    save(tmp_path, "imputation-half", inputs=x, masks=x > 0.5, frames=np.stack([x] * 3), errors=np.ones(3))
    found = Page(page.write(tmp_path))
    assert {"samples", "reconstructions", "imputation"} <= set(found.sections)
    assert ("column 3" in found.words) == (shape == (5,))


def test_a_comparison_says_which_is_better(compared: Page) -> None:
    difference = paired_difference(record(1, 0.25)[1], record(2)[1])
    assert difference["low"] > 0
    assert {difference["difference"], difference["low"], difference["high"]} <= set(compared.values)
    assert "mem-vae-digits-1 is better" in compared.words
    assert {record(1, 0.25)[0].value, record(2)[0].value} <= set(compared.values)
    assert "43,056" in compared.words
    assert "38,912" in compared.words
    assert compared.sections == ["numbers", "differences", "curves", "samples", "reconstructions", "imputation",
                                 "memory-0", "settings", "provenance"]  # fmt: skip


def test_whom_a_difference_favours_is_never_guessed(tmp_path: Path) -> None:
    folders = [scored(tmp_path / "a", "mem-vae", 1), scored(tmp_path / "b", "vae", 2)]
    names = [folder.name for folder in folders]
    inner = {"difference": -1.0, "standard_error": 0.1, "low": -1.2, "high": -0.8, "level": 0.95}
    for given, verdict in (
        ({"log_likelihood": {f"{names[0]} - {names[1]}": inner}}, f"{names[1]} is better"),
        ([{"a": str(folders[1]), "b": str(folders[0]), **inner}], f"{names[0]} is better"),
        (inner, None),
    ):
        words = Page(page.write_comparison(folders, given, tmp_path / "c.html")).words  # type: ignore[arg-type]
        assert verdict is None or verdict in words
        assert ("is better" in words.split("verdict")[1].split("Above")[0]) == (verdict is not None)


def test_a_comparison_tells_what_was_noted_of_a_difference(tmp_path: Path) -> None:
    folders = [scored(tmp_path / "a", "mem-vae", 1), scored(tmp_path / "b", "vae", 2)]
    note = "the gap is under 0.3 nats and these are bounds"
    inner = {"difference": 0.2, "standard_error": 0.01, "low": 0.1, "high": 0.3, "level": 0.95, "notes": [note]}
    words = Page(page.write_comparison(folders, {"a - b": inner}, tmp_path / "c.html")).words
    assert "a is better (see the note)" in words
    assert f"a − b: {note}" in words


def test_a_comparison_names_the_runs_without_pictures(tmp_path: Path, compared: Page) -> None:
    folders = [scored(tmp_path / name, "vae", i) for i, name in enumerate(("a", "b c"))]
    x, _ = digits()
    save(folders[0], "samples", means=x[:9], samples=x[:9])
    save(folders[0], "reconstructions", inputs=x[:9], outputs=x[:9])
    words = Page(page.write_comparison(folders, {}, tmp_path / "c.html")).words
    assert words.count(f"b c has no pictures yet: `reverie report '{folders[1].name}'` makes them") == 2
    assert "encoded and decoded again by a." in words and "a has no pictures" not in words
    assert "no pictures" not in compared.words and "decoded again by each run." in compared.words


def test_epochs_are_among_the_settings_that_differ(tmp_path: Path) -> None:
    folders = [scored(tmp_path / name, "vae", 1) for name in ("a", "b")]
    assert (
        "Every setting, the seed and the epochs are the same."
        in Page(page.write_comparison(folders, {}, tmp_path / "c.html")).words
    )
    write_json(folders[1] / "run.json", json.loads((folders[1] / "run.json").read_text()) | {"plan": {"epochs": 9}})
    for folder, done in zip(folders, (4, 7), strict=True):
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 10, "epoch": done, "loss": 1.0}) + "\n")
    words = Page(page.write_comparison(folders, {}, tmp_path / "c.html")).words
    assert "epochs planned 300 9" in words and "epochs done 4 7" in words


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [scored(tmp_path / place / "run", seed=i) for i, place in enumerate("ab")]
    words = Page(page.write_comparison(folders, {}, tmp_path / "c.html")).words
    assert "a/run" in words
    assert "b/run" in words


def test_a_comparison_needs_two_runs_and_whole_differences(tmp_path: Path) -> None:
    folders = [scored(tmp_path / "a", "mem-vae", 1), scored(tmp_path / "b", "vae", 2)]
    with pytest.raises(ReverieError, match="two or more"):
        page.write_comparison(folders[:1], {}, tmp_path / "c.html")
    with pytest.raises(ReverieError, match="standard_error"):
        page.write_comparison(folders, {"a - b": {"difference": 1.0}}, tmp_path / "c.html")


def test_stages_follow_one_another(tmp_path: Path) -> None:
    write_record(tmp_path, "vae", 0)
    lines = [
        {"step": s, "epoch": e, "loss": 2.0, "stage": t} for s, e, t in ((1, 1, 0), (2, 2, 0), (3, 1, 1), (4, 2, 1))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = sections.curve(RunView.read(tmp_path))
    assert found is not None
    assert found.epochs.tolist() == [1, 2, 3, 4]
    assert found.values.tolist() == [-2.0] * 4


def test_the_command_trains_the_same_run(tmp_path: Path) -> None:
    write_record(tmp_path, "mem-vae", 3)
    assert command(RunView.read(tmp_path)) == (
        "reverie train mem-vae --data digits --seed 3 --epochs 300 --latent 16 --hidden 100,100 --k 1 --rate 0.001 "
        "--attention softmax --slots 20,10 --no-analytic --adam.epsilon 1e-08"
    )
    assert spelled([[200, 200], [100, 100]]) == "200,200/100,100"


def test_classes_are_alike_as_their_attention_correlates() -> None:
    profile = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]])
    alike = microscope.similarity(profile)
    np.testing.assert_allclose(alike[:3, :3], np.corrcoef(profile[:3]))
    assert (alike[3] == 0).all() and alike[0, 1] > 0.9 > 0 > alike[0, 2]


def test_top_slots_are_the_greatest_in_order() -> None:
    preference = np.array([[0.1, 0.6, 0.3], [0.5, 0.0, 0.5]])
    assert microscope.top_slots(preference, 2) == [[(1, 0.6), (2, 0.3)], [(0, 0.5), (2, 0.5)]]


def test_slots_that_look_the_same_are_said_to(tmp_path: Path, report: Page) -> None:
    same, hint = "all but the same", "train with --preset slots"
    assert same not in report.words and 'class="thumb"' in report.source
    write_record(tmp_path, "mem-vae", 0)
    arrays = {"layers": np.array(["1"]), "preference_1": np.eye(10, 12), "images_1": np.full((12, 64), 0.5)}
    arrays["images_1"][3, 7] = 0.54
    save(tmp_path, "memory", **arrays)
    softmax = Page(page.write(tmp_path))
    assert same in softmax.words and 'class="thumb"' not in softmax.source
    assert "differ by 0.04 at most" in softmax.words and hint not in softmax.words
    told = json.loads((tmp_path / "run.json").read_text())
    told["settings"]["attention"] = "sigmoid"
    write_json(tmp_path / "run.json", told)
    assert hint in Page(page.write(tmp_path)).words
    arrays["images_1"][3, 7] = 0.56
    save(tmp_path, "memory", **arrays)
    assert same not in Page(page.write(tmp_path)).words


def test_what_is_of_simulated_rows_is_called_so(tmp_path: Path) -> None:
    folder = scored(tmp_path)
    bracket = Estimate(-9.9, 0.2, 0.0, 100, "bracket", "ais-16x1000", low=-10.0, high=-9.8)
    gap = Estimate(0.2, 0.01, 0.0, 100, "upper_bound", "ais-16x1000")
    write_json(folder / "evaluation.json", {"test/ais-16x1000": {"bracket": bracket.to_json(), "gap": gap.to_json()}})
    words = Page(page.write(folder)).words
    label = "on rows simulated from the model"
    assert f"log-likelihood, {label} simulated ais-16x1000" in words, "in the table"
    assert f"what annealing misses, {label} simulated ais-16x1000" in words
    assert words.count(f"log-likelihood, {label}") == 2, "in the table and on the card"
    assert f"{label}, test" not in words


@pytest.mark.parametrize(("first", "cut"), [(-40.0, True), (-12.0, False)])
def test_epochs_are_said_to_be_cut_off_only_where_they_are(tmp_path: Path, first: float, cut: bool) -> None:
    write_record(tmp_path, "vae", 0)
    values = [first, *np.linspace(-12, -10, 99)]
    lines = [{"step": i, "epoch": float(i), "elbo": value} for i, value in enumerate(values, 1)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = sections.curve(RunView.read(tmp_path))
    assert found is not None
    bottom = figures.learning_curves([found]).axes[0].get_ylim()[0]
    assert (min(values) < bottom) == cut
    assert ("are cut off" in Page(page.write(tmp_path)).words) == cut


def test_the_words_of_a_figure_stand_clear_of_its_lines() -> None:
    for drawing in (microscope.entropy_histogram(np.full(50, 2.16), 9), figures.activity_histogram({"1": np.ones(9)})):
        drawing.draw_without_rendering()
        (axes,) = drawing.axes
        legend = axes.get_legend()
        assert legend is not None and not axes.texts
        assert legend.get_window_extent().y0 >= axes.get_window_extent().y1
    errors = {"a": np.full(9, 0.5), "b": np.full(9, 0.5001), "c": np.full(9, 0.499)}
    drawing = figures.imputation_errors(errors)
    drawing.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in drawing.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert all(above.y0 >= below.y1 - 1 for below, above in pairwise(boxes))


def test_the_classes_of_the_slot_map_are_named() -> None:
    assert microscope.preference_map(np.eye(3), ["a", "b", "c"]).axes[0].get_ylabel() == "class"


def of_law(tmp_path: Path, likelihood: str, shape: list[int]) -> RunView:
    write_record(tmp_path, "vae", 0)
    told = json.loads((tmp_path / "run.json").read_text())
    told["data"] |= {"likelihood": likelihood, "shape": shape, "columns": None}
    write_json(tmp_path / "run.json", told)
    return RunView.read(tmp_path)


def test_real_columns_have_a_scale_of_their_own_shared_by_what_stands_together(tmp_path: Path) -> None:
    rows = np.array([[-3.0, 10.0, 1.0], [-1.0, np.nan, 1.0]])
    scale = strips.scale_of(of_law(tmp_path, "gaussian", [3]), rows, np.array([[1.0, 30.0, 1.0]]))
    np.testing.assert_allclose(scale(rows), [[0, 0, 0], [0.5, np.nan, 0]])
    assert "scale of its own" in scale.words
    binary = strips.scale_of(of_law(tmp_path, "bernoulli", [3]), np.ones((2, 3)))
    np.testing.assert_array_equal(binary(np.ones((2, 3))), np.ones((2, 3)))


def test_a_missing_cell_of_a_table_is_amber_and_in_the_key(tmp_path: Path) -> None:
    run, rows = of_law(tmp_path, "gaussian", [3]), np.array([[-3.0, 10.0, 1.0], [-1.0, 2.0, 5.0]])
    for missing in (False, True):
        rows[1, 1] = np.nan if missing else 0.0
        (axes,) = strips.strips(rows, strips.scale_of(run, rows)).axes
        words = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
        assert words == ["lowest of its column", "highest", *(["missing"] if missing else [])]
        amber = [patch for patch in axes.patches if patch.get_facecolor() == to_rgba(RUNS[4])]
        assert len(amber) == missing


def people(tmp_path: Path) -> RunView:
    """A run on a table: ages (whole numbers), hours, jobs, and a column that is always the same."""
    run = of_law(tmp_path, "mixed", [4])
    told = {**run.record, "data": {
        **run.data, "columns": ["age", "hours", "job", "year"], "categories": [None, None, ["farmer", "nurse"], None],
        "shift": [40.0, 30.0, 0.0, 2024.0], "scale": [10.0, 5.0, 1.0, 0.0], "integers": [True, False, True, True],
    }}  # fmt: skip
    write_json(tmp_path / "run.json", told)
    return RunView.read(tmp_path)


def texts(block: Any) -> list[list[str]]:
    return [[re.sub("<[^>]*>", "", str(cell)) for cell in row] for row in block.body["rows"]]


def test_rows_of_a_table_are_told_as_text_in_the_units_of_the_file(tmp_path: Path) -> None:
    run, rows = people(tmp_path), np.array([[0.046, 1.0, 1.0, np.nan], [-5.0, np.nan, 0.0, np.nan]])
    means, draws = (sections.rows_block(run, rows, "rows", "Rows.", whole=whole) for whole in (False, True))
    assert means.kind == "table" and means.body["head"] == ["age", "hours", "job", "year"]
    assert means.body["numeric"] == {0, 1, 3}
    assert texts(means) == [["40.5", "35.00", "nurse", "2024"], ["−10.0", "–", "farmer", "2024"]]
    assert texts(draws) == [["40", "35.00", "nurse", "2024"], ["−10", "–", "farmer", "2024"]]
    # Many columns do not fit, and of binary cells there is a chance to be seen.
    for other in (of_law(tmp_path, "gaussian", [17]), of_law(tmp_path, "bernoulli", [4])):
        assert sections.rows_block(other, np.zeros((2, *other.shape)), "rows", "Rows.").kind == "figure"


def test_filled_in_cells_of_a_table_stand_between_what_was_given_and_the_truth(tmp_path: Path) -> None:
    people(tmp_path)
    truth = np.array([[0.0, 1.0, 1.0, np.nan], [1.0, np.nan, 0.0, np.nan]])
    masks, frames = np.array([[1, 0, 0, 1], [0, 0, 1, 1]]), np.array([[[9.0, 0.0, 0.0, 0.0], [0.23, 2.0, 9.0, 0.0]]])
    save(tmp_path, "imputation-drop-0.3", inputs=truth, masks=masks, frames=frames, iterations=np.array([1]))
    block = sections_missing._frames(RunView.read(tmp_path), "drop:0.3", "imputation-drop-0.3")
    assert block is not None and block.body["head"] == ["row", "", "age", "hours", "job", "year"]
    assert texts(block) == [
        ["1", "given", "40", "?", "?", "2024"],
        ["", "filled in", "40", "30.00", "farmer", "2024"],
        ["", "truth", "40", "35.00", "nurse", "2024"],
        ["2", "given", "?", "?", "farmer", "2024"],
        ["", "filled in", "42", "40.00", "farmer", "2024"],
        ["", "truth", "50", "–", "farmer", "2024"],
    ]
    bold = [[str(cell).startswith("<strong>") for cell in row] for row in block.body["rows"]]
    assert [row[2:] for row in bold if any(row)] == (masks == 0).tolist()
    assert "<strong>farmer</strong>" in Page(page.write(tmp_path)).source


@pytest.mark.parametrize(
    ("likelihood", "shape", "unit"),
    [("gaussian", [64], "units of the column's variance"),
     ("gaussian", [8, 8], "units of the training pixels' variance"),
     ("bernoulli", [8, 8], "the cells being in [0, 1]"), ("categorical", [8, 8], "in squared levels")],
)  # fmt: skip
def test_the_unit_of_the_squared_error_is_named(tmp_path: Path, likelihood: str, shape: list[int], unit: str) -> None:
    of_law(tmp_path, likelihood, shape)
    save(tmp_path, "imputation-half", errors=np.ones(3))
    assert unit in Page(page.write(tmp_path)).words


def test_a_drawing_is_safe_in_a_page() -> None:
    drawing = figures.imputation_errors({"<b>": np.ones(3)})
    text = inline_svg(drawing, 'a "quoted" <tag>')
    assert "<b>" not in text
    assert 'aria-label="a &#34;quoted&#34; &lt;tag&gt;"' in text


def read_png(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def test_a_grid_holds_every_pixel(tmp_path: Path) -> None:
    images = np.linspace(0, 1, 5 * 4 * 3).reshape(5, 4, 3)
    pixels = read_png(tiles.save_grid(images, tmp_path / "x.png", columns=2))
    zoom = 64 // 3
    assert pixels.shape == (3 * 4 * zoom + 2 * 2, 2 * 3 * zoom + 2)
    for i in range(5):
        y, x = (i // 2) * (4 * zoom + 2), (i % 2) * (3 * zoom + 2)
        tile = pixels[y : y + 4 * zoom : zoom, x : x + 3 * zoom : zoom]
        np.testing.assert_array_equal(tile, np.rint(images[i] * 255))
    assert (pixels[-4 * zoom :, -3 * zoom :] == 255).all(), "the empty place is white"


@pytest.mark.parametrize(
    ("images", "brightest"),
    [(np.full((2, 8, 8, 3), 255, np.uint8), 255), (np.array([[[0.0, 16.0]]]), 255), (np.array([[[0.0, 0.5]]]), 128),
     (np.array([[-3.0, 3.0]]), 255)],
)  # fmt: skip
def test_a_grid_takes_any_units(tmp_path: Path, images: np.ndarray, brightest: int) -> None:
    pixels = read_png(tiles.save_grid(images, tmp_path / "x.png"))
    assert pixels[0, -1].max() == brightest


def test_a_grid_keeps_to_the_limits_it_is_given(tmp_path: Path) -> None:
    images = np.array([[[-9.0, 0.0]], [[5.0, 99.0]]])
    pixels = read_png(tiles.save_grid(images, tmp_path / "x.png", columns=1, limits=(0.0, 10.0)))
    assert pixels[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 0, 128, 255]


def test_notes_on_numbers_stand_once_below_their_table() -> None:
    record = Estimate(4.0, 0.1, 0.0, 20, "exact", "network", unit="squares", note="summed over cells")
    found = [Number(name, "test", record) for name in ("squared_error", "other")]
    found.append(Number("third", "test", replace(record, note=None)))
    block = sections._all_numbers(found)
    text = str(block.body)
    assert text.count("[1]") == 2 and "[2]" not in text and "note" not in text
    assert block.caption.endswith("[1] summed over cells.")


def test_scores_that_real_values_have_not_are_no_columns() -> None:
    nan = np.nan
    kept = {"ways": np.asarray(["the model", "base rates"]), "scores": np.asarray([[0.4, nan, nan], [1.2, nan, nan]])}
    real = sections_missing._ways(SimpleNamespace(arrays=lambda name: kept), {"half": "half"})  # type: ignore[arg-type]
    assert real is not None and real.body["head"] == ["hidden", "filled in by", "mean squared error"]
    assert "log-loss" not in real.caption and [len(row) for row in real.body["rows"]] == [3, 3]
    kept["scores"] = np.asarray([[0.4, 9.0, 0.3], [1.2, 8.0, nan]])
    binary = sections_missing._ways(SimpleNamespace(arrays=lambda name: kept), {"half": "half"})  # type: ignore[arg-type]
    assert binary is not None and len(binary.body["head"]) == 5 and "log-loss" in binary.caption


def test_looks_at_one_row_stand_closer_than_rows(tmp_path: Path) -> None:
    dark, bright = np.zeros((2, 64, 64)), np.ones((2, 64, 64))
    pixels = read_png(tiles.save_grid(dark, tmp_path / "x.png", beside=[bright], columns=2))
    edges = np.flatnonzero(np.diff(pixels[0].astype(int)))
    assert edges.tolist() == [63, 2 * 64 + 2 + 9, 3 * 64 + 2 + 9] and pixels.shape[1] == 4 * 64 + 2 * 2 + 10
    with pytest.raises(ValueError, match="division"):
        tiles.save_grid(dark, tmp_path / "y.png", beside=[bright[:1]])


def test_a_missing_cell_is_amber() -> None:
    assert tuple(tiles.colours(np.array([[[[np.nan]]]]))[0, 0, 0]) == tiles.MISSING


@pytest.mark.parametrize(
    ("images", "name", "what"),
    [(np.zeros((2, 8, 8)), "x.jpg", r"\.png"), (np.zeros((2, 8, 8, 2)), "x.png", "shape"),
     (np.zeros(4), "x.png", "shape"),
     (np.zeros((0, 8, 8)), "x.png", "shape"), (np.zeros((2, 8, 8)), "no/where/x.png", "x.png")],
)  # fmt: skip
def test_a_grid_that_cannot_be_is_refused(tmp_path: Path, images: np.ndarray, name: str, what: str) -> None:
    with pytest.raises(ReverieError, match=what):
        tiles.save_grid(images, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def claims() -> list[dict[str, Any]]:
    ours = Estimate(-86.913, 0.0412, 0.003, 10_000, "lower_bound", "importance-5000", split="test").to_json()
    some = Estimate(-85.5, 0.3, 0.01, 1000, "exact", "exact", rows_of=10_000).to_json()
    every = {"source": "deck", "seeds": 1, "paper_epochs": 3280, "protocol": "dynamic", "hardware": "2 cores"}
    return [
        {"table": "iwae", "row": "L=1, k=1", "column": "mnist", "published": -86.76, "ours": ours, "epochs": 200,
         "commit": "abc1234", "beside": {"active": "19"}, **every},
        {"table": "iwae", "row": "L=1, k=5 | *x* <b>", "column": "mnist", "published": -85.54, "ours": None,
         "epochs": None, "commit": None, "beside": {}, **every},
        {"table": "mem", "row": "MEM-VAE", "column": "ocr-letters", "published": -29.09, "ours": some},
    ]  # fmt: skip


def test_tables_say_what_the_records_say() -> None:
    first, second, third = tables.cells(claims())
    assert first[:8] == ["L=1, k=1", "mnist", "−86.76 (active 19)", "≥ −86.91 ± 0.04", "−0.15", "200 / 3,280", "1",
                         "dynamic"]  # fmt: skip
    assert second[3:6] == ["–", "–", "– / 3,280"]
    assert third[3] == "= −85.50 ± 0.30, 1,000 of 10,000 rows"


def test_markdown_is_a_table_whatever_names_hold() -> None:
    text = tables.markdown(claims())
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = [line.replace("\\|", "").count("|") for line in lines]
    assert bars == [11] * 4 + [6] * 3, "every line of a table has its columns; empty columns are left out"
    assert "\\*x\\* \\<b>" in text
    assert "**iwae**" in text


def test_html_escapes_and_plain_lines_up() -> None:
    assert "<b>" not in tables.html(claims())
    assert "≥ −86.91 ± 0.04" in tables.html(claims())
    lines = tables.plain(claims()).splitlines()
    place = lines[1].index("published") + len("published")
    assert lines[3][:place].endswith("(active 19)")
    assert lines[4][:place].endswith("−85.54")
    assert tables.plain([]) == tables.markdown([]) == tables.html([]) == ""


def test_rich_reads_no_markup_in_names() -> None:
    from rich.console import Console

    rows = [claims()[0] | {"row": "[bold]x[/nothing]"}]
    console = Console(width=200, record=True, file=io.StringIO())
    for table in tables.rich_tables(rows, 200):
        console.print(table)
    assert "[bold]x[/nothing]" in console.export_text()


def test_a_row_that_lacks_something_is_named() -> None:
    with pytest.raises(ReverieError, match="published"):
        tables.cells([{"table": "t", "row": "r", "column": "c"}])
    with pytest.raises(ReverieError, match="t, r, c"):
        tables.cells([{"table": "t", "row": "r", "column": "c", "published": 1.0, "ours": {"value": 1.0}}])


def test_a_report_needs_no_jax(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from reverie.report import page, tables;"
        f"page.write(Path({str(scored(tmp_path))!r}));"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'jax', 'equinox'}), 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


@pytest.mark.parametrize("count", [1, 3])
def test_the_legend_of_learning_curves_covers_none_of_them(count: int) -> None:
    x = np.arange(1.0, 21.0)
    made = [figures.Curve(f"run-{i}", x, -30.0 / x, "bound", x, -31.0 / x - i) for i in range(count)]
    drawing = figures.learning_curves(made)
    drawing.draw_without_rendering()
    axes = drawing.axes[0]
    legend = axes.get_legend()
    assert legend is not None and len(legend.get_texts()) == 2 * count
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1 - 0.5
    assert axes.get_window_extent().height > 0.5 * drawing.bbox.height


def test_epochs_of_the_title_are_the_last_stage_s(tmp_path: Path) -> None:
    """A layer's hundred epochs of pretraining are no hundred of the forty that were planned."""
    folder = tmp_path / "staged"
    folder.mkdir()
    write_record(folder, "dbn", 0)
    told = [{"step": 100, "epoch": 100.0, "loss": 1.0}, {"step": 140, "epoch": 40.0, "loss": 0.5, "stage": 1}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    assert "40 of 300 epochs" in page._subtitle(RunView.read(folder))
