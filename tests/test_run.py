"""What training tells while it runs, and what it leaves in the hand of whoever stopped it."""

from __future__ import annotations

from pathlib import Path

import pytest

import reverie
from reverie.errors import Interrupted
from reverie.progress import Quiet


class Listener(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_what_was_understood_is_said_and_a_stopped_run_is_named_and_goes_on(tmp_path: Path) -> None:
    listener, folder = Listener(), tmp_path / "a folder; of my own"
    with pytest.raises(Interrupted) as stopped:
        reverie.train("vae", "digits", run=folder, minutes=1e-9, latent=(2,), hidden=((8,),), progress=listener)
    assert stopped.value.run == folder and f"reverie resume {folder}" in str(stopped.value)
    run = reverie.load(folder)
    assert run.record["status"] == "stopped"
    assert tuple(listener.said) == run.data.notes and any("1,797 rows" in note for note in listener.said)
