"""From videos to a feature store: decode, embed images, caption, embed captions, class captions.

This wing runs on PyTorch and writes what `semvad_jax` reads; neither imports the other, except
that this one uses `semvad_jax.store` and `semvad_jax.config`, which import no jax.
"""
