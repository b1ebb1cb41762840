"""Decoding: every frame once, in its place, whatever the file; and files that are none."""

import os
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed; featurize/ needs it")

from featurize import videos  # noqa: E402
from featurize.videos import UnreadableVideo  # noqa: E402

SHARED = Path(__file__).parents[2] / "shared/data/fights/videos"
TURNED = 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000  # a phone held upright


def picture(i, height, width):
    """Grey level 4·i, white in the corner above on the left."""
    frame = np.full((height, width, 3), 4 * i % 200, np.uint8)
    frame[: height // 4, : width // 4] = 255
    return frame


def render(path, frames=40, size=(48, 64), times=None, codec="libx264", rate=10):
    height, width = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"qp": "0"})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p"
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(i, height, width))
            frame.pts = i if times is None else times[i]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels(path, edges, count):
    """Which frames were picked, read off their grey levels."""
    picked = videos.snippets(path, np.array(edges), count)
    return [[round(float(f[-4:, -4:].mean()) / 4) for f in frames] for frames in picked]


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_frames_of_snippets_are_in_their_place(tmp_path, size):
    path = render(tmp_path / "v.mp4", size=size)
    assert videos.probe(path)[:2] == (40, 10)
    assert videos.probe(path, 17)[:2] == (17, 10)
    assert levels(path, [0, 16, 32, 40], 1) == [[8], [24], [36]]
    assert levels(path, [0, 16, 32, 40], 4) == [[2, 6, 10, 14], [18, 22, 26, 30], [33, 35, 37, 39]]
    assert levels(path, [0, 16, 32, 40], 16)[1] == list(range(16, 32))
    assert next(videos.snippets(path, np.array([0, 16]), 1))[0].shape == (*size, 3)


def test_a_snippet_shorter_than_the_count_repeats_frames(tmp_path):
    path = render(tmp_path / "v.mp4", frames=18)
    assert levels(path, [0, 16, 18], 4)[1] == [16, 16, 17, 17]


def test_a_variable_frame_rate_counts_frames_not_seconds(tmp_path):
    times = np.cumsum([1 + 9 * (i % 7 == 0) for i in range(40)]).tolist()
    path = render(tmp_path / "v.mp4", times=times)
    assert videos.probe(path)[0] == 40
    assert levels(path, [0, 16, 32, 40], 1) == [[8], [24], [36]]


def test_a_turned_video_is_put_upright(tmp_path):
    path = render(tmp_path / "v.mp4", size=(48, 64))
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", *TURNED)
    path.write_bytes(content)
    frame = next(videos.snippets(path, np.array([0, 16]), 1))[0]
    assert frame.shape == (64, 48, 3)
    assert frame[4, -4, 0] == 255 and frame[4, 4, 0] < 200  # the white corner is on the right now


@pytest.mark.parametrize("title", [b"Caf\xe9 d'\xe9t\xe9", b"\xcf\xf0\xe8\xe2\xe5\xf2"])
def test_a_title_that_is_no_utf_8_does_not_stop_a_video(tmp_path, title):
    """Latin-1 and Windows-1251, of the file and of its stream."""
    path, placeholder = tmp_path / "v.mkv", "T" * len(title)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = placeholder
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["title"] = placeholder
        for i in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i, 48, 64))))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert content.count(placeholder.encode()) == 2
    path.write_bytes(content.replace(placeholder.encode(), title))
    assert videos.announced(path)[1] == 10
    assert videos.probe(path)[:2] == (20, 10)
    assert len(next(videos.snippets(path, np.array([0, 16, 20]), 4))) == 4


def test_each_frame_is_decoded_once(tmp_path, monkeypatch):
    path, decoded = render(tmp_path / "v.mp4"), []
    whole = videos.frames_of

    def counted(path):
        for frame in whole(path):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(videos, "frames_of", counted)
    assert len(list(videos.snippets(path, np.array([0, 16, 32, 40]), 16))) == 3
    assert len(decoded) == 40


def test_a_file_may_end_within_its_last_snippet_only(tmp_path):
    path = render(tmp_path / "v.mp4")
    assert levels(path, [0, 16, 32, 56], 2)[2] == [38, 39]  # picks 38 and 50
    assert levels(path, [0, 20, 40, 56], 1)[2] == [39]
    with pytest.raises(UnreadableVideo, match="^2 of 4 snippets could be read$"):
        list(videos.snippets(path, np.array([0, 20, 40, 56, 72]), 1))


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("empty", "not a readable video"),
        ("text", "not a readable video"),
        ("sound", "no video stream in this file"),
        ("head", "not a readable video"),
        ("missing", "not a readable video"),
    ],
)
def test_what_is_no_video_is_told_shortly(tmp_path, case, words):
    path = tmp_path / "v.mp4"
    if case == "empty":
        path.touch()
    if case == "text":
        path.write_text("<html>404</html>" * 50)
    if case == "sound":
        write_sound(path)
    if case == "head":
        path.write_bytes(render(tmp_path / "whole.mp4").read_bytes()[:300])
    for read in (videos.probe, lambda p: list(videos.snippets(p, np.array([0, 16]), 1))):
        with pytest.raises(UnreadableVideo, match=words) as error:
            read(path)
        assert len(str(error.value)) < 80


def damage(content, rng, kind):
    content = bytearray(content)
    if kind == "truncated":
        return bytes(content[: rng.integers(len(content))])
    if kind == "flipped":
        for place in rng.integers(len(content), size=rng.integers(1, 400)):
            content[place] ^= 1 << rng.integers(8)
        return bytes(content)
    return b"" if kind == "empty" else b"this is a text, not a video\n" * 100


def read_all(copies, sources, tmp_path):
    """What became of `copies` damaged copies: read, or told in words. Nothing else may happen."""
    rng, outcomes = np.random.default_rng(0), {"read": 0, "told": 0}
    for i in range(copies):
        source = sources[i % len(sources)]
        frames = videos.probe(source).frames
        kind = ("truncated", "flipped", "truncated", "flipped", "empty", "text")[i % 6]
        path = tmp_path / "copy.mp4"
        path.write_bytes(damage(source.read_bytes(), rng, kind))
        edges = np.minimum(np.arange(-(-frames // 16) + 1) * 16, frames)
        begun = time.monotonic()
        try:
            assert len(list(videos.snippets(path, edges, 1))) == len(edges) - 1
            outcomes["read"] += 1
        except UnreadableVideo:
            outcomes["told"] += 1
        assert time.monotonic() - begun < 20
    return outcomes


def originals(tmp_path, count):
    if SHARED.is_dir():
        return sorted(SHARED.glob("*.mp4"))[:: 230 // count][:count]
    return [render(tmp_path / f"{i}.mp4", 100 + i) for i in range(3)]


def test_damaged_copies_are_read_or_told(tmp_path):
    found = read_all(20, originals(tmp_path, 5), tmp_path)
    assert found["read"] + found["told"] == 20 and min(found.values()) > 0


@pytest.mark.slow
def test_many_damaged_copies_are_read_or_told(tmp_path):
    found = read_all(200, originals(tmp_path, 40), tmp_path)
    print(found)
    assert found["read"] + found["told"] == 200


def test_several_counts_at_once_are_as_one_by_one(tmp_path):
    """Of damaged copies too: frames and reasons; and the times are those of all frames."""
    rng, path, compared = np.random.default_rng(2), tmp_path / "copy", 0
    whole = render(tmp_path / "whole.mkv", 40).read_bytes()
    borders = np.array([0, 16, 32, 40])

    def found(picks):
        try:
            return [[frame.tobytes() for frame in frames] for frames in picks]
        except UnreadableVideo as reason:
            return str(reason)

    for i in range(12):  # from whole to four fifths, every other one with a bit turned
        copy = bytearray(whole[: len(whole) - i * len(whole) // 60])
        copy[rng.integers(len(copy) // 2, len(copy))] ^= 4 * (i % 2)
        path.write_bytes(copy)
        alone = [found(videos.snippets(path, borders, count)) for count in (1, 4, 16)]
        times = list[float]()
        try:
            at_once = list(videos.together(path, borders, (1, 4, 16), times))
        except UnreadableVideo as reason:
            assert str(reason) in alone
            continue
        assert [found(picks) for picks in zip(*at_once, strict=True)] == alone
        assert np.array_equal(videos.told(path, times).times, videos.probe(path).times)
        compared += 1
    assert 2 < compared < 12, compared


def repeated(path, source, count):
    """A video `count` times in a row, without coding it again."""
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        stream = given.streams.video[0]
        target = container.add_stream_from_template(stream)
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in given.demux(stream) if p.size]
        step = stream.duration
        for again in range(count):
            for content, pts, dts, key in packets:
                packet = av.Packet(content)
                packet.pts, packet.dts = pts + again * step, dts + again * step
                packet.stream, packet.time_base, packet.is_keyframe = target, stream.time_base, key
                container.mux(packet)
    return path


def peak_growth(path):
    """Anonymous memory that reading the video adds, in MiB, sampled while it runs."""

    def anonymous():
        status = Path(f"/proc/{os.getpid()}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) / 1024

    frames = videos.probe(path).frames  # what decoding needs at all is there now
    start, most, done = anonymous(), [0.0], threading.Event()

    def watch():
        while not done.wait(0.01):
            most[0] = max(most[0], anonymous() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    edges = np.minimum(np.arange(-(-frames // 16) + 1) * 16, frames)
    count = sum(1 for _ in videos.snippets(path, edges, 4))
    done.set()
    thread.join()
    assert count == len(edges) - 1
    return frames, most[0]


@pytest.mark.slow
def test_memory_stays_flat_between_a_minute_and_an_hour(tmp_path):
    short = render(tmp_path / "short.mp4", 60 * 10, (48, 64))
    long = repeated(tmp_path / "long.mp4", short, 60)
    (few, small), (many, large) = peak_growth(short), peak_growth(long)
    assert many == 60 * few
    base = 64  # MiB, of the process: ± 10 % of it is what may differ
    assert abs(large - small) < 0.1 * base
