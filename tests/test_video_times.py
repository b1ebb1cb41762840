"""What is opened of a file, and when its frames are: by the stream's own times."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed; featurize/ needs it")

from featurize import videos  # noqa: E402
from featurize.sources import ENDINGS, Entry, edges  # noqa: E402
from featurize.videos import UnreadableVideo  # noqa: E402
from tests.test_videos import picture, render  # noqa: E402

ROOT = Path(__file__).parents[1]


def times(path):
    """As decoding tells them; packets alone must tell the same."""
    found, quick = videos.probe(path), videos.undecoded(path)
    assert quick is not None
    np.testing.assert_allclose(quick.times, found.times, atol=2e-3)
    assert quick.frames == found.frames and quick.fps == pytest.approx(found.fps)
    return found.times


def entry(path, fps=0.0):
    found = videos.probe(path)
    return Entry("v", "test", ("Normal",), 0, fps, path).of_length(*found)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_an_even_rate_needs_no_times(tmp_path, ending):
    path = render(tmp_path / f"v.{ending}", frames=40)
    np.testing.assert_allclose(times(path), np.arange(41) / 10, atol=1e-3)
    assert entry(path).seconds(edges(40)) is None and entry(path).fps == 10


def test_a_varying_rate(tmp_path):
    """32 frames at 10 a second, then 32 at one a second."""
    at = [*range(32), *(32 + 10 * i for i in range(32))]
    path = render(tmp_path / "v.mp4", frames=64, times=at)
    np.testing.assert_allclose(times(path)[:64], np.array(at) / 10, atol=1e-3)
    seconds = entry(path).seconds(edges(64))
    np.testing.assert_allclose(seconds[:4], [0, 1.6, 3.2, 19.2], atol=1e-3)
    assert entry(path).fps == pytest.approx(64 / (3.2 + 31 + 0.1), rel=0.05)


def test_a_rate_that_the_list_has_and_the_file_has_not(tmp_path):
    path = render(tmp_path / "v.mp4", frames=40)
    told = entry(path, fps=30.0)
    assert told.fps == 30
    np.testing.assert_allclose(told.seconds(edges(40)), [0, 1.6, 3.2, 4.0], atol=1e-3)


def test_time_begins_where_the_stream_does(tmp_path):
    path = render(tmp_path / "v.mkv", frames=32, times=list(range(50, 82)))
    np.testing.assert_allclose(times(path), np.arange(33) / 10, atol=2e-3)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3, 4]),
        ([5, 6, 7, 8], [5, 6, 7, 8, 9]),
        ([2, 3, 4, 5], [0, 1, 2, 3, 4]),  # frames reordered: a little late
        ([0, 1, 30, 31], [0, 1, 30, 31, 32]),  # a gap
        ([0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 5, 6]),  # a clock that began anew
        ([0, 1, 2e9, 2e9 + 1], [0, 1, 2, 3, 4]),
        ([0, np.nan, 2, 3], [0, 1, 2, 3, 4]),
        ([np.nan, np.nan, 2, 3, 4], [0, 1, 2, 3, 4, 5]),  # undecodable at first
        ([-2, -1, 0, 1], [0, 1, 2, 3, 4]),
        ([0, 0, 0, 0], [0, 0.04, 0.08, 0.12, 0.16]),  # no times at all: the usual rate
        ([np.nan] * 3, [0, 0.04, 0.08, 0.12]),
        ([7], [0, 0.04]),
        ([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2, 3]),
    ],
)
def test_times_by_hand(told, expected):
    found = videos._probe(np.array(told, float), 0.0)
    np.testing.assert_allclose(found.times, expected, atol=1e-6)
    assert found.frames == len(told) and videos.SLOWEST <= found.fps <= videos.FASTEST


@pytest.mark.parametrize("rate", [0.0, float("nan"), 2e9, 1e-9, -25.0, float("inf")])
def test_a_rate_that_cannot_be_is_not_used(rate):
    assert videos._probe(np.full(4, np.nan), rate).fps == 25
    assert videos._probe(np.arange(4.0) / 10, rate).fps == pytest.approx(10)


def test_a_cover_is_no_video(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        moving = container.add_stream("libx264", rate=10, options={"qp": "0"})
        moving.width, moving.height, moving.pix_fmt = 64, 48, "yuv444p"
        still = av.VideoFrame.from_ndarray(picture(0, 48, 64), "rgb24")
        container.mux(cover.encode(still))
        container.mux(cover.encode())
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(picture(i, 48, 64))
            frame.pts = i
            container.mux(moving.encode(frame))
        container.mux(moving.encode())
    assert videos.probe(path)[:2] == (40, 10)


NAMES = ["http:a.mp4", "12:30.mp4", "-x.mp4", "a%03d.mp4", "a'\"b.mp4", "a\nb.mp4", "file:a.mp4"]
NAMES += ["concat:a.mp4|b.mp4", "pipe:0.mp4", "é.mp4", os.fsdecode(b"\xff.mp4"), "tcp:h:1.mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name(tmp_path, name):
    path = tmp_path / name
    render(tmp_path / "plain.mp4", frames=20).rename(path)
    assert videos.probe(path).frames == 20 and videos.announced(path) == (20, 10)
    assert len(list(videos.snippets(path, edges(20), 1))) == 2


def test_a_relative_name_is_a_name_too(tmp_path, monkeypatch):
    render(tmp_path / "plain.mp4", frames=20).rename(tmp_path / "http:a.mp4")
    monkeypatch.chdir(tmp_path)
    assert videos.probe(Path("http:a.mp4")).frames == 20


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{there}\n#EXT-X-ENDLIST\n",
    "remote hls": "#EXTM3U\n#EXTINF:4,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {there}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="video/mp4"><Representation '
    'id="1" bandwidth="1"><BaseURL>http://127.0.0.1:{port}/</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "text": "nothing to see\n" * 9,
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("ending", [".mp4", ".m3u8", ".ts"])
def test_nothing_is_opened_that_a_file_names(tmp_path, kind, ending):
    there, asked = render(tmp_path / "there.mp4", frames=20), []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_accept, args=(server, asked), daemon=True)
        thread.start()
        path = tmp_path / f"v{ending}"
        port = server.getsockname()[1]
        path.write_text(PLAYLISTS[kind].format(port=port, there=there))
        with pytest.raises(UnreadableVideo, match="not a readable video"):
            videos.probe(path)
        assert videos.announced(path) == (0, 0.0) and videos.undecoded(path) is None
    assert asked == []


def _accept(server, asked):
    try:
        asked.append(server.accept()[1])
    except OSError:
        pass


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "nowhere.mp4").symlink_to(tmp_path / "gone.mp4")
    for path in [*tmp_path.iterdir(), Path("/dev/zero"), Path("a\0b.mp4")]:
        with pytest.raises(UnreadableVideo, match="not a readable video"):
            videos.probe(path)


def test_every_format_is_one_that_ffmpeg_knows():
    for name in videos.FORMATS:
        assert av.format.ContainerFormat(name, "r").is_input
    assert ENDINGS >= {".mp4", ".dav", ".asf", ".ts", ".flv", ".3gp", ".mts", ".h264"}


WATCHED = """
import sys
from featurize import videos
from pathlib import Path
print("here", flush=True)
try:
    print(videos.probe(Path(sys.argv[1])).frames)
except videos.UnreadableVideo as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/usr/bin/strace", os.X_OK), reason="needs strace")
@pytest.mark.parametrize("kind", ["hls", "concat", "remote hls"])
def test_ffmpeg_itself_opens_one_file(tmp_path, kind):
    there, path = render(tmp_path / "there.mp4", frames=20), tmp_path / "v.mp4"
    path.write_text(PLAYLISTS[kind].format(port=9, there=there))
    log = tmp_path / "calls"
    watch = ["strace", "-f", "-o", str(log), "-e", "trace=openat,connect"]
    script = [*watch, sys.executable, "-c", WATCHED, str(path)]
    subprocess.run(script, check=True, cwd=ROOT, capture_output=True, timeout=120)
    calls = log.read_text()
    assert str(path) in calls and str(there) not in calls and "AF_INET" not in calls
