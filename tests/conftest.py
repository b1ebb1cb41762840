"""Two devices, float32 products, no silent change of types, quick compilation with a cache that
test runs share, and a torchvision that can be imported.
"""

import atexit
import ctypes
import gc
import os
import runpy
import shutil
import tempfile
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "semvad-jax"
# before jax is imported, and for the processes that tests start, pytest's own workers among them
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE / "compiled-by-tests")
    # all of them: most are small, and many files compile the same ones
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # small products of NumPy and PyTorch take a hundred times as long where two workers' threads
    # wait for each other on two cores
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    # what the programs under test keep in the user's cache folder stays out of it
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="semvad-jax-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


import jax

TORCHVISION = Path(__file__).parent / "cpu_torchvision"

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_default_matmul_precision", "float32")
jax.config.update("jax_numpy_dtype_promotion", "strict")

runpy.run_path(str(TORCHVISION / "sitecustomize.py"))
os.environ["PYTHONPATH"] = os.pathsep.join(  # for the processes that tests start
    [str(TORCHVISION), *filter(None, [os.environ.get("PYTHONPATH")])]
)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_are_dropped():
    """After each file: a worker that keeps the programs of all files needs 8 GB."""
    yield
    _give_back()


@pytest.fixture(autouse=True)
def memory_is_bounded():
    """Some files compile more than a worker should hold by themselves."""
    yield
    pages = Path("/proc/self/statm")  # Linux's: all, resident …, in pages
    if pages.exists() and int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > 1.5e9:
        _give_back()


def _give_back() -> None:
    jax.clear_caches()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's: what is free goes back
    if trim:
        trim(0)
