"""What is claimed of the bAbI tasks: errors task by task and their means, of networks of one task and of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reverie.data.babi import TASKS
from reverie.evaluate.claims import Claim

#: Tables: the errors of every task, a column for each way, and their means.
EACH, MEANS = "babi-tasks", "babi"
#: Position encoding, three hops, 1,000 questions a task, as a public listing (jojonki/MemoryNetworks) has the paper's
#: numbers; their mean is the paper's 20.3.
_PE = (
    0.1, 21.6, 64.2, 3.8, 14.1, 7.9, 21.6, 12.6, 23.3, 17.4, 4.3, 0.3, 9.9, 1.8, 0.0, 52.1, 50.1, 13.6, 87.4, 0.0,
)  # fmt: skip
_PLAIN = {"linear_start": 0.0, "time_noise": 0.0}
_JOINT = {"width": 50, "linear_start": 0.5}
#: Ways of one network a task, and of one network for all: name, settings, epochs of the paper and of ours.
_ALONE: Mapping[str, tuple[Mapping[str, Any], float, float]] = {
    "PE": (_PLAIN, 100, 100),
    "PE LS RN": ({}, 100, 100),
}
_TOGETHER: Mapping[str, tuple[Mapping[str, Any], float, float]] = {
    "3 hops RN, joint": (_JOINT, 60, 60),
    "3 hops RN, layer-wise, joint": ({**_JOINT, "tying": "layer-wise"}, 60, 60),
}
#: What the third training file is needed for, which not every copy of the larger set has.
_THIRD = "the training file of task 3 is not at hand"
_TENFOLD = {"restarts": 3}
_SMOKE = {"epochs": 1, "restarts": 1}


def claims() -> tuple[Claim, ...]:
    """Return the claims of both sets: every task's own first, of which the means are made."""
    return (*_alone("babi"), *_alone("babi-10k"), *_together("babi"), *_together("babi-10k"))


def _columns(data: str) -> str:
    return ", 10k" if data == "babi-10k" else ""


def _settings(data: str, settings: Mapping[str, Any], epochs: float) -> dict[str, Any]:
    # Ten times the questions, fewer epochs and random starts, for two cores.
    cpu = {"epochs": epochs / 4, **_TENFOLD} if data == "babi-10k" else {"epochs": epochs}
    return {"settings": settings, "budgets": {"smoke": _SMOKE, "cpu": cpu, "paper": {}}}


def _task(number: int) -> str:
    return f"{number} {TASKS[number - 1]}"


def _alone(data: str) -> Iterator[Claim]:
    for way, (settings, paper, epochs) in _ALONE.items():
        column = way + _columns(data)
        for number in range(1, 21):
            read = _PE[number - 1] / 100 if (way, data) == ("PE", "babi") else None
            yield Claim(
                table=EACH, row=_task(number), column=column, published=read, source=None if read is None else "quoted",
                data=f"{data}:{number}", metric="error_rate", epochs=paper,
                notes=() if read is not None else ("unread",), **_settings(data, settings, epochs),
                not_run=_THIRD if (data, number) == ("babi-10k", 3) else None,
            )  # fmt: skip
        read = sum(_PE) / 2000 if (way, data) == ("PE", "babi") else None
        yield Claim(
            table=MEANS, row=way, column=data, published=read, source=None if read is None else "quoted", data=data,
            metric="error_rate", settings={}, epochs=None, mean_of=(EACH, column),
            budgets={budget: {} for budget in ("smoke", "cpu", "paper")},
            notes=("babi-alone",) if read is not None else ("unread", "babi-alone"),
        )  # fmt: skip


def _together(data: str) -> Iterator[Claim]:
    for way, (settings, paper, epochs) in _TOGETHER.items():
        plan = _settings(data, settings, epochs)
        yield Claim(
            table=MEANS, row=way, column=data, published=None, source=None, data=data, metric="error_rate",
            epochs=paper, notes=("unread",), **plan,
        )  # fmt: skip
        for number in range(1, 21):
            yield Claim(
                table=EACH, row=_task(number), column=way + _columns(data), published=None, source=None, data=data,
                metric=f"error_rate_task_{number}", epochs=paper, notes=("unread",), run_of=(MEANS, way, data), **plan,
                not_run=_THIRD if (data, number) == ("babi-10k", 3) else None,
            )  # fmt: skip
