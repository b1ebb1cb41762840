"""Captions of the demo: templates that say what a snippet shows, and often do not.

A captioner misses things and sees things. For an anomaly it says so only with chance HIT, speaks
of what it resembles with chance VAGUE, and otherwise tells of the street. For a look-alike it
cries wolf with chance WOLF and elsewhere with chance ALARM. Every snippet is drawn for itself, from
a generator that the pictures do not share.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from featurize.demo.scripts import CLASSES, SEED, WIDTH, Script, scripts
from featurize.sources import SNIPPET_FRAMES, Entry

CAPTION_STREAM = 1
HIT, VAGUE = 0.74, 0.12
WOLF, NAMED = 0.15, 0.6  # a look-alike taken for an anomaly, or called what it is
ALARM = 0.12

STREET = (
    "a quiet street in front of a row of buildings",
    "an empty road seen from a fixed camera",
    "nothing much happens on the street",
    "a building with many windows beside a road",
    "a view of a pavement and a road with a white line",
)
PERSON = (
    "a person walks along the pavement",
    "a pedestrian passes the building",
    "someone strolls down the street",
    "a man in a coat is walking by",
    "a woman crosses the picture on foot",
)
PEOPLE = (
    "several people walk along the pavement",
    "a few pedestrians pass each other in front of the building",
    "people are walking down the street",
    "a group of people goes by",
)
VEHICLE = (
    "a car drives along the road",
    "a van passes from one side to the other",
    "traffic moves past the building",
    "a vehicle drives by on the street",
)
ANOMALY = {
    "Fighting": (
        "two men are fighting on the pavement",
        "a man punches another man in the street",
        "people hit and kick each other",
        "a person lies on the ground while another one strikes him",
        "a violent brawl breaks out between two people",
        "two people wrestle and throw punches",
    ),
    "Explosion": (
        "a large explosion with fire and smoke",
        "flames burst out in front of the building",
        "a blast fills the street with thick smoke",
        "a fireball rises beside the road",
        "a fire burns on the pavement and black smoke goes up",
        "something explodes near the wall",
    ),
    "RoadAccident": (
        "two cars crash into each other",
        "a car collides with another vehicle",
        "a damaged car stands across the road after a collision",
        "a crash blocks the road and debris lies around",
        "a vehicle hits a van on the road",
        "there has been a traffic accident with two cars",
    ),
}
LOOKALIKE = {
    "embrace": (
        "two people stand close together and hug",
        "two friends hold each other and talk",
        "a couple embraces on the pavement",
    ),
    "rush": (
        "people run along the pavement",
        "a group of joggers comes by in a hurry",
        "children chase each other in play",
    ),
    "glow": (
        "a bright lamp shines in front of the building",
        "strong light dazzles the camera",
        "the sun is reflected by a window",
    ),
    "steam": (
        "white steam rises beside the wall",
        "a cloud of vapour drifts over the pavement",
        "some smoke comes from a chimney or a grill",
    ),
    "halt": (
        "a car stops close behind another car",
        "two cars wait bumper to bumper",
        "a car brakes and stands still on the road",
    ),
}
RESEMBLES = {
    "embrace": "Fighting",
    "rush": "Fighting",
    "glow": "Explosion",
    "steam": "Explosion",
    "halt": "RoadAccident",
}


class ScriptedCaptions:
    """The demo's captioner."""

    def __init__(self) -> None:
        self._scripts = {script.video: script for script in scripts()}
        templates = json.dumps([STREET, PERSON, PEOPLE, VEHICLE, ANOMALY, LOOKALIKE])
        self.producer = {
            # This file's name when the committed demo was made: part of that store's record.
            "model": "templates with noise, featurize/demo_captions.py",
            "templates_sha256": hashlib.sha256(templates.encode()).hexdigest(),
            "seed": SEED,
            "chances": {"hit": HIT, "vague": VAGUE, "wolf": WOLF, "named": NAMED, "alarm": ALARM},
            "snippets": f"{SNIPPET_FRAMES} frames",
        }

    def snippet_frames(self, entry: Entry) -> int:
        """Always 16."""
        return SNIPPET_FRAMES

    def __call__(self, entry: Entry) -> list[str]:
        """The captions of a video, one a snippet."""
        return captions(self._scripts[entry.video])


def captions(script: Script) -> list[str]:
    """One caption for each snippet of a script."""
    rng = np.random.default_rng([SEED, CAPTION_STREAM, script.seed])
    starts = range(0, script.frames, SNIPPET_FRAMES)
    return [_caption(script, start, rng) for start in starts]


def _caption(script: Script, start: int, rng: np.random.Generator) -> str:
    # As many draws whatever is said, so that a changed chance leaves the other captions alone.
    luck, pick, alarm = rng.random(), rng.random(), rng.integers(1, len(CLASSES))
    middle = start + SNIPPET_FRAMES // 2
    event = next((e.kind for e in script.events if e.start <= middle < e.end), None)
    if event in ANOMALY:
        alike = [name for name, anomaly in RESEMBLES.items() if anomaly == event]
        if luck < HIT:
            return _pick(ANOMALY[event], pick)
        if luck < HIT + VAGUE:
            return _pick([text for name in alike for text in LOOKALIKE[name]], pick)
    elif event is not None:
        if luck < WOLF:
            return _pick(ANOMALY[RESEMBLES[event]], pick)
        if luck < WOLF + NAMED:
            return _pick(LOOKALIKE[event], pick)
    elif luck < ALARM:
        return _pick(ANOMALY[CLASSES[alarm]], pick)
    return _pick(_scenery(script, middle), pick)


def _scenery(script: Script, frame: int) -> list[str]:
    """What can be said of the street and of those who are in the picture."""
    seen = [m.kind for m in script.movers if 0 <= m.x(frame) < WIDTH]
    people = seen.count("person")
    texts = [*STREET]
    texts += PEOPLE if people > 1 else PERSON if people else ()
    texts += VEHICLE if "vehicle" in seen else ()
    return texts


def _pick(texts: Sequence[str], share: float) -> str:
    """The text that stands at a share, in [0, 1), of the list."""
    return texts[int(share * len(texts))]
