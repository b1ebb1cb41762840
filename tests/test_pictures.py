"""The pictures of events: at the right moments, whatever file they come from, or none."""

import base64
import io

import numpy as np
import pytest

from semvad_jax.detection import pictures
from semvad_jax.detection.events import Rule, events
from tests.support.stores import make_store
from tests.test_events import timeline

av = pytest.importorskip("av", reason="needs the extra featurize")
Image = pytest.importorskip("PIL.Image", reason="needs the extra featurize")

from featurize import thumbnails, videos  # noqa: E402
from tests.test_videos import render  # noqa: E402


def level(jpeg):
    """Which frame of `tests.test_videos.picture` this is."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)))
    return round(float(pixels[-8:, -8:].mean()) / 4)


def test_an_event_has_its_first_middle_and_last_frame(tmp_path):
    path = render(tmp_path / "v.mp4", size=(96, 320))  # frame i has the grey 4·i
    line = timeline(
        [0.1, 0.9, 0.1, 0.9, 0.9],
        edges=np.arange(6) * 8,
        second_edges=np.arange(6) * 0.8,
    )
    found = events(line, Rule(0.5, 0.5))
    frames = thumbnails.of_files({"v": path})
    shown = pictures.of_events(line, found, frames)
    jpegs = [[base64.b64decode(p.address.partition(",")[2]) for p in row] for row in shown]
    assert [[level(jpeg) for jpeg in row] for row in jpegs] == [[8, 11, 15], [24, 31, 39]]
    assert [p.when for p in shown[0]] == ["start", "middle", "end"]
    assert shown[0][0].second == pytest.approx(0.85)
    assert Image.open(io.BytesIO(jpegs[0][0])).size == (160, 48)
    assert all(len(jpeg) < 4000 for row in jpegs for jpeg in row)


@pytest.mark.parametrize(
    ("ending", "codec"),
    [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("ts", "libx264")],
)
def test_moments_are_found_in_a_long_file(tmp_path, ending, codec, monkeypatch):
    """Where the file can be sought in, without decoding what lies between."""
    monkeypatch.setattr(videos, "NEAR", 1.0)
    path = tmp_path / f"v.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 25
        for i in range(240):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), i, np.uint8))
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    decoded, whole = [], videos._decoded
    monkeypatch.setattr(
        videos, "_decoded", lambda c: ((decoded.append(s), (s, f))[1] for s, f in whole(c))
    )
    numbers = [0, 0, 60, 61, 130, 239]
    found = list(videos.pictures(path, [(n, (n + 0.5) / 10) for n in numbers]))
    assert [frame.mean() for frame in found] == pytest.approx(numbers, abs=2)
    assert len(decoded) < 120 if ending in ("mp4", "mkv") else len(decoded) == 240


def test_what_cannot_be_decoded_has_no_picture(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    whole = render(tmp_path / "v.ts", size=(96, 96)).read_bytes()
    (tmp_path / "half.ts").write_bytes(whole[: len(whole) // 2])
    assert thumbnails.thumbnails(tmp_path / "no.mp4", [(0, 0.0), (3, 0.3)]) == [None, None]
    assert thumbnails.thumbnails(tmp_path / "gone.mp4", [(0, 0.0)]) == [None]
    first, last = thumbnails.thumbnails(tmp_path / "half.ts", [(0, 0.05), (39, 3.95)])
    assert level(first) == 0 and last is None


def test_pictures_lie_beside_a_store(tmp_path):
    store = make_store(tmp_path / "store", train=2, test=2)
    folder = store.path / "videos" / "video_001"
    folder.mkdir(parents=True)
    (store.path / "videos" / "video_001.mp4").touch()
    for t, content in enumerate((b"\xff\xd8\xff0", b"<svg>", b"\xff\xd8\xff" + b"2" * 70_000)):
        (folder / f"{t}.jpg").write_bytes(content)
    names = {video.video: video.video for video in store.videos}
    files, frames = pictures.beside(store, names)
    assert list(files) == ["video_001"]
    assert frames("video_001", [(0, 0.0), (15, 0.6)]) == [b"\xff\xd8\xff0"] * 2
    # no JPEG, too large, not there
    assert frames("video_001", [(16, 0.7), (33, 1.4), (50, 2.0)]) == [None] * 3
    assert frames("video_002", [(0, 0.0)]) == [None]


def test_making_a_store_again_leaves_what_lies_beside_it(tmp_path):
    store = make_store(tmp_path / "store", train=2, test=2)
    sums = store.info["sha256"]
    (store.path / "videos" / "v").mkdir(parents=True)
    (store.path / "videos" / "v" / "0.jpg").write_bytes(b"a")
    for _ in range(2):
        assert make_store(tmp_path / "store", train=2, test=2).info["sha256"] == sums
        assert (store.path / "videos" / "v" / "0.jpg").read_bytes() == b"a"
    (store.path / "videos").rename(tmp_path / "elsewhere")
    (store.path / "videos").symlink_to("../elsewhere")
    make_store(tmp_path / "store", train=2, test=2)
    assert (store.path / "videos" / "v" / "0.jpg").read_bytes() == b"a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "store"]
