"""How far a stage is, worked out by hand: of snippets, with their speed and the time left."""

import io

import pytest

pytest.importorskip("rich", reason="needs rich")

from rich.console import Console  # noqa: E402

from featurize import progress  # noqa: E402


@pytest.fixture
def now(monkeypatch):
    """A clock that is set by hand."""
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def shown(monkeypatch):
    """What a log or a terminal gets."""

    def opened(terminal):
        text = io.StringIO()
        made = Console(file=text, force_terminal=terminal, width=120, highlight=False)
        monkeypatch.setattr(progress, "Console", lambda **_: made)
        return text

    return opened


def test_a_log_gets_a_line_a_minute_within_one_long_video(now, shown):
    log = shown(False)
    with progress.Progress("visual, captions", [1000, 200, 0], [False, True, False]) as bar:
        for _ in range(13):  # 10 seconds each
            bar.more(0, 10)
            now[0] += 10
        now[0] += 0
    # 200 were there before; the first ten only start the clock: 60 in 60 s, then 120 in 120 s
    assert log.getvalue().splitlines() == [
        "visual, captions: 270 of 1,200 snippets, 1 of 3 videos, 1.0 snippets/s, 0:15:30 left",
        "visual, captions: 330 of 1,200 snippets, 1 of 3 videos, 1.0 snippets/s, 0:14:30 left",
    ]


def test_a_short_stage_leaves_a_log_alone(now, shown):
    log = shown(False)
    with progress.Progress("text", [5, 5], [False, False]) as bar:
        for video in (0, 1):
            bar.more(video, 5)
            bar.finish(video)
    assert log.getvalue() == ""


def test_a_terminal_gets_a_bar(now, shown):
    terminal = shown(True)
    with progress.Progress("visual", [40], [False]) as bar:
        bar.more(0, 10)
        now[0] += 2
        bar.more(0, 10)
    assert "20 of 40 snippets, 0 of 1 videos, 5.0 snippets/s, 0:00:04 left" in terminal.getvalue()
