"""The page of a video, opened in headless Chromium and used."""

import csv
import io
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from semvad_jax.detection import detect, pictures
from semvad_jax.detection import page as video_page
from semvad_jax.detection.events import Origin, Rule, Threshold, events
from semvad_jax.templates import clock
from tests.support.pages import accessible, until
from tests.test_events import timeline

CHROMIUM = Path("/usr/bin/chromium")
BY = Origin("runs/x", "semvad", 3, "binary", Threshold(Rule(0.5, 0.5), "given"))
TRUTH = (("Riot", 20, 60),)


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.is_file():
        pytest.skip("needs Debian's package chromium")
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip)")
    with api.sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Eight seconds of 10 frames, in the form that browsers play."""
    av = pytest.importorskip("av", reason="needs PyAV to render a video")
    path = tmp_path_factory.mktemp("video") / "a b#1.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(80):
            picture = np.full((64, 96, 3), 3 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


def scored(n=5, classes=3, captions=None, **more):
    rng = np.random.default_rng(1)
    mean = (0.5 + 0.45 * np.sin(np.arange(n) / 3 + 1)).round(6)
    p = rng.dirichlet(np.ones(classes), n).round(6)
    given = {
        "sd": (0.2 * rng.random(n)).round(6),
        "classes": ("Normal", "Riot", *(f"Class{c}" for c in range(2, classes))),
        "edges": np.arange(n + 1) * 16,
        "second_edges": np.arange(n + 1) * 1.6,
        "truth": TRUTH,
    }
    return timeline(mean, p, captions or [f"caption {t}" for t in range(n)], **given | more)


def none(video, moments):
    return [None] * len(moments)


def red(video, moments):
    """A picture for each moment."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (160, 120), "red").save(file, "jpeg")
    return [file.getvalue()] * len(moments)


def write(folder, line, video=None, by=BY, frames=none):
    folder.mkdir(exist_ok=True)
    address = None if video is None else video_page.address(video, folder)
    found = events(line, by.threshold.rule)
    html = video_page.render(line, found, by, address, pictures.of_events(line, found, frames))
    (folder / "report.html").write_text(html, encoding="utf-8")
    detect._write_scores(folder / "scores.csv", line)
    return folder / "report.html"


@pytest.fixture
def opened(browser):
    """Opens a page; afterwards nothing may have been complained of or asked of a network."""
    contexts, complaints, asked = [], [], []

    def open_page(path, width=1280, height=800, lost=False):
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: None if lost else complaints.append(m.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert all(url.startswith(("file://", "data:,")) for url in asked), asked


def click_at(page, share):
    box = page.locator("#slider").bounding_box()
    page.mouse.click(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])


def now(page):
    ids = ("snippet", "score", "class", "probability", "caption")
    return {name: page.inner_text(f"#{name}") for name in ids}


def as_told(row, text):
    """Whether what the page shows are the numbers and words of a row of scores.csv."""
    numbers = [float(x) for x in re.findall(r"\d\.\d+", text["score"] + " " + text["probability"])]
    expected = [float(row[k]) for k in ("score_mean", "score_sd", row["class"])]
    assert numbers == pytest.approx(expected, abs=0.000501)
    assert (text["snippet"], text["class"], text["caption"]) == (
        row["snippet"],
        row["class"],
        row["caption"],
    )


def rows_of(path):
    with path.with_name("scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_click_moves_the_video_and_the_caption(opened, video, tmp_path):
    path = write(tmp_path / "page", scored(), video)
    page = opened(path)
    until(page, "document.getElementById('video').readyState >= 1")
    as_told(rows_of(path)[0], now(page))
    click_at(page, 0.7)  # 5.6 s: snippet 3 is from 4.8 to 6.4
    until(page, "document.getElementById('video').currentTime > 5")
    assert page.evaluate("document.getElementById('video').currentTime") == pytest.approx(5.6, 0.01)
    until(page, "!document.getElementById('video').seeking")
    as_told(rows_of(path)[3], now(page))
    assert page.inner_text("#clock") == "0:05.6"
    assert page.get_attribute("#caption", "aria-live") == "polite"


def test_the_page_follows_the_playback(opened, video, tmp_path):
    path = write(tmp_path / "page", scored(), video)
    page = opened(path)
    page.evaluate("v = document.getElementById('video'); v.muted = true; v.currentTime = 1.3")
    until(page, "document.getElementById('snippet').textContent == '0'")
    page.evaluate("v.play()")
    until(page, "document.getElementById('snippet').textContent == '1'", 5)
    page.evaluate("v.pause()")
    assert page.inner_text("#caption") == "caption 1"
    moved = page.evaluate("parseFloat(document.getElementById('cursor').style.left)")
    assert 100 * 1.6 / 8 <= moved < 100 * 3.2 / 8


def test_every_snippet_by_keyboard_as_scores_csv_has_it(opened, video, tmp_path):
    path = write(tmp_path / "page", scored(), video)
    page = opened(path)
    slider = page.locator("#slider")
    slider.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for t, row in enumerate(rows_of(path)):
        as_told(row, now(page))
        assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(1.6 * t)
        told = slider.get_attribute("aria-valuetext")
        assert row["class"] in told and f"0:0{1.6 * t:.1f}" in told
        page.keyboard.press("ArrowRight")
    assert now(page)["snippet"] == "4"  # the last stays the last
    for key, snippet in (("ArrowLeft", 3), ("Home", 0), ("PageUp", 4), ("PageDown", 0), ("End", 4)):
        page.keyboard.press(key)
        assert now(page)["snippet"] == str(snippet)
    at = page.evaluate("document.getElementById('video').currentTime")
    assert at == pytest.approx(6.4, abs=0.01)


def test_events_are_listed_and_jumped_to(opened, video, tmp_path):
    line = scored(18, edges=np.arange(19) * 4, second_edges=np.arange(19) * 0.4)
    path = write(tmp_path / "page", line, video)
    page = opened(path)
    found = events(line, BY.threshold.rule)
    assert len(found) == 2
    buttons = page.locator("button[data-second]")
    for event, button in zip(found, buttons.all(), strict=True):
        button.focus()
        page.keyboard.press("Enter")
        assert now(page)["snippet"] == str(event.start_snippet)
        row = button.locator("xpath=ancestor::tr").inner_text()
        assert event.name in row and f"{event.confidence:.3f}" in row
        assert all(text in row for text in event.captions[:3])
    told = "; ".join(
        f"{clock(e.start_second)} – {clock(e.end_second)} {e.name}"
        + (f" ({e.class_probability:.3f})" if e.label else "")  # no more than below
        for e in found
    )
    assert f"2 events in 0:07.2: {told}." in page.inner_text("header")


def test_a_picture_leads_to_its_moment(opened, tmp_path):
    line = scored(18, edges=np.arange(19) * 4, second_edges=np.arange(19) * 0.4)
    page = opened(write(tmp_path / "page", line, frames=red))
    for number, event in enumerate(events(line, BY.threshold.rule), 1):
        page.get_by_role("button", name=f"Go to the end of event {number}").click()
        assert now(page)["snippet"] == str(event.end_snippet - 1)
    assert page.evaluate("[...document.images].every(i => i.naturalWidth == 160)")
    assert page.locator("img").count() == 6


def test_what_a_number_means_is_told_where_it_stands(opened, tmp_path):
    page = opened(write(tmp_path / "page", scored()))
    note = page.get_by_text("A score is no probability.").first
    assert not note.is_visible()
    page.get_by_role("button", name="What is the score?").focus()
    assert note.is_visible()
    page.keyboard.press("Escape")
    assert not note.is_visible()
    page.get_by_role("button", name="What is the score?").hover()
    assert note.is_visible()


@pytest.mark.parametrize("width", [1280, 375])
def test_everybody_can_use_the_page(opened, tmp_path, width):
    page = opened(write(tmp_path / "page", scored(18), frames=red), width)
    for button in page.locator(".ask").all():
        button.focus()  # its note is on the page then
        accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def stairs(page, path):
    """The heights of a staircase on the page, as scores, from left to right."""
    heights = re.findall(r"(?:M\S+ |V)([\d.]+)", page.get_attribute(path, "d"))
    return 1 - np.array(heights, float)[1:] / video_page.HEIGHT


def test_line_band_and_classes_are_those_of_scores_csv(opened, tmp_path):
    path = write(tmp_path / "page", scored(40))
    page, rows = opened(path), rows_of(path)
    mean, sd = (np.array([float(r[k]) for r in rows]) for k in ("score_mean", "score_sd"))
    assert stairs(page, "#mean") == pytest.approx(mean, abs=1e-4)
    band = stairs(page, "#band")
    assert band[:40] == pytest.approx(np.minimum(mean + sd, 1), abs=1e-4)
    assert band[-40:][::-1] == pytest.approx(np.maximum(mean - sd, 0), abs=1e-4)
    threshold = page.get_attribute("#threshold", "d")
    assert threshold == f"M0 {video_page.HEIGHT / 2:.2f}H{video_page.WIDTH}"
    lane = page.locator(".lane svg g")
    names = [name.strip() for name in page.locator(".legend li").all_inner_texts()[3:]]
    classes = [name for name in scored(40).classes if name in {r["class"] for r in rows}]
    assert names == [*classes, "unusual, no class"] and lane.count() == len(classes)
    fills = {}  # of each snippet
    for group in lane.all():
        for rect in group.locator("rect").all():
            x, width = (float(rect.get_attribute(a)[:-1]) * 40 / 100 for a in ("x", "width"))
            for t in range(round(x), round(x + width)):
                fills[t] = group.get_attribute("fill")
    looks = video_page._looks(scored(40), [])
    assert fills == {t: f"url(#look-{looks[r['class']].id})" for t, r in enumerate(rows)}


def test_the_mean_lies_on_top_and_is_the_thickest_line(opened, tmp_path):
    page = opened(write(tmp_path / "page", scored()))
    drawn = "[...document.querySelectorAll('#drawing > path')].map(p => p.id)"
    assert page.evaluate(drawn) == ["", "band", "threshold", "mean"]
    of = "name => getComputedStyle(document.querySelector(name))"
    width = {
        name: float(page.evaluate(f"({of})('{name}').strokeWidth").removesuffix("px"))
        for name in ("#mean", "#threshold", "#band")
    }
    assert width["#mean"] > 1.5 * width["#threshold"] >= 1.5 * width["#band"]
    layers = [page.evaluate(f"({of})('{name}').zIndex") for name in ("#drawing", "#cursor")]
    assert layers == ["1", "auto"]  # the cursor is below
    colours = {page.evaluate(f"({of})('{name}').stroke") for name in width}
    assert len(colours) == 3 and page.locator("#slider > :not(#drawing) #band").count() == 0


def test_ground_truth_where_it_is_known(opened, tmp_path):
    for truth, text in (
        (TRUTH, "Riot 0:02.0 – 0:06.0."),
        ((), "a normal video"),
        (None, "It is not known"),
    ):
        page = opened(write(tmp_path / "page", scored(truth=truth)))
        assert text in page.inner_text("main")
        assert page.locator(".lane").count() == 2 * (2 + (truth is not None))  # class, events


def test_names_and_captions_are_text_whatever_they_hold(opened, tmp_path):
    name = "</script><b>'\"&x"
    captions = [
        "</script><script>document.title = 'broken'</script>",
        "<!-- <script>",
        "{{ 7 * 7 }} & \"quotes\" 'both'",
        "日本語\u2028new line",
        "",
    ]
    line = scored(captions=captions, video=name, classes=3)
    page = opened(write(tmp_path / "page", line))
    assert page.inner_text("h1") == name and page.title().startswith(name)
    page.locator("#slider").focus()
    for caption in captions:
        shown = page.evaluate("document.getElementById('caption').textContent")
        assert shown == (caption or "no caption on file")
        page.keyboard.press("ArrowRight")


def test_a_page_whose_video_is_lost_says_so_and_works(opened, tmp_path):
    gone = tmp_path / "gone.mp4"
    page = opened(write(tmp_path / "page", scored(), gone, frames=red), lost=True)
    page.locator("#unplayable").wait_for(state="visible")
    told = page.inner_text("#unplayable")
    assert "../gone.mp4" in told and "pictures of the events" in told
    assert not page.is_visible("video") and page.locator("td img").first.is_visible()
    click_at(page, 0.7)
    assert now(page)["caption"] == "caption 3"


def test_a_page_without_video_class_head_seeds_or_captions(opened, tmp_path):
    line = timeline([0.2, 0.7, 0.1], truth=None)
    page = opened(write(tmp_path / "page", line))
    assert page.locator("video").count() == 0 and page.locator("#band").count() == 0
    page.locator("#slider").focus()
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#score") == "0.700"
    assert page.inner_text("#caption") == "no caption on file"
    quiet = Origin("r", "mil", 1, "binary", Threshold(Rule(0.9, 0.9), "given"))
    page = opened(write(tmp_path / "page", line, by=quiet))
    assert "No event" in page.inner_text(
        "header"
    ) and "the highest score is 0.700" in page.inner_text("main")


def test_a_thousand_seconds_are_small_and_quick(opened, tmp_path):
    n = 1563  # 25,000 frames at 25 fps
    captions = [
        f"{t} " + "people stand around in a shop and talk to each other. " * 8 for t in range(n)
    ]
    line = scored(
        n,
        classes=14,
        captions=captions,
        second_edges=np.minimum(np.arange(n + 1) * 16, 25000) / 25.0,
        edges=np.minimum(np.arange(n + 1) * 16, 25000),
    )
    path = write(tmp_path / "page", line)  # a short video would answer with its own end
    assert path.stat().st_size < 2e6
    page = opened(path)
    timing = "performance.getEntriesByType('navigation')[0]"
    until(page, f"{timing}.loadEventEnd > 0")
    ready = page.evaluate(f"{timing}.domContentLoadedEventEnd")  # the script has run by then
    begun = time.perf_counter()
    click_at(page, 0.5)
    until(page, "document.getElementById('caption').textContent.startsWith('781 ')")
    answer = time.perf_counter() - begun
    print(
        f"{path.stat().st_size} bytes, ready in {ready:.0f} ms, answers in {1000 * answer:.0f} ms"
    )
    assert ready < 1000 and answer < 1


CONTRASTS = """() => {
  const shade = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(Number).slice(0, 3).map(v => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.getClientRects().length || element.closest("svg")) continue;
    let behind = element;
    while (behind && /rgba\\(0, 0, 0, 0\\)/.test(getComputedStyle(behind).backgroundColor))
      behind = behind.parentElement;
    const paper = behind ? getComputedStyle(behind).backgroundColor : "rgb(255, 255, 255)";
    const pair = [shade(getComputedStyle(element).color), shade(paper)].sort((a, b) => b - a);
    found.push([element.textContent.trim().slice(0, 30), (pair[0] + 0.05) / (pair[1] + 0.05)]);
  }
  return found;
}"""


def test_all_text_has_the_contrast_of_wcag_aa(opened, tmp_path):
    n = 40
    p = np.full((n, 8), 0.05)
    p[np.arange(n), np.arange(n) // 5] = 0.65  # every colour, Normal too
    mean = np.tile([0.9, 0.8, 0.9, 0.8, 0.1], 8)
    line = replace(scored(n, classes=8), mean=mean, probabilities=p)
    page = opened(write(tmp_path / "page", line, tmp_path / "gone.mp4"), lost=True)
    page.locator("#unplayable").wait_for(state="visible")
    found = page.evaluate(CONTRASTS)
    spans = [text for text, _ in found if re.match(r"\d+ (Riot|Class\d)", text)]
    assert len({text.split()[1] for text in spans}) >= len(video_page.COLOURS)
    assert len(found) > 60 and min(ratio for _, ratio in found) >= 4.5, min(
        found, key=lambda f: f[1]
    )


def test_thirty_classes_look_different():
    names = ("Normal", *(f"c{i}" for i in range(30)))
    p = np.eye(31)
    line = timeline([0.5] * 31, p.tolist(), classes=names)
    looks = video_page._looks(line, []).values()
    assert len({(look.colour, look.pattern) for look in looks}) == 31


@pytest.mark.parametrize("width", [390, 320])
def test_nothing_sticks_out_on_a_phone(opened, video, tmp_path, width):
    n = 600
    line = scored(n, classes=14, video="a_long_name_" * 12, edges=np.arange(n + 1) * 160)
    page = opened(write(tmp_path / "page", line, video), width, 844)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("#slider").bounding_box()["width"] > 0.7 * width
    heights = [b.bounding_box()["height"] for b in page.locator("button").all()[:3]]
    assert min(heights) >= 24


def test_a_print_has_the_timeline_and_the_events_but_no_controls(opened, video, tmp_path):
    page = opened(write(tmp_path / "page", scored(), video), 680)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == 680
    assert page.evaluate("getComputedStyle(document.querySelector('thead')).position") == "static"
    assert not page.is_visible("video") and not page.is_visible("#now")
    assert page.is_visible("#slider svg") and page.is_visible("table")


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (0, "0:00.0"),
        (59.96, "1:00.0"),
        (3.84, "0:03.8"),
        (3599.94, "59:59.9"),
        (3725.25, "1:02:05.3"),
    ],
)
def test_clock(second, text):
    assert video_page.clock(second) == text
