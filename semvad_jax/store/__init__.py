"""The feature store, the door between the two wings: no jax and no torch here."""

from semvad_jax.store.format import SCHEMA, Video
from semvad_jax.store.store import Store, Writer, open, require_free

__all__ = ["SCHEMA", "Store", "Video", "Writer", "open", "require_free"]
