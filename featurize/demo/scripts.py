"""The demo data set: what happens in each of its videos.

A script says which people and vehicles pass, and when and where an anomaly or something that
merely looks like one takes place. Everything follows from the video's number, so the temporal
truth is exact and the same on every machine.
"""

from dataclasses import dataclass

import numpy as np

from featurize.sources import SNIPPET_FRAMES

SEED = 2024
FPS = 25
WIDTH, HEIGHT = 160, 120
CLASSES = ("Normal", "Fighting", "Explosion", "RoadAccident")
LOOKALIKES = ("embrace", "rush", "glow", "steam", "halt")
SIZES = {"train": 220, "test": 60}
SHORTEST, LONGEST = 12, 60  # snippets


@dataclass(frozen=True)
class Mover:
    """A person or a vehicle that crosses the picture again and again at constant speed."""

    kind: str
    start: float  # pixels travelled at frame 0
    speed: float  # pixels a frame, negative to the left
    y: float  # of its foot
    size: float
    colour: tuple[float, ...]
    gap: float  # pixels it stays out of sight between two passages

    def x(self, frame: int) -> float:
        """Position of its middle at a frame, in pixels; outside the picture while out of sight."""
        travelled = (self.start + self.speed * frame) % (WIDTH + self.gap)
        return travelled - 0.5 * self.gap


@dataclass(frozen=True)
class Event:
    """An anomaly (its kind is a class) or a look-alike, in frames [start, end) at a place."""

    kind: str
    start: int
    end: int
    x: float
    y: float
    size: float
    seed: int


@dataclass(frozen=True)
class Script:
    """One video: its label, its length, its street and all that moves there."""

    video: str
    split: str
    label: str
    frames: int
    street: int  # which of the streets, see scenes.py
    brightness: float
    noise: float
    seed: int
    movers: tuple[Mover, ...]
    events: tuple[Event, ...]

    @property
    def intervals(self) -> tuple[tuple[str, int, int], ...]:
        """The anomalies, as (class, start, end) in frames."""
        return tuple((e.kind, e.start, e.end) for e in self.events if e.kind in CLASSES)


def scripts() -> list[Script]:
    """The scripts of all videos: in each split every other video is normal."""
    return [_script(split, number) for split, count in SIZES.items() for number in range(count)]


def _script(split: str, number: int) -> Script:
    rng = np.random.default_rng([SEED, list(SIZES).index(split), number])
    label = CLASSES[0] if number % 2 == 0 else CLASSES[1 + number // 2 % 3]
    snippets = SHORTEST + int((LONGEST - SHORTEST + 1) * rng.beta(1.1, 2.6))
    frames = SNIPPET_FRAMES * snippets - int(rng.integers(SNIPPET_FRAMES))
    events = []
    if label != CLASSES[0]:
        length = max(5.0, snippets * rng.uniform(0.45, 0.75)) * SNIPPET_FRAMES
        start = rng.uniform(0, frames - length)
        events.append(_event(label, start, length, rng))
    for _ in range(rng.integers(1, 5)):
        length = rng.uniform(2, 6) * SNIPPET_FRAMES
        start = rng.uniform(0, frames - length)
        clear = all(start + length < e.start or start > e.end for e in events)
        if clear:
            events.append(_event(str(rng.choice(LOOKALIKES)), start, length, rng))
    return Script(
        video=f"{label}{number:03d}_{split}",
        split=split,
        label=label,
        frames=frames,
        street=int(rng.integers(4)),
        brightness=rng.uniform(0.45, 1.1),
        noise=rng.uniform(2, 9),
        seed=int(rng.integers(2**31)),
        movers=_movers(rng),
        events=tuple(sorted(events, key=lambda event: event.start)),
    )


def _event(kind: str, start: float, length: float, rng: np.random.Generator) -> Event:
    road = kind in ("RoadAccident", "halt")
    y = rng.uniform(92, 108) if road else rng.uniform(62, 78)
    x, size = rng.uniform(35, WIDTH - 35), rng.uniform(0.7, 1.2)
    return Event(kind, int(start), int(start + length), x, y, size, int(rng.integers(2**31)))


def _movers(rng: np.random.Generator) -> tuple[Mover, ...]:
    movers = []
    for kind, most, speeds, gaps in (
        ("person", 5, (0.3, 1.1), (20, 150)),
        ("vehicle", 2, (1.2, 3.0), (80, 500)),
    ):
        for _ in range(rng.integers(most + 1)):
            movers.append(
                Mover(
                    kind=kind,
                    start=rng.uniform(0, WIDTH + gaps[1]),
                    speed=rng.uniform(*speeds) * rng.choice([-1, 1]),
                    y=rng.uniform(62, 80) if kind == "person" else rng.uniform(92, 110),
                    size=rng.uniform(0.8, 1.2),
                    colour=tuple(rng.uniform(20, 220, 3)),
                    gap=rng.uniform(*gaps),
                )
            )
    return tuple(sorted(movers, key=lambda mover: mover.y))
