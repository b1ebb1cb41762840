"""SemVAD in JAX: fusing semantic and vision features for weakly supervised video anomaly detection.

Nothing is imported here, so that `semvad_jax.store` and `semvad_jax.config` load without jax.
"""

__version__ = "0.1.0"
