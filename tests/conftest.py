"""Two devices and float32 products: what the tests rely on."""

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_default_matmul_precision", "float32")
