"""Devices: choosing them, joining the processes of a cluster, and splitting batches over all of them.

Sharding is JAX's own: arrays are global, a batch is split along its rows over the mesh, and the compiler inserts the
collectives.  Random numbers are drawn for the global arrays, so they are the same whatever the number of devices.
"""

from __future__ import annotations

import os
import re

import jax
import numpy as np
from jax.sharding import Mesh

from reverie.errors import ReverieError

_FORM = re.compile(r"^(cpu|gpu|cuda|tpu)(?::(\d+))?$|^all$")


def configure(device: str | None) -> None:
    """Choose platform and device count before JAX starts its backend.

    Args:
        device: ``cpu``, ``gpu``, ``cpu:2`` (the number of devices a batch is split over), ``all`` (every device of
            every process; joins the processes that SLURM, MPI or Kubernetes launched, or those named by
            ``REVERIE_COORDINATOR`` (host:port), ``REVERIE_PROCESSES`` and ``REVERIE_PROCESS``), or None.

    Raises:
        ReverieError: for another form, or a device that this machine has not.
    """
    if device is None:
        return
    form = _FORM.match(device)
    if form is None:
        raise ReverieError(f"device: {device!r} is not cpu, gpu, cpu:N, gpu:N or all")
    if device == "all":
        _join()
        return
    platform, number = {"gpu": "cuda"}.get(form[1], form[1]), form[2]
    if platform == "cuda":
        # Without this a GPU adds in whatever order is fastest, and a resumed run need not equal a whole one.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    try:
        jax.config.update("jax_platforms", platform)
        if number and platform == "cpu":
            jax.config.update("jax_num_cpu_devices", int(number))
        found = len(jax.devices())
    except (RuntimeError, AssertionError) as error:
        # A jax without a plug-in for the platform fails an assertion that says nothing.
        why = (str(error).splitlines() or ["this jax has no such platform"])[0]
        raise ReverieError(f"device: {device} cannot be used here ({why}); leave --device out") from None
    if number and found < int(number):
        raise ReverieError(f"device: {device} asks for {number} devices and this process has {found}")


def _join() -> None:
    if jax.distributed.is_initialized():
        return
    coordinator = os.environ.get("REVERIE_COORDINATOR")
    if "cpu" in (os.environ.get("JAX_PLATFORMS") or "cpu"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if coordinator:
        count, own = int(os.environ["REVERIE_PROCESSES"]), int(os.environ["REVERIE_PROCESS"])
        jax.distributed.initialize(coordinator, num_processes=count, process_id=own)
    elif any(name in os.environ for name in ("SLURM_JOB_ID", "OMPI_COMM_WORLD_SIZE", "JOB_COMPLETION_INDEX")):
        jax.distributed.initialize()


def mesh_of(device: str | None) -> Mesh | None:
    """Return the mesh over which batches are split, or None for one device."""
    split = device == "all" or (device is not None and ":" in device)
    devices = jax.devices()
    if not split or len(devices) == 1:
        return None
    number = len(devices) if device == "all" else int(str(device).split(":")[1])
    return Mesh(np.asarray(devices[:number]), ("data",))
