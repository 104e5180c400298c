"""Still rising at the end: one rule and one advice, for the command line and the report, and no false alarms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import cli, further
from reverie.errors import ReverieError
from reverie.evaluate.diagnose import diagnose, gather
from reverie.evaluate.rising import advice, rise
from reverie.train.optimise import SCHEDULES, ends_at_nothing


def journal(*values: float, error: float | None = 0.4, unit: str = "nats") -> list[dict[str, Any]]:
    """Return a journal of validations, two epochs apart, with lines between that have none."""
    lines: list[dict[str, Any]] = [{"epoch": 1}]
    for i, value in enumerate(values, 1):
        lines.append({"epoch": 2 * i, "valid": {"value": value, "standard_error": error, "unit": unit}})
    return lines


def exponential(times: float, n: int = 10, noise: float = 0.0, seed: int = 0) -> list[float]:
    """Return n validations of a curve that nears its end exponentially, trained for so many of its times."""
    t = times * np.arange(1, n + 1) / n
    return (-30 * np.exp(-t) + noise * np.random.default_rng(seed).normal(size=n)).tolist()


def test_a_training_that_was_still_rising_is_told_to_go_on() -> None:
    found = rise(journal(-20, -18, -17, -16, -15))
    assert found is not None and found == (1.0, 2, 10, "nats")
    assert "by 1.00 nats over the last 2 epochs" in advice(found, "runs/x", ended=False)
    assert "`reverie resume runs/x --epochs 20`" in advice(found, "runs/x", ended=False)
    assert "resume" not in advice(found, "runs/x", ended=True) and "anew" in advice(found, "runs/x", ended=True)


def test_few_rows_hide_no_rise_and_no_unit_does() -> None:
    """A small validation set has a large standard error, and shares and squares are small numbers."""
    assert rise(journal(*exponential(2.0), error=3.0)) is not None
    assert rise(journal(*(v / 1000 for v in exponential(2.0)), error=0.001, unit="squares")) is not None
    assert rise(journal(0.5, 0.6, 0.7, 0.8, 0.9, error=0.02, unit="fraction")) is not None


def test_a_converged_training_raises_no_alarm() -> None:
    """Trained for seven times, in validations as noisy as those of real runs; two hundred curves of either kind."""
    assert rise(journal(*exponential(7.0))) is None
    for seed in range(200):
        assert rise(journal(*exponential(7.0, noise=0.02, seed=seed))) is None
        assert rise(journal(*exponential(7.0, n=40, noise=0.1, seed=seed), error=None)) is None


def test_what_is_noise_or_nothing_or_past_its_best_is_no_rise() -> None:
    assert rise(journal(-20, -15.1, -15.06, -15.03, -15)) is None
    assert rise(journal(-20, -15, -15.5, -15.6, -15.3)) is None, "its best is long past"
    assert rise(journal(-20, -16, -15, -16, -14.9, -15.7, -14.8)) is None, "falls of as much"
    assert rise(journal(0.95, 0.95, 0.95, 0.95, 0.955, error=0.015, unit="fraction")) is None, "one row of two hundred"
    assert rise(journal(-20)) is None and rise([]) is None and rise([{"epoch": 1}]) is None


def test_a_stage_is_judged_by_its_own_validations() -> None:
    before = [{**line, "stage": 0} for line in journal(*exponential(1.0))]
    assert rise([*before, *({**line, "stage": 1} for line in journal(*exponential(9.0)))]) is None


def test_the_schedules_that_end_at_nothing_are_known() -> None:
    assert {name for name in SCHEDULES if ends_at_nothing(name)} == {"linear", "ladder"}
    assert not ends_at_nothing("None"), "a model without a schedule"


def test_going_on_past_a_rate_that_ended_at_nothing_is_refused(tmp_path: Path, capsys: Any) -> None:
    run = reverie.train("orderless-nade", "digits", run=tmp_path / "run", epochs=1, hidden=(4,))
    assert isinstance(run, reverie.Run) and further.ends(run.record)
    run.evaluate(samples=1, rows=50)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(ReverieError, match=r"learns nothing past its 1 epochs.*--schedule linear.*--init-from"):
        run.resume(epochs=3)
    assert cli.main(["resume", str(run.path), "--epochs", "3"]) == 2
    assert "train anew with --epochs 3" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    # Nothing is refused where nothing is asked for, and where a rate is left.
    assert run.resume().record["status"] == "finished"
    other = reverie.train("nade", "digits", run=tmp_path / "other", epochs=1, hidden=4)
    assert isinstance(other, reverie.Run) and not further.ends(other.record)


def test_the_last_lines_of_a_training_say_what_the_report_says(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--latent", "2", "--hidden", "8", "--valid-samples", "2"]
    assert cli.main(["train", "vae", "--data", "digits", "--epochs", "2", "--run", "mine", *small]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Validation was still rising")]
    assert len(told) == 1 and "`reverie resume mine --epochs 4`" in told[0]
    findings = diagnose(gather("mine", ended=further.ends(reverie.load("mine").record)))
    assert told[0] in [finding["text"] for finding in findings]
