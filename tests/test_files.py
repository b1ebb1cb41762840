"""Files are whole or absent, read or refused, and written by one process at a time."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semvad_jax import files, store
from semvad_jax.files import BadInput
from tests.support.stores import make_store

ROOT = Path(__file__).parents[1]
HOLD = """
import sys, time
from pathlib import Path
from semvad_jax.files import BadInput, locked
try:
    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
except BadInput as error:
    print(error)
"""


def hold(path, seconds):
    script = [sys.executable, "-c", HOLD, str(path), str(seconds)]
    return subprocess.Popen(script, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_one_of_ten_holds_a_lock_and_the_others_are_told_who(tmp_path):
    racing = [hold(tmp_path / "run", 4) for _ in range(10)]
    told = [process.communicate()[0] for process in racing]
    assert sum(line == "held\n" for line in told) == 1
    (holder,) = (p.pid for p, line in zip(racing, told, strict=True) if line == "held\n")
    others = [line for line in told if line != "held\n"]
    assert all(f"is being written by process {holder} on " in line for line in others)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    with hold(tmp_path / "run", 60) as process:
        assert process.stdout.readline() == "held\n"
        held = pytest.raises(BadInput, match=f"process {process.pid} ")
        with held, files.locked(tmp_path / "run"):
            pass
        process.kill()
    with files.locked(tmp_path / "run"):
        assert (tmp_path / ".run.lock").is_file()
    assert list(tmp_path.iterdir()) == []


def test_a_link_and_what_it_points_to_have_one_lock(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with files.locked(tmp_path / "link"), pytest.raises(BadInput):
        with files.locked(tmp_path / "run"):
            pass


def test_two_writers_of_a_file_do_not_meet(tmp_path):
    path = tmp_path / "x.json"
    with files.replacing(path) as one, files.replacing(path) as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert path.read_text() == "1" and list(tmp_path.iterdir()) == [path]


def test_a_store_is_written_by_one_and_through_a_link(tmp_path):
    real = make_store(tmp_path / "real").path
    (tmp_path / "link").symlink_to(real)
    leftover = tmp_path / "real.0123abcd.partial"
    leftover.mkdir()
    settings = {"dataset": "x", "classes": ("Normal", "A"), "producers": {}}
    with store.Writer(tmp_path / "link", **settings) as writer:
        with pytest.raises(BadInput, match=f"written by process {os.getpid()} "):
            store.Writer(real, **settings)
        video = store.Video("v", "train", ("Normal",), 16, 25.0, 1)
        writer.add(video, np.zeros((1, 1, 4)), np.zeros((1, 3)), ["a"])
        writer.finish({"class_caption": np.zeros((2, 3)), "class_name": np.zeros((2, 3))}, {})
    assert (tmp_path / "link").is_symlink() and store.open(real).videos[0].video == "v"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
        (b'{\n "a": 1\n}\n', "is one JSON value over several lines"),
        (b"[\n1\n]", "is one JSON value over several lines"),
        (b'{"a": 1}\n{"a"', "line 2 is not JSON"),
        (b"hello", "line 1 is not JSON"),
        (b"\xff\xfe", "line 1 is not JSON"),
    ],
)
def test_what_is_wrong_with_json_lines(tmp_path, content, words):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=words):
        list(files.json_lines(tmp_path / "x.jsonl"))


def test_marks_and_blank_lines_are_passed_over(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n \n{"a": 2}')
    assert [row["a"] for _, row in files.json_lines(tmp_path / "x.jsonl")] == [1, 2]


@pytest.mark.parametrize("name", ["visual.npy", "class_text.safetensors", "videos.jsonl"])
def test_a_pointer_in_a_store_is_named(tmp_path, name):
    path = make_store(tmp_path / "store").path
    (path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(BadInput, match=f"{name} is a Git LFS pointer"):
        store.open(path)
