"""From videos to a feature store: decode, embed images, caption, embed captions, class captions.

This wing runs on PyTorch and writes what `semvad_jax` reads. Neither imports the other, except that
this one uses `semvad_jax.files`, `config`, `store` and `stopwatch`, which import no jax.
"""
