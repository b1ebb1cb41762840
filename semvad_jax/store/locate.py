"""Which store is meant: a folder, or a TFDS data set from which it is made again."""

from pathlib import Path

from semvad_jax.store.store import Store
from semvad_jax.store.store import open as open_folder

TFDS = "tfds:"


def is_store(address: str) -> bool:
    """Whether `address` names features; otherwise it names videos."""
    return address.startswith(TFDS) or (Path(address) / "store.json").is_file()


def open_store(address: str) -> Store:
    """The store at the path `address`, or the one that tfds:DIR was exported from, made again.

    Raises BadInput as `store.open` and `tfds.open` do.
    """
    if address.startswith(TFDS):
        from semvad_jax.store import tfds  # half a second, for those who ask for it

        return tfds.open(address.removeprefix(TFDS))
    return open_folder(address)
