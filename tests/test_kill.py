"""A run killed at any moment resumes to the weights of one that was never touched, bit for bit.

`make kill` runs this with REVERIE_KILLS=20; the suite kills fewer times.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

KILLS = int(os.environ.get("REVERIE_KILLS", "2"))
_LENGTH = ["--steps", "3000", "--batch", "20", "--hidden", "30", "--latent", "4", "--valid-every", "10"]
#: One for each kind of carry: weights alone, and a memory with statistics fixed at each validation.
RUNS = {
    "vae": ["vae", "--data", "digits", *_LENGTH],
    "mem-vae": ["mem-vae", "--data", "digits", *_LENGTH, "--slots", "4"],
}


def reverie(*arguments: str, wait: bool = True) -> subprocess.Popen[bytes]:
    env = {**os.environ, "REVERIE_SAVE_SECONDS": "0.05"}
    process = subprocess.Popen(
        [sys.executable, "-m", "reverie", *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if wait:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, (out + err).decode()
    return process


def meta(folder: Path) -> dict:
    return json.loads((folder / "checkpoint.json").read_text())


def wait_for_training(process: subprocess.Popen[bytes], folder: Path, beyond: int) -> bool:
    """Wait until a checkpoint past the step `beyond` is there; return False when the process ended first."""
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            if meta(folder)["step"] > beyond:
                return True
        except (FileNotFoundError, ValueError, KeyError):
            pass
        time.sleep(0.01)
    return False


# The memory's run has all that the other has; `make kill` does both.
@pytest.mark.parametrize("name", RUNS if "REVERIE_KILLS" in os.environ else ["mem-vae"])
def test_killed_and_resumed_equals_untouched(name: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    reverie("train", *RUNS[name], "--run", str(whole))
    rng = np.random.default_rng(0)
    process = reverie("train", *RUNS[name], "--run", str(cut), wait=False)
    killed = 0
    for _ in range(KILLS):
        before = meta(cut)["step"] if (cut / "checkpoint.json").exists() else 0
        if not wait_for_training(process, cut, before):
            break
        time.sleep(float(rng.uniform(0, 0.1)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += 1
        process = reverie("resume", str(cut), wait=False)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (out + err).decode()
    assert killed >= 1, "the run ended before it could be killed; make it longer"
    assert meta(cut)["sha256"] == meta(whole)["sha256"]
    assert meta(cut)["kept_step"] == meta(whole)["kept_step"]
    lines = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert lines == [json.loads(line)["step"] for line in (whole / "metrics.jsonl").read_text().splitlines()]


def test_resuming_a_finished_run_changes_no_byte(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    reverie("train", "vae", "--data", "digits", "--steps", "30", "--hidden", "8", "--latent", "2", "--run", str(folder))
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    reverie("resume", str(folder))
    assert before == {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = reverie("train", "vae", "--data", "digits", "--steps", "1000000", "--run", str(folder), wait=False)
    assert wait_for_training(process, folder, 0)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "reverie resume" in err.decode()
    assert "Traceback" not in err.decode()
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
