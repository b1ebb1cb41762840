"""VideoLLaMA 3 from its published format, and a captioner that looks at each frame once yet writes
what the plain call for every window would.
"""

import json
import multiprocessing
import re
import shutil
import threading
import weakref
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

for package in ("torch", "transformers", "av"):
    pytest.importorskip(package, reason="needs the extra featurize")

import av  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import (  # noqa: E402
    VideoLlama3ForConditionalGeneration,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
)

from featurize import captions, engines, videollama3  # noqa: E402
from featurize.captions import STOPS, VideoLlama3  # noqa: E402
from featurize.job import Job  # noqa: E402
from featurize.request import Request  # noqa: E402
from featurize.sources import Entry, UnreadableVideo  # noqa: E402
from featurize.videos import probe  # noqa: E402
from semvad_jax.files import BadInput  # noqa: E402
from tests.support import tiny_videollama3 as tiny  # noqa: E402
from tests.test_videos import render as render_frames  # noqa: E402

CPU = torch.device("cpu")
WORDS = 8
FPS = 10


@pytest.fixture(scope="module", autouse=True)
def short_captions():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captions, "NEW_TOKENS", WORDS)
        yield


@pytest.fixture(scope="module")
def made():
    return tiny.model()


@pytest.fixture(scope="module")
def native(tmp_path_factory, made) -> Path:
    return tiny.write_native(tmp_path_factory.mktemp("tiny") / "native", made)


@pytest.fixture(scope="module")
def remote(tmp_path_factory, made) -> Path:
    return tiny.write_remote(tmp_path_factory.mktemp("tiny") / "remote", made)


@pytest.fixture(scope="module")
def captioner(remote) -> VideoLlama3:
    return VideoLlama3("2b", remote)


@pytest.fixture
def changed(remote, tmp_path) -> Path:
    """A copy of the published checkpoint, to be spoilt."""
    return shutil.copytree(remote, tmp_path / "changed")


# ---- loading


def logits(model, tokens=24):
    ids = torch.arange(5, 5 + tokens)[None]
    pixels = torch.linspace(-1, 1, 64 * 588).sin().reshape(64, 588)
    seen = {
        "pixel_values_videos": pixels,
        "video_grid_thw": torch.tensor([[4, 4, 4]]),
        "video_merge_sizes": torch.tensor([2]),
    }
    ids[0, 4:20] = model.config.video_token_id
    with torch.inference_mode():
        return model(input_ids=ids, **seen).logits


@pytest.mark.parametrize("tied", [False, True])
def test_published_and_native_checkpoints_are_the_model_that_was_written(tmp_path, tied):
    made = tiny.model(tied=tied)
    expected = logits(made)
    assert expected.std() > 0.1
    for write in (tiny.write_native, tiny.write_remote):
        model, _ = videollama3.load(write(tmp_path / write.__name__, made), CPU)
        assert type(model) is VideoLlama3ForConditionalGeneration
        assert model.dtype == torch.float32 and not model.training
        torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-5)


def rewrite(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


KEY = "model.vision_encoder.encoder.layers.1.mlp.fc1.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop(KEY), r"1 missing \(model.vision_model.encoder.layers.1.mlp.fc1.weight"),
        (lambda w: w.pop("lm_head.weight"), r"1 missing \(lm_head.weight\)"),
        (lambda w: w.update({"model.more": torch.ones(1)}), r"1 unexpected \(model.more\)"),
        (lambda w: w.update({KEY: torch.ones(3, 3)}), "1 mismatched .*fc1.weight"),
    ],
)
def test_a_key_too_few_too_many_or_of_another_shape_fails(changed, change, words):
    rewrite(changed, change)
    with pytest.raises(BadInput, match=f"do not fit .*{words}"):
        videollama3.load(changed, CPU)


def edit(**changes):
    def change(folder: Path) -> None:
        raw = json.loads((folder / "config.json").read_bytes()) | changes
        raw = {name: value for name, value in raw.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(raw))

    return change


def without_pads(folder: Path) -> None:
    for path in folder.glob("*token*.json"):
        path.write_text(path.read_text().replace("video_pad", "other_pad"))


def only_pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


class Hostile:
    """What a pickle can do when it is read."""

    def __reduce__(self):
        return open, ("/tmp/a-pickle-was-read", "w")


def index_naming(shard: str):
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save({"x": Hostile()}, folder / "pytorch_model.bin")
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, shard)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return spoil


def test_no_pickle_is_read(changed):
    index_naming("pytorch_model.bin")(changed)
    read = Path("/tmp/a-pickle-was-read")
    read.unlink(missing_ok=True)
    with pytest.raises(BadInput):
        videollama3.load(changed, CPU)
    assert not read.exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (index_naming("pytorch_model.bin"), "names 'pytorch_model.bin'; --weights reads"),
        (index_naming("../x.safetensors"), "names '../x.safetensors'; --weights reads"),
        (index_naming("gone.safetensors"), "is no complete checkpoint"),
        (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "is no index of a"),
        (
            lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/"),
            "model.safetensors is a Git LFS pointer",
        ),
        (lambda f: (f / "config.json").unlink(), "config.json is missing; --weights needs"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not a JSON object"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json is not a JSON object"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "is no complete checkpoint"),
        (edit(hidden_act="nope"), "is no complete checkpoint"),
        (edit(model_type="llava"), "has a model of type 'llava'; give one of type"),
        (edit(vision_encoder_config=None), "config.json lacks 'vision_encoder_config'"),
        (lambda f: (f / "model.safetensors").unlink(), "no complete checkpoint"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "no complete checkpoint"),
        (only_pickled, "no complete checkpoint"),
        (lambda f: (f / "tokenizer.json").unlink(), "the tokenizer lacks its words"),
        (without_pads, r"the tokenizer lacks .*<\|image_pad\|> and <\|video_pad\|>"),
    ],
)
def test_a_spoilt_folder_is_told_in_a_sentence(changed, spoil, words):
    spoil(changed)
    with pytest.raises(BadInput, match=words):
        videollama3.load(changed, CPU)


@pytest.mark.parametrize("size", ["7b", "2b"])
def test_without_the_hub_the_flag_for_local_weights_is_named(size, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    captioner = VideoLlama3(size)  # asks nobody
    with pytest.raises(BadInput, match=f"--weights videollama3-{size}=DIR"):
        _ = captioner.producer
    with pytest.raises(BadInput, match=f"--weights videollama3-{size}=DIR"):
        captioner(Entry("v", "test", ("Normal",), 16, FPS, tmp_path / "v.mp4"))


def test_a_checkpoint_of_the_hub_is_the_commit_that_is_recorded(
    native, monkeypatch, tmp_path, moving
):
    commit, name = "0123456789abcdef0123456789abcdef01234567", "DAMO-NLP-SG/VideoLLaMA3-2B"
    place = tmp_path / f"models--{name.replace('/', '--')}"
    shutil.copytree(native, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    captioner = VideoLlama3("2b")
    assert captioner.producer["revision"] == commit
    # once it is recorded, no newer one is taken
    (place / "refs/main").write_text("f" * 40)
    assert captioner(moving) == VideoLlama3("2b", native)(moving)


def test_a_folder_is_known_by_its_weights_not_its_place(remote, changed):
    first = VideoLlama3("2b", remote).producer["revision"]
    assert videollama3.revision(changed) == first
    rewrite(changed, lambda w: w[KEY].add_(1e-3))
    assert videollama3.revision(changed) != first


# ---- captions: what is compared with


def render(path: Path, frames: int, size=(48, 64), moving=True) -> Entry:
    """Coloured noise that moves to the right, or stands still; lossless."""
    height, width = size
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"qp": "0"})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p"
        for i in range(frames):
            picture = np.roll(noise, (3 * i, 5 * i) if moving else 0, (0, 1))
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Entry(path.stem, "test", ("Normal",), frames, FPS, path)


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Entry:
    """Three snippets, the last of 8 frames."""
    return render(tmp_path_factory.mktemp("videos") / "moving.mp4", 40)


class Plain:
    """The plain call: the processor and the model on the 12 frames of one window at a time."""

    def __init__(self, native: Path) -> None:
        self.model = VideoLlama3ForConditionalGeneration.from_pretrained(native).eval()
        self.processor = VideoLlama3Processor(
            image_processor=VideoLlama3ImageProcessor(patch_size=14, merge_size=1),
            tokenizer=tiny.tokenizer(),
            video_processor=VideoLlama3VideoProcessor(size=dict(videollama3.PIXELS)),
        )

    def inputs(self, entry: Entry, i: int):
        with av.open(str(entry.path)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        assert len(frames) == entry.frames
        pictures, places, start = [], [], 0
        last = (entry.frames - 1) // 16
        for j in (max(i - 1, 0), i, min(i + 1, last)):
            snippet = frames[16 * j : 16 * j + 16]
            for part in range(4):
                place = int((part + 0.5) * len(snippet) / 4)
                pictures.append(snippet[place])
                places.append(start + place)
            start += len(snippet)
        prompts = json.loads((Path(captions.__file__).parent / "prompts.json").read_bytes())
        text = (
            f"<|im_start|>system\n{prompts['system']}<|im_end|>\n"
            f"<|im_start|>user\n<|video_pad|>\n{prompts['user']}<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        about = {"total_num_frames": start, "fps": entry.fps, "frames_indices": places}
        return self.processor(
            text=[text],
            videos=[np.stack(pictures)],
            do_sample_frames=False,
            video_metadata=[about],
            return_tensors="pt",
        )

    def __call__(self, entry: Entry, i: int) -> list[int]:
        inputs = self.inputs(entry, i)
        with torch.inference_mode():
            new = self.model.generate(
                **inputs,
                max_new_tokens=WORDS,
                do_sample=False,
                repetition_penalty=1.0,
                eos_token_id=[258, 256],
                pad_token_id=256,
            )
        return new[0, inputs["input_ids"].shape[1] :].tolist()

    def of(self, entry: Entry) -> list[list[int]]:
        return [self(entry, i) for i in range(-(-entry.frames // 16))]


@pytest.fixture(scope="module")
def plain(native) -> Plain:
    return Plain(native)


def cut(rows) -> list[list[int]]:
    """Token rows up to their end, without the padding after it."""
    return [np.trim_zeros(np.array(row) - 256, "b").tolist() for row in rows]


# ---- captions


@pytest.mark.parametrize("batch", [8, 1])
@pytest.mark.parametrize("moving", [True, False])
@pytest.mark.parametrize("frames", [5, 17, 32, 40, 150])
def test_tokens_are_those_of_the_plain_call_per_window(
    tmp_path, captioner, plain, frames, moving, batch, monkeypatch
):
    monkeypatch.setattr(captions, "BATCH", batch)
    entry = render(tmp_path / "v.mp4", frames, moving=moving)
    expected = cut(plain.of(entry))
    assert cut(captioner.tokens(entry)) == expected
    if moving and frames > 32:  # the model does write about what it sees
        assert len({tuple(row) for row in expected}) > 1


@pytest.mark.parametrize("size", [(47, 63), (90, 31)])
def test_odd_sizes(tmp_path, captioner, plain, size):
    entry = render(tmp_path / "v.mp4", 40, size)
    assert cut(captioner.tokens(entry)) == cut(plain.of(entry))


def test_a_frame_gets_the_pixels_of_one_in_twelve(tmp_path, native, monkeypatch, captioner):
    monkeypatch.setitem(videollama3.PIXELS, "longest_edge", 12 * 6 * 28 * 28)
    entry = render(tmp_path / "v.mp4", 40, (112, 112))  # 16 tokens a frame, 6 are allowed
    small = VideoLlama3("2b", native)
    with torch.inference_mode():
        assert [len(window.tokens) for window in small._windows(entry)] == [12 * 4] * 3
        assert [len(window.tokens) for window in captioner._windows(entry)] == [12 * 16] * 3
    assert cut(small.tokens(entry)) == cut(Plain(native).of(entry))


def test_prompts_and_pruned_tokens_are_those_of_the_plain_call(tmp_path, captioner, plain):
    """Half of the picture stands still, and a frame's tokens do not depend on its company."""
    still, other = render(tmp_path / "a.mp4", 40, moving=False), tmp_path / "b.mp4"
    with av.open(str(still.path)) as source, av.open(str(other), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        for i, frame in enumerate(source.decode(video=0)):
            picture = frame.to_ndarray(format="rgb24")
            picture[:, :32] = np.roll(picture[:, :32], i // 16, 1)  # changes at the borders only
            made = av.VideoFrame.from_ndarray(picture)
            made.pts = i
            container.mux(stream.encode(made))
        container.mux(stream.encode())
    entry = Entry("b", "test", ("Normal",), 40, FPS, other)
    counts = []
    with torch.inference_mode():
        for i, window in enumerate(captioner._windows(entry)):
            inputs = plain.inputs(entry, i)
            ids = captioner._processor.tokenizer(window.text, return_tensors="pt")["input_ids"]
            assert ids.equal(inputs["input_ids"])
            seen = plain.model.get_video_features(
                inputs["pixel_values_videos"],
                inputs["video_grid_thw"],
                video_merge_sizes=inputs["video_merge_sizes"],
            )
            tokens = torch.cat(seen.pooler_output)[inputs["video_compression_mask"]]
            torch.testing.assert_close(window.tokens, tokens, rtol=0, atol=1e-5)
            counts.append(len(tokens))
    # the first frame whole, then one token a frame, and more at each border that is in the window
    assert 20 + 11 < min(counts) < max(counts) < 240
    assert counts[0] < counts[1]


def test_a_checkpoint_without_pruning_keeps_every_token(tmp_path, made):
    folder = tiny.write_remote(tmp_path / "whole", made, use_token_compression=False)
    entry = render(tmp_path / "v.mp4", 16, moving=False)
    with torch.inference_mode():
        (window,) = VideoLlama3("2b", folder)._windows(entry)
    assert len(window.tokens) == window.text.count("<|video_pad|>") == 12 * 20


def test_times_of_frames_and_the_prompts_worked_by_hand(captioner, moving):
    with torch.inference_mode():
        first, middle, last = (window.text for window in captioner._windows(moving))

    def times(text):
        return [float(part.split("s:")[0]) for part in text.split("Time ")[1:]]

    whole = [0.2, 0.6, 1.0, 1.4]  # 2, 6, 10 and 14 of 16 frames, 10 a second
    second = [1.8, 2.2, 2.6, 3.0]
    assert times(first) == [*whole, *second, 3.4, 3.8, 4.2, 4.6]
    assert times(middle) == [*whole, *second, 3.3, 3.5, 3.7, 3.9]  # 1, 3, 5 and 7 of 8 frames
    assert times(last) == [*whole, 1.7, 1.9, 2.1, 2.3, 2.5, 2.7, 2.9, 3.1]
    prompts = json.loads((Path(captions.__file__).parent / "prompts.json").read_bytes())
    assert first.startswith(f"<|im_start|>system\n{prompts['system']}<|im_end|>\n<|im_start|>user")
    assert first.endswith(f"\n{prompts['user']}<|im_end|>\n<|im_start|>assistant\n")
    assert {name: captioner.producer["prompts"][name] for name in prompts} == prompts


def test_times_in_the_prompt_are_the_streams(captioner, tmp_path):
    """16 frames at 10 a second, then one a second: the middles of quarters are frames 2, 6, …"""
    at = [*range(16), *(16 + 10 * i for i in range(24))]
    path = render_frames(tmp_path / "v.mp4", frames=40, size=(48, 64), times=at)
    found = probe(path)
    entry = Entry("v", "test", ("Normal",), 0, 0.0, path).of_length(*found)
    first, second = islice(captioner._windows(entry), 2)
    told = [re.findall(r"Time ([\d.]+)s", window.text) for window in (first, second)]
    once = [0.2, 0.6, 1.0, 1.4]  # the first snippet stands in for the one before it
    slow = [2, 6, 10, 14]
    assert [float(t) for t in told[0]] == pytest.approx(
        [*once, *(1.6 + t for t in once), *(3.2 + t for t in slow)], abs=0.051
    )
    assert [float(t) for t in told[1][:8]] == pytest.approx(
        [*once, *(1.6 + t for t in slow)], abs=0.051
    )


def test_every_frame_goes_through_the_vision_tower_once(tmp_path, captioner, plain):
    entry = render(tmp_path / "v.mp4", 150)
    seen = {"ours": 0, "plain": 0}

    def counter(name):
        def count(module, args, kwargs):
            grid = kwargs["grid_thw"]
            assert len(kwargs["pixel_values"]) == grid.prod(1).sum() == grid[:, 0].sum() * 80
            seen[name] += grid[:, 0].sum().item()

        return count

    hooks = [
        model.model.vision_model.register_forward_pre_hook(counter(name), with_kwargs=True)
        for name, model in (("ours", captioner._model), ("plain", plain.model))
    ]
    list(captioner.tokens(entry))
    plain.of(entry)
    for hook in hooks:
        hook.remove()
    assert seen == {"ours": 10 * 4, "plain": 10 * 12}


def test_logits_are_computed_at_the_last_place_alone(captioner, moving):
    places = set()
    head = captioner._model.lm_head
    watch = head.register_forward_pre_hook(lambda _, args: places.add(args[0].shape[1]))
    try:
        next(captioner.tokens(moving))
    finally:
        watch.remove()
    assert places == {1}


def test_attention_is_none_that_differs_from_run_to_run():
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_memory_stays_flat(tmp_path, captioner, monkeypatch):
    """However long the video, four snippets' pixels at most, and a batch's prompts, are kept."""
    living: list[weakref.ref] = []
    prompts: list[weakref.ref] = []
    most = {"snippets": 0, "prompts": 0}

    def watched(made, kept, name, part):
        def make(*args):
            one = made(*args)
            kept.append(weakref.ref(part(one)))
            most[name] = max(most[name], sum(ref() is not None for ref in kept))
            return one

        return make

    snippet, window = captions.Snippet, captions.Window
    monkeypatch.setattr(
        captions, "Snippet", watched(snippet, living, "snippets", lambda s: s.pixels)
    )
    monkeypatch.setattr(captions, "Window", watched(window, prompts, "prompts", lambda w: w.tokens))
    list(captioner.tokens(render(tmp_path / "v.mp4", 16 * 30)))
    assert len(living) == len(prompts) == 30
    assert 3 <= most["snippets"] <= 4
    assert captions.BATCH <= most["prompts"] <= 2 * captions.BATCH


def test_captions_are_the_decoded_tokens_one_a_snippet(captioner, moving, monkeypatch):
    assert len(set(captioner(moving))) == 3 and captioner.snippet_frames(moving) == 16
    assert json.loads(json.dumps(captioner.producer)) == captioner.producer
    assert captioner.producer["snippets"] == "16 frames"
    words = tiny.tokenizer()("A man  runs.\n<|im_end|><|endoftext|>")["input_ids"]
    monkeypatch.setattr(captioner, "tokens", lambda *_: iter([np.array(words)] * 2))
    assert captioner(moving) == ["A man runs."] * 2


def test_captions_one_by_one_are_those_of_batches(captioner, tmp_path):
    entry = render(tmp_path / "v.mp4", frames=64)
    caption = captioner.in_turn(entry.fps)
    frames = captions.snippets(entry.path, captions.edges(entry.frames), captioner.frames)
    found = [caption(picked) for picked in frames]
    expected = captioner(entry)
    assert len(set(expected)) > 2
    assert found[1:] == expected[:3]  # each call captions the snippet before
    assert found[0] == captioner(replace(entry, frames=16))[0]
    caption = captioner.in_turn(entry.fps, live=True)  # each is a video's last snippet
    frames = captions.snippets(entry.path, captions.edges(entry.frames), captioner.frames)
    cut = [replace(entry, frames=16 * n) for n in (1, 2, 3, 4)]
    assert [caption(picked) for picked in frames] == [captioner(video)[-1] for video in cut]


def test_a_video_that_changes_size_is_captioned_in_that_of_its_first_frame(
    tmp_path, captioner, moving, monkeypatch
):
    whole = captions.snippets

    def changing(*args):
        for i, frames in enumerate(whole(*args)):
            yield [np.repeat(f, 4, 1) if i == 2 or i + j == 4 else f for j, f in enumerate(frames)]

    monkeypatch.setattr(captions, "snippets", changing)
    with torch.inference_mode():
        seen = [window.text.count("<|video_pad|>") for window in captioner._windows(moving)]
    assert seen == [240] * 3


def test_sampling_is_reproducible_and_not_greedy(captioner, remote, moving, tmp_path):
    def sampled(entry, **settings):
        return cut(VideoLlama3("2b", remote, **settings).tokens(entry))

    hot = sampled(moving, temperature=5.0)
    assert hot == sampled(moving, temperature=5.0)
    assert hot != cut(captioner.tokens(moving))
    other = Entry("other", "test", ("Normal",), 40, FPS, moving.path)
    assert hot != sampled(other, temperature=5.0)
    # the likeliest token alone has that little of the probability
    assert sampled(moving, top_p=1e-6) == cut(captioner.tokens(moving))


@pytest.mark.parametrize("settings", [{}, {"temperature": 5.0}])
def test_captions_go_on_from_any_batch(remote, moving, monkeypatch, settings):
    monkeypatch.setattr(captions, "BATCH", 2)
    model = VideoLlama3("2b", remote, **settings)
    whole = list(model.blocks(moving))
    assert [len(block) for block in whole] == [2, 1]
    seen, tower = [], model._model.get_video_features
    monkeypatch.setattr(
        model._model, "get_video_features", lambda *a, **k: seen.append(1) or tower(*a, **k)
    )
    assert list(model.blocks(moving, 2)) == whole[1:]
    assert len(seen) == 2  # the snippet before it, and it
    assert list(model.blocks(moving, 4)) == []


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The form for a GPU, computed in float32 on the CPU."""
    monkeypatch.setattr(captions.arithmetic, "on_gpu", lambda: True)
    monkeypatch.setattr(captions.arithmetic, "device", lambda: CPU)
    monkeypatch.setattr(captions.arithmetic, "dtype", lambda: torch.float32)
    monkeypatch.setattr(captions, "BATCH", 4)


@pytest.mark.parametrize("patches", [2**17, 80 * 4 * 2, 1])
def test_many_windows_at_once_are_captioned_as_one_by_one(
    tmp_path, remote, plain, as_on_a_gpu, monkeypatch, patches
):
    monkeypatch.setattr(captions, "PATCHES", patches)
    entry = render(tmp_path / "v.mp4", 150)
    captioner, seen = VideoLlama3("2b", remote), list[int]()
    tower = captioner._model.get_video_features

    def counted(pixels, grid, **more):
        seen.append(len(grid))
        return tower(pixels, grid, **more)

    monkeypatch.setattr(captioner._model, "get_video_features", counted)
    whole = list(captioner.blocks(entry))
    assert cut(captioner.tokens(entry)) == cut(plain.of(entry))
    assert [len(block) for block in whole] == [4, 4, 2]
    calls = {1: [1] * 14, 640: [2, 2, 1, 2, 2, 2, 2, 1], 2**17: [5, 6, 3]}  # of 10 snippets
    assert seen == 2 * calls[patches]
    assert list(captioner.blocks(entry, 4)) == whole[1:]
    assert "4 windows of one video, each read alone" == captioner.producer["batch"]


def test_a_worker_beside_a_gpu_has_its_owner_compute(tmp_path, remote, as_on_a_gpu, monkeypatch):
    """It holds no model, and what it makes is what its owner would make alone."""
    (tmp_path / "videos").mkdir()
    render(tmp_path / "videos" / "v.mp4", 150)
    (tmp_path / "videos.csv").write_text(
        "video,split,label,frames,anomaly_intervals\nv,train,Normal,,\nw,train,Riot,,\n"
    )
    makers = {"vision": "efficientnet-lite0", "captioner": "videollama3-2b", "text": "minilm-l6"}
    weights = {"videollama3-2b": remote}

    def job(name):
        out = tmp_path / name
        return Job(Request.of("folder", videos=tmp_path, out=out, weights=weights, **makers))

    owner, alone, loaded = job("store"), job("alone"), list[str]()
    load = videollama3.load
    monkeypatch.setattr(videollama3, "load", lambda *a: loaded.append("model") or load(*a))
    monkeypatch.setattr(engines.signal, "signal", lambda *_: None)
    ours, its = multiprocessing.Pipe()
    worker = (owner.request, ("captions",), its)
    threading.Thread(target=engines.serve, args=worker, daemon=True).start()
    ours.send(0)
    said, snippets = [], 0
    while not said or said[-1] != engines.FINISHED:
        kind, *more = ours.recv()
        said.append(kind)
        if kind == engines.WRITE:
            ours.send(owner.captioner.write(*more))
        elif kind == engines.MORE:
            snippets += more[0]
    assert said.count(engines.WRITE) == 3 and snippets == 10 and loaded == ["model"]
    alone.make("captions", alone.entries[0])
    assert owner.texts(owner.entries[0]) == alone.texts(alone.entries[0])


def test_one_by_one_in_the_form_for_a_gpu(captioner, remote, tmp_path, as_on_a_gpu):
    entry = render(tmp_path / "v.mp4", frames=48)
    caption = VideoLlama3("2b", remote).in_turn(entry.fps)
    frames = captions.snippets(entry.path, captions.edges(entry.frames), captioner.frames)
    found = [caption(picked) for picked in frames]
    assert found[1:] == captioner(entry)[:2]


def test_a_picture_too_narrow_for_the_model_is_told(captioner, moving, monkeypatch):
    narrow = [np.zeros((2, 640, 3), np.uint8)] * captions.FRAMES
    monkeypatch.setattr(captions, "snippets", lambda *_: iter([narrow] * 3))
    with pytest.raises(UnreadableVideo, match="640 x 2 is too narrow"):
        captioner(moving)


def test_decoding_settings_make_other_pieces(remote, captioner):
    hot = VideoLlama3("2b", remote, temperature=0.7, top_p=0.9).producer
    assert hot["decoding"] == captioner.producer["decoding"] | {
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 0,
    }


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_impossible_decoding_settings(settings):
    with pytest.raises(BadInput, match="neither for greedy decoding"):
        VideoLlama3("2b", **settings)


def test_prompts_file_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "PROMPTS", tmp_path / "prompts.json")
    (tmp_path / "prompts.json").write_text('{"system": "s", "user": "u"}')
    with pytest.raises(BadInput, match="is no JSON of system, user and source"):
        VideoLlama3("2b")


def test_unreadable_videos(tmp_path, captioner, moving):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(UnreadableVideo):
        captioner(Entry("broken", "test", ("Normal",), 40, FPS, broken))
    with pytest.raises(UnreadableVideo, match="of 20 snippets could be read"):
        captioner(Entry("short", "test", ("Normal",), 320, FPS, moving.path))


def test_a_caption_that_the_limit_cuts_off_says_so():
    model = VideoLlama3("7b")
    words = SimpleNamespace(convert_tokens_to_ids=dict(zip(STOPS, [7, 9], strict=True)).get)
    model.__dict__["_processor"] = SimpleNamespace(
        batch_decode=lambda rows, skip_special_tokens: ["a  man runs"] * 3, tokenizer=words
    )
    rows = [np.array([1, 2, 7, 0]), np.array([1, 2, 3, 9]), np.array([1, 2, 3, 4])]
    assert model._texts(rows) == ["a man runs", "a man runs", "a man runs …"]
