"""How the demo's videos look: a fixed camera on a street, drawn from soft-edged boxes and discs."""

from collections.abc import Callable, Iterator

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
STEADY = 12  # frames between two changes of the camera's exposure, noise and direction


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
            _disc(picture, x * WIDTH, y * HEIGHT, 40, 30, (150 * tone,) * 3, 0.85)
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
        _box(picture, x, 33, 6, 9, 0, rng.uniform(40, 110, 3))
    for x in range(int(rng.integers(20)), WIDTH, 30):
        _box(picture, x, 101, 7, 1, 0, (190, 190, 180))
    if rng.random() < 0.6:
        _box(picture, rng.uniform(10, WIDTH - 10), 45, 1.5, 38, 0, (60, 60, 60))
    return picture


def _paint(picture, x, y, half_width, half_height, angle, colour, alpha, disc):
    """Blend a turned box or ellipse into the picture; its edge is one pixel soft."""
    reach = int(np.hypot(half_width, half_height)) + 2
    left, right = max(0, int(x) - reach), min(WIDTH, int(x) + reach + 1)
    top, bottom = max(0, int(y) - reach), min(HEIGHT, int(y) + reach + 1)
    if left >= right or top >= bottom:
        return
    dx = np.arange(left, right, dtype=np.float32)[None] - x
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - y
    cosine, sine = np.cos(angle), np.sin(angle)
    across, along = np.abs(dx * cosine + dy * sine), np.abs(dy * cosine - dx * sine)
    if disc:
        radius = np.sqrt((across / half_width) ** 2 + (along / half_height) ** 2)
        inside = (1 - radius) * min(half_width, half_height)
    else:
        inside = np.minimum(half_width - across, half_height - along)
    weight = (alpha * np.clip(inside + 0.5, 0, 1))[..., None]
    part = picture[top:bottom, left:right]
    part += weight * (np.asarray(colour, np.float32) - part)


def _box(picture, x, y, half_width, half_height, angle, colour, alpha=1.0):
    _paint(picture, x, y, half_width, half_height, angle, colour, alpha, False)


def _disc(picture, x, y, half_width, half_height, colour, alpha=1.0):
    _paint(picture, x, y, half_width, half_height, 0.0, colour, alpha, True)


def _person(picture, x, y, size, colour, stride, lean=0.0, reach=0.0):
    """A person whose foot stands at (x, y); `reach` stretches an arm to that side."""
    tall = 22 * size
    for side in (-1, 1):
        step = side * 2.5 * size * np.sin(stride)
        _box(
            picture,
            x + 0.5 * step,
            y - 0.22 * tall,
            1.3 * size,
            0.24 * tall,
            -0.09 * step,
            (45, 45, 60),
        )
    top = x + lean * tall
    _box(picture, 0.5 * (x + top), y - 0.6 * tall, 3.1 * size, 0.22 * tall, lean, colour)
    if reach:
        _box(
            picture,
            top + 4.5 * size * reach,
            y - 0.68 * tall,
            4.5 * size,
            1.1 * size,
            0.2 * reach,
            colour,
        )
    _disc(picture, top, y - 0.9 * tall, 2.4 * size, 2.6 * size, SKIN)


def _vehicle(picture, x, y, size, colour, angle=0.0):
    """A car or van whose wheels stand at y."""
    cosine, sine = np.cos(angle), np.sin(angle)
    for dx, dy, hw, hh, paint in (
        (0, -6, 16, 4.5, colour),
        (-1, -12, 9.5, 3.5, np.multiply(colour, 0.8)),
        (-1, -12, 7.5, 2.3, (60, 75, 90)),
        (-9, -2, 3, 3, (20, 20, 20)),
        (9, -2, 3, 3, (20, 20, 20)),
    ):
        px, py = size * (dx * cosine - dy * sine), size * (dx * sine + dy * cosine)
        _box(picture, x + px, y + py, hw * size, hh * size, angle, paint)


def _mover(picture: np.ndarray, mover: Mover, frame: int) -> None:
    x = mover.x(frame)
    if mover.kind == "person":
        _person(picture, x, mover.y, mover.size, mover.colour, 0.25 * frame * abs(mover.speed))
    else:
        _vehicle(picture, x, mover.y, mover.size, mover.colour)


def _colours(event: Event, count: int) -> np.ndarray:
    return np.random.default_rng(event.seed).uniform(20, 220, (count, 3))


def _fighting(picture: np.ndarray, event: Event, t: int) -> None:
    first, second = _colours(event, 2)
    gap = 7 + 4 * np.sin(0.21 * t + event.seed)
    down = (t // 40 + event.seed) % 3 == 0
    blow = np.sin(0.9 * t) > 0
    _person(picture, event.x - gap, event.y, event.size, first, 0.8 * t, 0.2, 1.2 * blow)
    if down:
        _box(picture, event.x + gap, event.y - 3, 10 * event.size, 3 * event.size, 0.1, second)
        _disc(picture, event.x + gap + 11, event.y - 3, 2.5, 2.5, SKIN)
    else:
        _person(
            picture, event.x + gap, event.y, event.size, second, 0.9 * t, -0.2, -1.2 * (not blow)
        )


def _embrace(picture: np.ndarray, event: Event, t: int) -> None:
    first, second = _colours(event, 2)
    sway = np.sin(0.1 * t)
    _person(picture, event.x - 4, event.y, event.size, first, 0, 0.1, 0.9 + 0.1 * sway)
    _person(picture, event.x + 5, event.y, event.size, second, 0, -0.12, -0.9)


def _rush(picture: np.ndarray, event: Event, t: int) -> None:
    for number, colour in enumerate(_colours(event, 3)):
        x = (event.x + (2.1 + 0.3 * number) * t + 14 * number) % (WIDTH + 30) - 15
        y = event.y + 3 * number
        _person(picture, x, y, event.size, colour, 0.7 * t + number, 0.2, 0.8 * np.sin(0.7 * t))


def _cloud(picture, event: Event, t: int, puffs: int, grey: float, radius: float, alpha: float):
    rng = np.random.default_rng(event.seed)
    for offset, phase, drift in rng.uniform(-1, 1, (puffs, 3)):
        age = (0.5 * phase + 0.012 * t) % 1.0
        x = event.x + event.size * (14 * offset + 16 * drift * age)
        spread = event.size * radius * (0.4 + age)
        shade = (grey + 25 * offset,) * 3
        _disc(
            picture, x, event.y - 50 * event.size * age, spread, spread, shade, alpha * (1.1 - age)
        )


def _explosion(picture: np.ndarray, event: Event, t: int) -> None:
    share = t / (event.end - event.start)
    _cloud(picture, event, t, 8, 90, 13, min(0.65, 0.1 + 1.5 * share))
    fire = event.size * (16 * np.exp(-4 * share) + 5 + 2 * np.sin(0.8 * t))
    for scale, colour in ((1.0, (225, 130, 50)), (0.6, (250, 190, 80)), (0.3, (255, 240, 190))):
        _disc(picture, event.x, event.y - 0.5 * fire, scale * fire, 0.9 * scale * fire, colour, 0.7)


def _glow(picture: np.ndarray, event: Event, t: int) -> None:
    radius = event.size * (17 + 2 * np.sin(0.05 * t))
    for scale, alpha in ((1.0, 0.35), (0.6, 0.6), (0.3, 0.9)):
        _disc(
            picture, event.x, event.y - 22, scale * radius, scale * radius, (255, 215, 130), alpha
        )


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
        _box(picture, x + 26 * dx, y + 5 * dy, 1, 0.8, dx, (200, 200, 205))


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
