"""The one stage of the runtime tables that runs in JAX: fusion + detection, or another system.

It is timed in a process of its own, which loads this file; what it imports counts as memory.
"""

from dataclasses import replace
from functools import partial

import jax

from semvad_jax import data, evaluate, stopwatch, store
from semvad_jax.config import Config
from semvad_jax.stopwatch import Measured, Stage
from semvad_jax.store import Store
from semvad_jax.train import make_state

FUSION = "fusion + detection"  # SemVAD's


def detection(cfg: Config, features: Store, warm_up: int, count: int, name: str = FUSION) -> Stage:
    """Times a resolved config's model on its store, `count` calls after `warm_up` others."""
    measured = stopwatch.alone(name, time_windows, cfg, warm_up, count)
    tower = cfg.data.text_tower > 0
    note = f"{name}: the class names run through the text tower with every window" if tower else ""
    longest = features.videos[_longest(features)].snippets
    snippets = min(data.slots_of(cfg, longest), longest)
    return Stage(name, f"{cfg.model.name}, {cfg.model.preset}", measured, snippets, note)


def time_windows(cfg: Config, warm_up: int, count: int) -> Measured:
    """The jitted forward pass of one window of up to T snippets, in a batch of its own, again and
    again; with `eval.crop=mean` one window of each crop.

    Weights are fresh ones of one seed; they, the class texts and the window (the first of the
    store's longest video) lie on the device before. The first call compiles. Raises BadInput as
    `store.open` does.
    """
    features = store.open(cfg.data.store)
    cfg = replace(cfg, train=replace(cfg.train, batch=1))
    video = _longest(features)
    crops = [(video, crop) for crop in evaluate.crops_of(cfg, features, video)]
    snippets = features.videos[video].snippets
    every = -(-snippets // data.slots_of(cfg, snippets))
    window = jax.tree.map(lambda x: x[::every], data.windows(cfg, features, crops))
    weights = make_state(cfg, (), jax.random.key(0), jax.random.key(0)).weights
    score = jax.jit(partial(evaluate.score_windows, cfg))
    device = jax.devices()[0]
    inputs = jax.device_put((data.frozen(features), window, weights), device)
    seconds = stopwatch.measure(
        lambda _: jax.block_until_ready(score(*inputs)), range(warm_up + count), warm_up, count
    )
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    name = stopwatch.processor() if device.platform == "cpu" else device.device_kind
    return Measured(seconds, stopwatch.host_peak(), peak, name)


def _longest(features: Store) -> int:
    lengths = [v.snippets if v.error is None else 0 for v in features.videos]
    return lengths.index(max(lengths))
