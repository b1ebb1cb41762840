"""A store that was read whole once is opened without reading it again, unless it changed."""

import os

import numpy as np
import pytest

import main
from semvad_jax import store
from semvad_jax.files import BadInput
from semvad_jax.store import store as opening
from semvad_jax.store import verified
from tests.support.stores import make_store


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return make_store(tmp_path / "store").path


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once."""
    monkeypatch.setattr(verified, "SETTLED", 0.0)


@pytest.fixture
def hashed(monkeypatch):
    """The files that were hashed."""
    files, sha256 = [], opening.sha256
    monkeypatch.setattr(opening, "sha256", lambda p: files.append(p.name) or sha256(p))
    return files


def test_the_second_time_nothing_is_hashed(path, settled, hashed):
    first = store.open(path)
    assert sorted(hashed) == sorted(first.info["sha256"])
    hashed.clear()
    again = store.open(path)
    assert not hashed
    np.testing.assert_array_equal(first.visual, again.visual)


def flip(path, keep_times):
    """Another byte at the end of the features, in place."""
    file = path / "visual.npy"
    before = file.stat()
    with file.open("r+b") as f:
        f.seek(-1, 2)
        last = f.read(1)
        f.seek(-1, 2)
        f.write(bytes([last[0] ^ 1]))
    if keep_times:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_change_is_found_all_the_same(path, settled, keep_times):
    store.open(path)
    flip(path, keep_times)
    with pytest.raises(BadInput, match="visual.npy differs from its checksum"):
        store.open(path)


def test_another_store_in_its_place_is_read(path, settled, hashed, tmp_path):
    store.open(path)
    other = make_store(tmp_path / "other", seed=1).path
    path.rename(tmp_path / "away")
    other.rename(path)
    hashed.clear()
    store.open(path)
    assert hashed


def test_files_that_have_just_changed_are_not_trusted(path, hashed):
    store.open(path)
    hashed.clear()
    store.open(path)
    assert hashed and not list(verified._folder().glob("*"))


def test_verify_reads_all_again(path, settled, hashed, tmp_path):
    store.open(path)
    with pytest.raises(SystemExit):  # there is no run: forgetting comes first
        main.main(["--restore", str(tmp_path / "no run"), "--eval", "--verify"])
    hashed.clear()
    store.open(path)
    assert hashed


def test_a_damaged_record_is_no_record(path, settled, hashed):
    store.open(path)
    (record,) = verified._folder().glob("*.json")
    record.write_bytes(b"[" * 100_000)
    hashed.clear()
    store.open(path)
    assert hashed


def test_a_cache_folder_that_cannot_be_written_is_no_error(path, settled, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    store.open(path)
    verified.forget()
