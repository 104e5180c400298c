"""Being asked to stop: noted once, insisted on twice, and the old handlers put back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from reverie import stopping
from reverie.train.signals import Stop


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Stop() as stop:
        assert not stop.asked
        send(number)
        assert stop.asked
        assert signal.getsignal(number) != before
    assert signal.getsignal(number) == before
    assert stop.asked


def test_the_second_ctrl_c_is_not_to_be_argued_with() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Stop():
        send(signal.SIGINT)
        send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_sigterm_twice_still_only_asks() -> None:
    """A batch system may repeat itself; what is being saved is not to be broken off for that."""
    with Stop() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert stop.asked


def test_inert_outside_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with Stop() as stop:
            seen.extend([stop.asked, signal.getsignal(signal.SIGINT) == before])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, True]
    assert signal.getsignal(signal.SIGINT) == before


def test_contexts_nest() -> None:
    with Stop() as outer:
        with Stop() as inner:
            send(signal.SIGTERM)
        assert inner.asked
        assert not outer.asked
        send(signal.SIGTERM)
        assert outer.asked


def test_ctrl_c_ends_a_command_even_where_exceptions_get_lost() -> None:
    """An exception raised inside a finaliser is printed and forgotten; the command must end all the same."""
    script = (
        "import os, signal, time\n"
        "from reverie import stopping\n"
        "stopping.stop_at_once(True)\n"
        "class Last:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(0.01)\n"
        "last = Last()\n"
        "del last\n"
        "print('went on')\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 130 and "Traceback" not in found.stderr
    assert "stopped" in json.loads(found.stdout)["error"]


@pytest.mark.parametrize("words", [["models"], ["models", "--json"]])
@pytest.mark.parametrize("at", ["cyclopts", "reverie.settings", "rich"])
def test_ctrl_c_is_heard_while_python_imports(at: str, words: list[str]) -> None:
    """The signal comes as a module is asked for: early, late, and in the verb."""
    script = (
        "import builtins, os, signal, sys\n"
        "plain = builtins.__import__\n"
        "def watched(name, *more, **how):\n"
        f"    if name.split('.')[0] == {at!r} or name == {at!r}:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return plain(name, *more, **how)\n"
        "builtins.__import__ = watched\n"
        "from reverie.__main__ import main\n"
        f"sys.argv = ['reverie', *{words!r}]\n"
        "raise SystemExit(main())\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 130 and found.stderr == f"reverie: {stopping.SAID}\n"
    assert json.loads(found.stdout) == {"error": stopping.SAID} if "--json" in words else found.stdout == ""


def test_hardly_anything_is_imported_before_ctrl_c_is_heard() -> None:
    script = "import sys; before = set(sys.modules); import reverie.stopping; print(*set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert not {"dataclasses", "inspect", "typing", "difflib", "cyclopts", "numpy"} & set(found.stdout.split())
