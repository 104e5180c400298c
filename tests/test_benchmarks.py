"""What the benchmarks share: what is timed how often, what a report says, and what of an earlier one is kept."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks import _report

import reverie

ROOT = Path(__file__).resolve().parent.parent


class Clock:
    """Time that passes by work alone, so many seconds for a piece of each contender's."""

    def __init__(self, **seconds: float) -> None:
        self.now, self.log = 0.0, []  # type: tuple[float, list[tuple[str, int]]]
        self.contenders = {name: self._work(name, each) for name, each in seconds.items()}

    def __call__(self) -> float:
        return self.now

    def _work(self, name: str, each: float) -> _report.Run:
        def run(n: int) -> None:
            self.log.append((name, n))
            self.now += n * each

        return run


def test_contenders_do_as_much_as_fills_the_time_in_turn() -> None:
    clock = Clock(ours=0.25, peer=0.5)
    counts = _report.counted(clock.contenders, 2.0, clock)
    assert counts == {"ours": 8, "peer": 4}
    assert _report.counted(clock.contenders, 2.0, clock, most=5)["ours"] == 5
    assert _report.counted(clock.contenders, 0.1, clock)["peer"] == 2, "one piece is no measurement"
    clock.log.clear()
    rounds = _report.in_turn(clock.contenders, counts, 2, clock)
    assert clock.log == [("ours", 8), ("peer", 4)] * 2
    assert rounds == [{"ours": 250.0, "peer": 500.0}] * 2


def test_ratios_are_those_within_a_round() -> None:
    """A machine twice and five times as slow in later rounds: medians see it, ratios do not."""
    rounds = [{"ours": s * 1.0, "peer": s * 3.0} for s in (1.0, 2.0, 5.0)]
    assert _report.medians(rounds) == {"ours": 2.0, "peer": 6.0}
    assert _report.ratios(rounds) == {"ours / ours": 1.0, "peer / ours": 3.0}
    uneven = [{"ours": 1.0, "peer": 3.0}, {"ours": 10.0, "peer": 10.0}, {"ours": 2.0, "peer": 8.0}]
    assert _report.ratio(uneven, "peer", "ours") == 3.0, "not the ratio of medians, which is 4"


def test_a_report_says_the_machine_then_its_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "report.json"
    given = _report.timing("", rounds=5, quick="little").parse_args(["--out", str(out), "--note", "busy"])
    jobs: list[Any] = [lambda: {"job": "one", "ms": 1.5}, lambda: {"job": "two"}]
    _report.tell(given, jobs, {"jax": "1.2"}, quick=given.quick)
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert json.loads(out.read_text()) == report
    assert [json.loads(line) for line in printed.err.splitlines()] == report["jobs"] == [job() for job in jobs]
    assert (report["clock"], report["threads"], report["jax"]) == ("processor", 1, "1.2")
    assert (report["quick"], report["note"]) == (False, "busy")
    old = json.loads((ROOT / "results" / "bench" / "boltzmann.json").read_text())
    assert list(report) == [*(name for name in old if name != "note"), "note"], "reports of before read alike"


def test_wall_time_is_told_of_several_threads(capsys: pytest.CaptureFixture[str]) -> None:
    _report.tell(_report.timing("", rounds=1).parse_args([]), [], {}, threads=4)
    report = json.loads(capsys.readouterr().out)
    assert (report["threads"], report["clock"]) == (4, "wall")
    assert "note" not in report


def test_rows_of_an_earlier_report_are_kept_by_name(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    assert _report.kept(out, "model") == {}
    rows = [{"model": "a", "labels": "50", "mean": 1.0}, {"model": "a", "labels": "all", "mean": 2.0}]
    _report.write(out, {"rows": rows})
    assert _report.kept(out, "model", "labels") == {("a", "50"): rows[0], ("a", "all"): rows[1]}
    _report.write(out, {"rows": rows[1:]})
    assert _report.kept(out, "model") == {"a": rows[1]}


def test_a_run_is_trained_gone_on_with_or_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doors themselves are tested elsewhere; here, which of them is knocked at."""
    asked: list[Any] = []
    run = SimpleNamespace(record={"status": "stopped"}, resume=lambda progress: asked.append("resumed") or run)
    monkeypatch.setattr(reverie, "train", lambda model, data, **how: asked.append((model, data, how)) or run)
    monkeypatch.setattr(reverie, "load", lambda folder: asked.append(folder) or run)
    folder = tmp_path / "run"
    ask = partial(_report.finished, folder, "vae", "digits", seed=3, latent=(2,))
    assert ask() is run
    (model, data, how) = asked.pop()
    assert (model, data, how["run"], how["seed"], how["latent"]) == ("vae", "digits", folder, 3, (2,))
    folder.mkdir()
    (folder / "checkpoint.json").touch()
    assert ask() is run
    assert asked == [folder, "resumed"]
    run.record["status"] = "finished"
    assert ask() is run
    assert asked == [folder, "resumed", folder], "what is done is not done again"


def test_threads_are_set_before_anybody_looks() -> None:
    look = (
        "import sys, os; from benchmarks import _report; _report.threads(1);"
        "assert not {'jax', 'numpy'} & set(sys.modules);"
        "print(os.environ['OMP_NUM_THREADS'], os.environ['XLA_FLAGS'])"
    )
    found = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="says how glibc keeps memory")
@pytest.mark.parametrize("kept", [True, False])
def test_memory_given_back_is_used_again_without_new_pages(kept: bool) -> None:
    look = (
        "import resource, threading; from benchmarks import _report\n"
        f"if {kept}: _report.keep_memory()\n"
        "def look():\n"
        "    faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    b = bytearray(b'1') * 2**26; del b\n"
        "    began = faults(); b = bytearray(b'1') * 2**26; print(faults() - began)\n"
        # JAX works in threads, too.
        "look(); one = threading.Thread(target=look); one.start(); one.join()"
    )
    found = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    # Pages may be large ones, of 2 MB: 32 of them.
    assert [int(faults) < 16 for faults in found.stdout.split()] == [kept, kept]


@pytest.mark.parametrize("name", ["autoregressive", "boltzmann", "implicit", "memn2n", "ntm", "parzen", "steps"])
def test_every_benchmark_sets_threads_before_it_imports_what_has_them(name: str) -> None:
    """Read from the source: importing them all would take seconds."""
    lines = (ROOT / "benchmarks" / f"{name}.py").read_text().splitlines()
    imported = [line.split()[1].split(".")[0] if line.startswith(("import ", "from ")) else "" for line in lines]
    heavy = {"jax", "numpy", "sklearn", "scipy", "equinox", "optax", "_loops", "reverie"}
    (at,) = (i for i, line in enumerate(lines) if line.startswith("_report.threads("))
    assert not heavy & set(imported[:at])
    assert heavy & set(imported[at:])
