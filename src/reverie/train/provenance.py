"""What made a run: versions, the commit of the source tree, and the machine, without names or paths of anybody."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = ("reverie", "jax", "jaxlib", "numpy", "equinox", "optax", "numpyro")


def provenance() -> dict[str, Any]:
    """Return what ``run.json`` records of where a run was made.

    ``versions`` of Python and the packages that decide the numbers; ``commit``, the git hash of the source tree with
    ``-dirty`` when the source differs from it, or None outside a checkout; ``hardware`` in words.
    """
    return {"versions": versions(), "commit": commit(), "hardware": hardware()}


def versions() -> dict[str, str | None]:
    """Return the version of Python and of each package, None where one is not installed as a package."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def commit(root: Path | None = None) -> str | None:
    """Return the commit of the checkout that this code runs from; an installed copy has none.

    Args:
        root: the checkout; default the one this file lies in.
    """
    root = root or Path(__file__).resolve().parents[3]
    # An environment may lie inside somebody else's checkout, whose commit says nothing about this code.
    if not (root / ".git").exists() or not (root / "src" / "reverie").is_dir():
        return None
    head = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "src")
    if head is None or not re.fullmatch(r"[0-9a-f]{40,64}", head):
        return None
    return head if changed == "" else f"{head}-dirty"


def hardware() -> str:
    """Return processor, cores and devices, such as ``Xeon E5-2680 (16 cores), 2 x NVIDIA A100``."""
    import jax

    devices = [device.device_kind for device in jax.devices()]
    kinds = [f"{devices.count(kind)} x {kind}" for kind in dict.fromkeys(devices) if kind != "cpu"]
    cores = _cores()
    return ", ".join([f"{_processor()} ({cores} core{'s' * (cores > 1)})", *kinds])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    # Run from a git hook, these name the hook's repository, whatever -C says.
    environment = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    # Another git command must not find the index locked by this one.
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine() or "processor"


def _cores() -> int:
    # A container or a batch system may give fewer than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
