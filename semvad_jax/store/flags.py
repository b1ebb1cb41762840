"""Which flags of featurize/run.py made a store, in the words of today.

Stores keep the flags that name their models, without paths (`producers.flags` in store.json). Until
2026 the authors' public features were called `release` there; they are called `published` now.
Every comparison of recorded flags reads them here, so that stores of either word are alike.
"""

from collections.abc import Mapping
from typing import Any

RENAMED = {"release": "published"}


def current(name: str) -> str:
    """What a feature source is called today; any other name as it is."""
    return RENAMED.get(name, name)


def recorded(producers: Mapping[str, Any]) -> dict[str, Any] | None:
    """The flags of a store's `producers`, by name; None where the store does not tell them."""
    flags = producers.get("flags")
    if not isinstance(flags, Mapping):
        return None
    return {
        name: current(value) if isinstance(value, str) else value for name, value in flags.items()
    }
