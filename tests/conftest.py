"""Two devices, float32 products, and quick compilation with a cache that tests share."""

import os
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # before jax is imported

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_default_matmul_precision", "float32")
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent / ".jax_cache"))
