"""How the demo's videos look: a fixed camera on a street, drawn from soft-edged boxes and discs."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from featurize.demo.scripts import HEIGHT, WIDTH, Event, Mover, Script

SKIN = (200, 160, 130)
STREETS = (  # sky, wall, pavement, road
    ((150, 180, 210), (140, 110, 90), (150, 150, 145), (85, 85, 90)),
    ((190, 190, 185), (165, 165, 170), (125, 120, 115), (65, 65, 70)),
    ((110, 140, 180), (95, 115, 95), (165, 155, 135), (105, 100, 95)),
    ((205, 195, 170), (175, 140, 115), (135, 135, 150), (75, 70, 80)),
)
PAVEMENT, ROAD = 55, 84  # rows where they begin
Colour = Sequence[float] | np.ndarray  # red, green, blue, 0 to 255
STEADY = 12  # frames between two changes of the camera's exposure, noise and direction


class Box(NamedTuple):
    """A turned rectangle: its middle and half its sides, in pixels."""

    x: float
    y: float
    half_width: float
    half_height: float
    angle: float = 0.0

    def depth(self, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """How far inside its edge a pixel lies that is (dx, dy) from the middle; < 0 outside."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        across, along = np.abs(dx * cosine + dy * sine), np.abs(dy * cosine - dx * sine)
        return np.minimum(self.half_width - across, self.half_height - along)


class Disc(NamedTuple):
    """An ellipse: its middle and its half axes, in pixels."""

    x: float
    y: float
    half_width: float
    half_height: float

    def depth(self, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """About how far inside its edge a pixel lies that is (dx, dy) from the middle."""
        radius = np.sqrt((np.abs(dx) / self.half_width) ** 2 + (np.abs(dy) / self.half_height) ** 2)
        return (1 - radius) * min(self.half_width, self.half_height)


def frames_of(script: Script) -> Iterator[np.ndarray]:
    """The pictures of a video, uint8 [HEIGHT, WIDTH, 3] each."""
    picture_at = painter(script)
    return (picture_at(frame) for frame in range(script.frames))


def painter(script: Script) -> Callable[[int], np.ndarray]:
    """A function that draws any frame of a video."""
    rng = np.random.default_rng(script.seed)
    street = _street(script.street, rng)
    grain = rng.normal(0, 1, (HEIGHT + 16, WIDTH + 16, 3)).astype(np.float32)
    shifts = rng.integers(0, 16, (script.frames, 2))
    blocks = script.frames // STEADY + 1
    exposure = script.brightness * rng.uniform(0.7, 1.25, blocks)
    noise = script.noise * rng.uniform(0.3, 1.8, blocks)
    shake = rng.integers(-2, 3, (blocks, 2))
    near = [(*rng.uniform(0, 1, 3), rng.random() < 0.15) for _ in range(blocks)]

    def picture_at(frame: int) -> np.ndarray:
        picture = street.copy()
        for mover in script.movers:
            _mover(picture, mover, frame)
        for event in script.events:
            if event.start <= frame < event.end:
                DRAW[event.kind](picture, event, frame - event.start)
        block = frame // STEADY
        x, y, tone, close = near[block]
        if close:  # a leaf or an insect before the lens
            _paint(picture, Disc(x * WIDTH, y * HEIGHT, 40, 30), (150 * tone,) * 3, 0.85)
        picture = np.roll(picture, shake[block], (0, 1)) * exposure[block]
        dy, dx = shifts[frame]
        picture += noise[block] * grain[dy : dy + HEIGHT, dx : dx + WIDTH]
        return np.clip(picture, 0, 255).astype(np.uint8)

    return picture_at


def _street(number: int, rng: np.random.Generator) -> np.ndarray:
    sky, wall, pavement, road = STREETS[number]
    picture = np.empty((HEIGHT, WIDTH, 3), np.float32)
    for (top, bottom), colour in zip(
        ((0, 15), (15, PAVEMENT), (PAVEMENT, ROAD), (ROAD, HEIGHT)),
        (sky, wall, pavement, road),
        strict=True,
    ):
        picture[top:bottom] = np.array(colour) + rng.uniform(-15, 15)
    for x in range(10 + int(rng.integers(12)), WIDTH, 26):
        _paint(picture, Box(x, 33, 6, 9), rng.uniform(40, 110, 3))
    for x in range(int(rng.integers(20)), WIDTH, 30):
        _paint(picture, Box(x, 101, 7, 1), (190, 190, 180))
    if rng.random() < 0.6:
        _paint(picture, Box(rng.uniform(10, WIDTH - 10), 45, 1.5, 38), (60, 60, 60))
    return picture


def _paint(picture: np.ndarray, shape: Box | Disc, colour: Colour, alpha: float = 1.0) -> None:
    """Blends a shape into the picture, float32 [HEIGHT, WIDTH, 3]; its edge is one pixel soft."""
    x, y = shape.x, shape.y
    reach = int(np.hypot(shape.half_width, shape.half_height)) + 2
    left, right = max(0, int(x) - reach), min(WIDTH, int(x) + reach + 1)
    top, bottom = max(0, int(y) - reach), min(HEIGHT, int(y) + reach + 1)
    if left >= right or top >= bottom:
        return
    dx = np.arange(left, right, dtype=np.float32)[None] - x
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - y
    weight = (alpha * np.clip(shape.depth(dx, dy) + 0.5, 0, 1))[..., None]
    part = picture[top:bottom, left:right]
    part += weight * (np.asarray(colour, np.float32) - part)


def _person(
    picture: np.ndarray,
    foot: tuple[float, float],
    size: float,
    colour: Colour,
    stride: float,
    lean: float = 0.0,
    reach: float = 0.0,
) -> None:
    """A person whose foot stands at (x, y); `reach` stretches an arm to that side."""
    x, y = foot
    tall = 22 * size
    for side in (-1, 1):
        step = side * 2.5 * size * np.sin(stride)
        leg = Box(x + 0.5 * step, y - 0.22 * tall, 1.3 * size, 0.24 * tall, -0.09 * step)
        _paint(picture, leg, (45, 45, 60))
    top = x + lean * tall
    body = Box(0.5 * (x + top), y - 0.6 * tall, 3.1 * size, 0.22 * tall, lean)
    _paint(picture, body, colour)
    if reach:
        middle = top + 4.5 * size * reach
        arm = Box(middle, y - 0.68 * tall, 4.5 * size, 1.1 * size, 0.2 * reach)
        _paint(picture, arm, colour)
    _paint(picture, Disc(top, y - 0.9 * tall, 2.4 * size, 2.6 * size), SKIN)


def _vehicle(
    picture: np.ndarray, x: float, y: float, size: float, colour: Colour, angle: float = 0.0
) -> None:
    """A car or van whose wheels stand at y."""
    cosine, sine = np.cos(angle), np.sin(angle)
    for dx, dy, half_width, half_height, paint in (
        (0, -6, 16, 4.5, colour),
        (-1, -12, 9.5, 3.5, np.multiply(colour, 0.8)),
        (-1, -12, 7.5, 2.3, (60, 75, 90)),
        (-9, -2, 3, 3, (20, 20, 20)),
        (9, -2, 3, 3, (20, 20, 20)),
    ):
        px, py = size * (dx * cosine - dy * sine), size * (dx * sine + dy * cosine)
        part = Box(x + px, y + py, half_width * size, half_height * size, angle)
        _paint(picture, part, paint)


def _mover(picture: np.ndarray, mover: Mover, frame: int) -> None:
    x = mover.x(frame)
    if mover.kind == "person":
        stride = 0.25 * frame * abs(mover.speed)
        _person(picture, (x, mover.y), mover.size, mover.colour, stride)
    else:
        _vehicle(picture, x, mover.y, mover.size, mover.colour)


def _colours(event: Event, count: int) -> np.ndarray:
    return np.random.default_rng(event.seed).uniform(20, 220, (count, 3))


def _fighting(picture: np.ndarray, event: Event, t: int) -> None:
    first, second = _colours(event, 2)
    gap = 7 + 4 * np.sin(0.21 * t + event.seed)
    down = (t // 40 + event.seed) % 3 == 0
    blow = np.sin(0.9 * t) > 0
    _person(picture, (event.x - gap, event.y), event.size, first, 0.8 * t, 0.2, 1.2 * blow)
    if down:
        body = Box(event.x + gap, event.y - 3, 10 * event.size, 3 * event.size, 0.1)
        _paint(picture, body, second)
        _paint(picture, Disc(event.x + gap + 11, event.y - 3, 2.5, 2.5), SKIN)
    else:
        foot = event.x + gap, event.y
        _person(picture, foot, event.size, second, 0.9 * t, -0.2, -1.2 * (not blow))


def _embrace(picture: np.ndarray, event: Event, t: int) -> None:
    first, second = _colours(event, 2)
    sway = np.sin(0.1 * t)
    _person(picture, (event.x - 4, event.y), event.size, first, 0, 0.1, 0.9 + 0.1 * sway)
    _person(picture, (event.x + 5, event.y), event.size, second, 0, -0.12, -0.9)


def _rush(picture: np.ndarray, event: Event, t: int) -> None:
    for number, colour in enumerate(_colours(event, 3)):
        x = (event.x + (2.1 + 0.3 * number) * t + 14 * number) % (WIDTH + 30) - 15
        y = event.y + 3 * number
        _person(picture, (x, y), event.size, colour, 0.7 * t + number, 0.2, 0.8 * np.sin(0.7 * t))


def _cloud(
    picture: np.ndarray,
    event: Event,
    t: int,
    puffs: int,
    grey: float,
    radius: float,
    alpha: float,
) -> None:
    """Puffs that rise from the event and spread as they fade."""
    rng = np.random.default_rng(event.seed)
    for offset, phase, drift in rng.uniform(-1, 1, (puffs, 3)):
        age = (0.5 * phase + 0.012 * t) % 1.0
        x = event.x + event.size * (14 * offset + 16 * drift * age)
        spread = event.size * radius * (0.4 + age)
        shade = (grey + 25 * offset,) * 3
        puff = Disc(x, event.y - 50 * event.size * age, spread, spread)
        _paint(picture, puff, shade, alpha * (1.1 - age))


def _explosion(picture: np.ndarray, event: Event, t: int) -> None:
    share = t / (event.end - event.start)
    _cloud(picture, event, t, 8, 90, 13, min(0.65, 0.1 + 1.5 * share))
    fire = event.size * (16 * np.exp(-4 * share) + 5 + 2 * np.sin(0.8 * t))
    for scale, colour in ((1.0, (225, 130, 50)), (0.6, (250, 190, 80)), (0.3, (255, 240, 190))):
        flame = Disc(event.x, event.y - 0.5 * fire, scale * fire, 0.9 * scale * fire)
        _paint(picture, flame, colour, 0.7)


def _glow(picture: np.ndarray, event: Event, t: int) -> None:
    radius = event.size * (17 + 2 * np.sin(0.05 * t))
    for scale, alpha in ((1.0, 0.35), (0.6, 0.6), (0.3, 0.9)):
        light = Disc(event.x, event.y - 22, scale * radius, scale * radius)
        _paint(picture, light, (255, 215, 130), alpha)


def _steam(picture: np.ndarray, event: Event, t: int) -> None:
    _cloud(picture, event, t, 7, 80 + event.seed % 90, 12, 0.5)


def _accident(picture: np.ndarray, event: Event, t: int) -> None:
    first, second = _colours(event, 2)
    distance = max(0.0, 60 - 2.5 * t)
    turn = min(0.35, 0.02 * max(0, t - 20))
    x, y = event.x, event.y
    _vehicle(picture, x - 15 * event.size - distance, y, event.size, first, -0.6 * turn)
    _vehicle(picture, x + 15 * event.size, y - 2, event.size, second, turn)
    for dx, dy in np.random.default_rng(event.seed).uniform(-1, 1, (8, 2)) * bool(turn):
        _paint(picture, Box(x + 26 * dx, y + 5 * dy, 1, 0.8, dx), (200, 200, 205))


def _halt(picture: np.ndarray, event: Event, t: int) -> None:
    first, second = _colours(event, 2)
    distance = max(event.seed % 4, 60 - 1.5 * t)
    turn = 0.05 * (event.seed % 3)  # not every driver stops in line
    _vehicle(picture, event.x - 16 * event.size - distance, event.y, event.size, first, -turn)
    _vehicle(picture, event.x + 16 * event.size, event.y - 2, event.size, second, turn)


DRAW = {
    "Fighting": _fighting,
    "Explosion": _explosion,
    "RoadAccident": _accident,
    "embrace": _embrace,
    "rush": _rush,
    "glow": _glow,
    "steam": _steam,
    "halt": _halt,
}
