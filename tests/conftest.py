"""What every test stands on: one thread, a shared compilation cache, shapes checked, and the data if it is here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import tests.shapes  # noqa: F401  the hook below finds it by name

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports jax.  Subprocesses of tests inherit all of it.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
# Compiling is most of what the tests do: workers, reruns and subprocesses share what was compiled.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Data files that lie beside the repository, as they do where it is developed, are found without being named.
if (ROOT.parent / "shared" / "data").is_dir():
    os.environ.setdefault("REVERIE_DATA", str(ROOT.parent / "shared" / "data"))
# A test's subprocess runs this tree, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))

# Shapes are checked where they are written down most, while a test traces a function; compiled steps pay nothing.
jaxtyping.install_import_hook(["reverie.nn", "reverie.models"], "tests.shapes.check")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="write the golden files instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written (`make golden`)."""
    return bool(request.config.getoption("--golden"))


@pytest.fixture
def data_folder() -> Path:
    """The folder of real data files; the test is skipped where there is none."""
    folder = os.environ.get("REVERIE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("REVERIE_DATA names no folder of data files")
    return Path(folder)


@pytest.fixture
def enumerated() -> Iterator[None]:
    """Within: float64, and the "key" of a surrogate is the list of its draws, k of q and a dream of p."""
    import jax

    from reverie.prob import bounds

    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "sample_keys", lambda keys, k, start=0: keys[start : start + k])
        yield


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder of its own, so that no `runs/` appears in the tree."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def _few_programs() -> Iterator[None]:
    """What a module's tests compiled is let go after them.

    JAX keeps every program of a process, here thousands and gigabytes, and has crashed on writing one more of them.
    """
    yield
    import jax

    jax.clear_caches()
