"""The index of what --detect made, opened in headless Chromium and used."""

import json

import pytest

from semvad_jax.detection import index, pictures
from semvad_jax.detection.events import Rule, events
from tests import test_video_page
from tests.support.pages import accessible
from tests.test_events import timeline

browser, opened = test_video_page.browser, test_video_page.opened
RIOT, NORMAL = [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]
ODD = "a<b>'\"&"
HOSTILE = "</script><b>\"'&x.mp4"


def row(video, mean, probabilities=None):
    line = timeline(mean, probabilities or [RIOT] * len(mean), video=video)
    found = events(line, Rule(0.5, 0.5))
    # a picture says of which snippet it is
    shown = pictures.of_events(line, found, lambda _, at: [bytes([n // 16]) for n, _ in at])
    return index.scored(f"{video} #1" if video == "b2" else video, line, found, shown)


@pytest.fixture
def rows():
    return [
        row("b10", [0.2, 0.1, 0.3]),
        row("b2", [0.9, 0.1, 0.6]),
        row(ODD, [0.7], [NORMAL]),
        index.failed(HOSTILE, "not a <readable> video"),
    ]


def cells(page, column):
    return page.locator(f"#videos tbody tr > :nth-child({column})").all_inner_texts()


def test_the_index_as_data(rows, tmp_path):
    index.write_index(tmp_path, "runs/x", rows, test_video_page.BY)
    told = json.loads((tmp_path / "index.json").read_text())
    assert told["run"] == "runs/x" and [v["video"] for v in told["videos"]][:2] == ["b10", "b2"]
    assert told["videos"][1] == {
        "video": "b2",
        "folder": "b2 #1",
        "status": "scored",
        "reason": None,
        "length_seconds": 1.68,  # 42 frames at 25 a second
        "events": 2,
        "highest_score": 0.9,
        "class": "Riot",
    }
    assert told["videos"][0]["events"] == 0 and told["videos"][0]["class"] is None
    assert told["videos"][3]["reason"] == "not a <readable> video"
    assert told["videos"][3]["folder"] is told["videos"][3]["highest_score"] is None


def test_class_and_picture_are_those_of_the_event_with_the_highest_score():
    for mean, label, snippet in (([0.6, 0.1, 0.9], "Arson", 2), ([0.9, 0.1, 0.6], "Riot", 0)):
        told = row("v", mean, [RIOT, NORMAL, [0.1, 0.1, 0.8]])
        assert told.class_ == label and told.picture == pictures._address(bytes([snippet]))
    assert row("v", [0.1]).picture is None


def test_the_index_is_sorted_by_mouse_and_by_keyboard(opened, rows, tmp_path):
    index.write_index(tmp_path, "runs/x", rows, test_video_page.BY)
    page = opened(tmp_path / "index.html")
    assert "2 of them have an event" in page.inner_text("header")
    assert cells(page, 1) == ["b2", ODD, "b10"]  # the highest score first
    assert cells(page, 4) == ["0.900", "0.700", "0.300"]
    assert cells(page, 5) == ["Riot", "unusual, no class", "no event"]
    assert cells(page, 2) == ["0:01.7", "0:00.4", "0:01.7"]
    video = page.get_by_role("columnheader", name="video").first
    video.get_by_role("button").click()
    assert cells(page, 1) == [ODD, "b2", "b10"]
    page.keyboard.press("Enter")  # the button has the focus
    assert cells(page, 1) == ["b10", "b2", ODD]
    assert video.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert cells(page, 2)[2] == "0:00.4" and video.get_attribute("aria-sort") == "none"
    assert page.get_by_role("link", name="b2").get_attribute("href") == "b2%20%231/report.html"
    assert page.locator("tbody img").count() == 2  # b10 has no event


@pytest.mark.parametrize("width", [1280, 375])
def test_everybody_can_use_the_index(opened, rows, tmp_path, width):
    index.write_index(tmp_path, "runs/x", rows, test_video_page.BY)
    page = opened(tmp_path / "index.html", width)
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert HOSTILE in page.inner_text("main") and "not a <readable> video" in page.inner_text(
        "main"
    )
    assert page.get_by_role("button", name="highest score").is_visible()
    assert page.get_by_role("link", name="1 more").get_attribute("href") == "#failed"


def test_an_index_without_a_video(opened, rows, tmp_path):
    index.write_index(tmp_path, "runs/x", rows[3:])
    page = opened(tmp_path / "index.html")
    accessible(page)
    assert "None could be scored by runs/x." in page.inner_text("header")
