"""Two devices, float32 products, quick compilation with a cache that tests share, and a torchvision
that can be imported.
"""

import os
import runpy
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # before jax is imported

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_default_matmul_precision", "float32")
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent / ".jax_cache"))

TORCHVISION = Path(__file__).parent / "cpu_torchvision"
runpy.run_path(str(TORCHVISION / "sitecustomize.py"))
os.environ["PYTHONPATH"] = os.pathsep.join(  # for the processes that tests start
    [str(TORCHVISION), *filter(None, [os.environ.get("PYTHONPATH")])]
)
