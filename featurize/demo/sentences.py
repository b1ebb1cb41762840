"""Human-like sentences of the demo's test videos, in UCA's format: DEMO/sentences.json.

They tell the script as it is, without a captioner's noise and in other words than its templates:
a sentence for every event, from its first to its last moment, and one for every longer stretch
between events.
"""

from pathlib import Path
from typing import Any

import numpy as np

from featurize.demo.scripts import FPS, SEED, WIDTH, Script, scripts
from semvad_jax.files import json_text
from semvad_jax.files import write as write_file

SENTENCE_STREAM = 2  # captions.py draws from stream 1
FILE = "sentences.json"
EVENTS = {
    "Fighting": (
        "Two persons got into a fight and beat each other.",
        "A man was attacked by another one, who kept hitting him until he went down.",
        "The two started a scuffle, pushing and punching.",
    ),
    "Explosion": (
        "There was a sudden explosion, and fire and smoke spread everywhere.",
        "Something blew up and burned with heavy smoke.",
        "The place caught fire after a loud bang, and dark smoke covered the picture.",
    ),
    "RoadAccident": (
        "Two vehicles bumped into each other in a serious accident.",
        "A car ran into another car, and both were wrecked.",
        "The cars had a collision in the middle of the road and stayed there.",
    ),
    "embrace": (
        "Two acquaintances met and hugged each other warmly.",
        "A pair stopped to embrace and chat for a while.",
    ),
    "rush": (
        "Some people jogged past quickly.",
        "A few kids were running around and playing.",
    ),
    "glow": (
        "A lamp was turned on and shone brightly into the camera.",
        "The sunlight was reflected and made the picture very bright.",
    ),
    "steam": (
        "White vapour came out beside the house and drifted away.",
        "A cloud of steam floated over the sidewalk.",
    ),
    "halt": (
        "One car stopped right behind another one and waited.",
        "Two cars stood in line on the road without moving.",
    ),
}
BETWEEN = {  # by whether several people, one or none pass, and whether a vehicle does
    (2, True): "Pedestrians went back and forth on the sidewalk and cars passed by.",
    (2, False): "Pedestrians went back and forth on the sidewalk.",
    (1, True): "One pedestrian went past while a car was driving along.",
    (1, False): "One pedestrian went past the house.",
    (0, True): "A car drove past the house, and nobody was around.",
    (0, False): "The street was empty and nothing happened.",
}


def write(folder: Path) -> None:
    """Writes the sentences of all test videos to FOLDER/sentences.json, beside the demo's store."""
    test = {script.video: sentences(script) for script in scripts() if script.split == "test"}
    write_file(folder / FILE, json_text(test))


def sentences(script: Script) -> dict[str, Any]:
    """A video's entry: "duration" in seconds, "timestamps" and "sentences" in the order of time."""
    rng = np.random.default_rng([SEED, SENTENCE_STREAM, script.seed])
    spoken = [(e.start, e.end, str(rng.choice(EVENTS[e.kind]))) for e in script.events]
    starts = [0, *(e.end for e in script.events)]
    ends = [*(e.start for e in script.events), script.frames]
    for start, end in zip(starts, ends, strict=True):
        if end - start >= FPS:  # a second
            spoken.append((start, end, _between(script, start, end)))
    spoken.sort()
    return {
        "duration": round(script.frames / FPS, 2),
        "timestamps": [[round(start / FPS, 2), round(end / FPS, 2)] for start, end, _ in spoken],
        "sentences": [text for _, _, text in spoken],
    }


def _between(script: Script, start: int, end: int) -> str:
    """Who passes in frames [start, end)."""
    seen = [
        mover.kind
        for mover in script.movers
        if any(0 <= mover.x(frame) < WIDTH for frame in range(start, end))
    ]
    return BETWEEN[min(seen.count("person"), 2), "vehicle" in seen]
