"""Which of a store's inputs are not those of the paper's figures."""

import hashlib
from collections.abc import Mapping

from semvad_jax.store import Store
from semvad_jax.store import flags as store_flags

PRODUCERS = {  # of the paper's features, by the flags of featurize/run.py
    "vision": ("clip-vit-b16", "published"),
    "captioner": ("videollama3-7b", "published"),
    "text": ("clip-vit-l14", "clip-vit-b16"),
}
# SHA-256 of its system and user prompt (§3.2, A.1), a line feed between them
PROMPTS = "dedacd89cbd53c8c644014c3024400deac57a5241dafda7b46f5453e7ec7de6b"


def differing(features: Store, captioner: str | None = None) -> tuple[str, ...]:
    """What the paper's figures were not made from: the store's data set and producers, in words.

    `captioner` is the one that the paper used for the figure, where that is not its usual one.
    """
    flags = store_flags.recorded(features.info["producers"]) or {}
    dataset = features.info["dataset"]
    others = [] if dataset in ("ucf", "xd") else [f"data set {dataset}"]
    producers = PRODUCERS | ({"captioner": (captioner,)} if captioner else {})
    for producer, accepted in producers.items():
        if flags.get(producer) not in accepted:
            others.append(f"{producer} {flags.get(producer, 'unknown')}")
    made = features.info["producers"].get("captions")
    prompts = made.get("prompts") if isinstance(made, Mapping) else None
    if isinstance(prompts, Mapping):
        text = f"{prompts.get('system')}\n{prompts.get('user')}"
        if hashlib.sha256(text.encode()).hexdigest() != PROMPTS:
            others.append("other prompts")
    return tuple(others)
