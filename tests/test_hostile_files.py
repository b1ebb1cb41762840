"""Files from somebody else: read as data, or refused; nothing of them is imported or followed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurize.caption_files import FileCaptions
from featurize.sources import Entry
from semvad_jax import store
from semvad_jax.files import BadInput, sha256
from semvad_jax.store.format import FILES
from tests.support.stores import make_store
from tests.support.watched import HOOK

ROOT = Path(__file__).parents[1]
WATCH = f"""{HOOK}
from semvad_jax.store import locate, tfds
from semvad_jax.files import BadInput
os.chdir(sys.argv[3])
sys.path.insert(0, sys.argv[3])  # as where a user starts Python beside the files
sys.addaudithook(hook)
try:
    locate.open_store(sys.argv[2])
    print("opened")
except BadInput as error:
    print(error)
print("seen:", seen)
"""


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    """An export of the embedded store."""
    from semvad_jax.store import tfds

    folder = tmp_path_factory.mktemp("exports") / "export"
    tfds.export(store.open(ROOT / "demo"), folder)
    return folder


@pytest.fixture
def mine(export, tmp_path) -> Path:
    shutil.copytree(export, tmp_path / "export")
    (tmp_path / "export" / "hostile.py").write_text("open('/tmp/hostile-ran', 'w')\n")
    return tmp_path / "export"


def watched(address: str, folder: Path) -> str:
    """What opening printed, and what it did that it should not."""
    script = [sys.executable, "-c", WATCH, str(folder / "features"), address, str(folder)]
    found = subprocess.run(script, capture_output=True, text=True, env=None, timeout=120)
    assert found.returncode == 0, found.stderr
    printed, _, seen = found.stdout.partition("seen: ")
    assert seen.strip() == "[]", seen
    return printed


def test_an_export_is_opened(mine):
    assert watched(f"tfds:{mine}", mine) == "opened\n"


@pytest.mark.parametrize("name", ["hostile.Feature", "os.system", "tensorflow_datasets.core.Gone"])
@pytest.mark.parametrize("inner", [False, True])
def test_an_export_names_no_module(mine, name, inner):
    described = json.loads((mine / "features.json").read_text())
    feature = described["featuresDict"]["features"]["place"] if inner else described
    feature["pythonClassName"] = name
    (mine / "features.json").write_text(json.dumps(described))
    assert "features.json describes other records" in watched(f"tfds:{mine}", mine)


@pytest.mark.parametrize(
    "changes",
    [
        {"moduleName": "hostile"},
        {"name": "hostile", "configName": "hostile"},
        {"splits": [{"name": "../../train_000"}]},
        {"splits": "train_000"},
    ],
)
def test_an_export_names_no_file(mine, changes):
    described = json.loads((mine / "dataset_info.json").read_text()) | changes
    (mine / "dataset_info.json").write_text(json.dumps(described))
    printed = watched(f"tfds:{mine}", mine)
    assert printed == "opened\n" or "does not list the splits" in printed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "1 to 200 bytes"),
        ("  ", "1 to 200 bytes"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\u2028b", "control character"),
        ("x" * 201, "1 to 200 bytes"),
        ("é" * 101, "1 to 200 bytes"),
        ("\ud800", "1 to 200 bytes"),
        (7, "does not describe a video"),
        (None, "does not describe a video"),
        (["a"], "does not describe a video"),
    ],
)
def test_ids_are_text_that_can_be_shown(tmp_path, name, words):
    with pytest.raises(BadInput, match=words):
        store.open(with_videos(tmp_path, lambda rows: rows[0].update(video=name)))


@pytest.mark.parametrize("name", ["..", "a/b", "a__b", "<b>x</b>", "x:y", "[/x]", "-x", "x" * 200])
def test_ids_may_be_any_text(tmp_path, name):
    path = with_videos(tmp_path, lambda rows: rows[0].update(video=name), captions=False)
    assert store.open(path).videos[0].video == name


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"fps": float("nan")}, "frames a second"),
        ({"fps": float("inf")}, "frames a second"),
        ({"fps": 2e9}, "frames a second"),
        ({"fps": 0}, "frames a second"),
        ({"fps": "25"}, "does not describe a video"),
        ({"frames": 40.0}, "does not describe a video|snippets"),
        ({"frames": True}, "does not describe a video"),
        ({"frames": 10**18, "snippets": 10**18 // 16}, "are believed"),
        ({"crops": 10**12}, "are believed"),
        ({"seconds": [0.0, 1.0]}, "ascending order"),
        ({"seconds": [0.0, 1e400]}, "ascending order"),
        ({"seconds": "now"}, "does not describe a video"),
        ({"labels": "Normal"}, "does not describe a video"),
        ({"intervals": [["Normal", 0]]}, "does not describe a video"),
    ],
)
def test_numbers_are_believed_within_reason(tmp_path, fields, words):
    with pytest.raises(BadInput, match=words):
        store.open(with_videos(tmp_path, lambda rows: rows[0].update(fields)))


def with_videos(folder: Path, change, captions=True) -> Path:
    """The embedded store with other lines of videos.jsonl, checksums made anew."""
    path = folder / "store"
    shutil.copytree(ROOT / "demo", path)
    rows = [json.loads(line) for line in (path / "videos.jsonl").read_text().splitlines()]
    change(rows)
    (path / "videos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if not captions:
        (path / "captions.jsonl").write_bytes(b"")
    info = json.loads((path / "store.json").read_text())
    info["sha256"] = {name: sha256(path / name) for name in info["sha256"]}
    (path / "store.json").write_text(json.dumps(info))
    return path


def changed(data, content: bytes) -> bytes:
    """Bytes with something cut out, put in or changed, once or several times."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 0, 1, 8, 300]))
        odd = [b"9" * 30, b"null", b"-1", b"1e999", b'"', b"[", b"{", b"}", b"\\u0000", b"NaN"]
        content[place : place + length] = data.draw(st.sampled_from(odd) | st.binary(max_size=3))
    return bytes(content)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("small") / "store", train=4, test=2).path


@pytest.mark.parametrize("name", ["store.json", *FILES])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_changed_store_opens_or_is_refused(small, name, data):
    """Also where the checksums were made to fit."""
    before = {file: (small / file).read_bytes() for file in ("store.json", name)}
    try:
        (small / name).write_bytes(changed(data, before[name]))
        if name != "store.json":
            info = json.loads(before["store.json"])
            info["sha256"][name] = sha256(small / name)
            (small / "store.json").write_text(json.dumps(info))
        opened = store.open(small)
        for i, video in enumerate(opened.videos):
            assert len(video.second_edges) == video.snippets + 1
            assert len(opened.texts(i)) in (0, video.snippets)
    except BadInput as error:
        assert "\n" not in str(error)
    finally:
        for file, content in before.items():
            (small / file).write_bytes(content)


CAPTIONS = b'{"video": "a", "snippet": 0, "text": "x"}\n{"video": "a", "snippet": 1, "text": "y"}\n'
LISTED = b'{"Class/a.mp4": ["x", "y"]}\n{"Class/b.mp4": ["z", "z"]}\n'


@pytest.mark.parametrize("content", [CAPTIONS, LISTED])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_changed_captions_are_read_or_refused(tmp_path_factory, content, data):
    path = tmp_path_factory.mktemp("captions") / "x.jsonl"
    path.write_bytes(changed(data, content))
    entries = [Entry("a", "train", ("Normal",), 32, 25.0, path)]
    try:
        spans = None if content == CAPTIONS else 2
        assert len(FileCaptions(path, spans, entries)(entries[0])) == 2
    except BadInput as error:
        assert "\n" not in str(error)
