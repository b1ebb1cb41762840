"""CLIP through open_clip: our batches against its own calls, with weights made at random."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semvad_jax import data, store
from semvad_jax.files import BadInput
from semvad_jax.models import class_text
from tests.support import parity
from tests.test_videos import render

open_clip = pytest.importorskip("open_clip", reason="needs the extra featurize (open_clip)")

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from featurize import clip, run, text, vision  # noqa: E402
from featurize.rows import of_video  # noqa: E402
from featurize.sources import UCF_CLASSES, XD_CODES  # noqa: E402
from featurize.videos import snippets  # noqa: E402

TINY = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "patch_size": 56},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


def saved(name: str, folder: Path, precision: str = "fp32") -> Path:
    """A checkpoint of random weights, as the hub's folders have it."""
    torch.manual_seed(0)
    folder.mkdir()
    model = open_clip.create_model(name, precision=precision)
    save_file(model.state_dict(), folder / clip.FILE)
    return folder


def register(folder: Path, name: str, width: int) -> Path:
    """A small architecture under this name, and a checkpoint of it."""
    folder.mkdir()
    (folder / f"{name}.json").write_text(json.dumps(TINY | {"embed_dim": width}))
    open_clip.add_model_config(folder / f"{name}.json")
    return saved(name, folder / "weights")


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A small architecture, and its weights."""
    return register(tmp_path_factory.mktemp("configs") / "tiny", "tiny-quickgelu", 24)


@pytest.fixture
def tiny(registered, monkeypatch):
    """The weights of a small CLIP that stands in the place of clip-vit-b16."""
    monkeypatch.setitem(clip.MODELS, "clip-vit-b16", "tiny-quickgelu")
    return registered


def own_call(folder, name, images):
    """Embeddings by open_clip alone, one picture after the other."""
    model, _, preprocess = open_clip.create_model_and_transforms(
        name, pretrained=str(folder / clip.FILE)
    )
    model.eval()
    with torch.inference_mode():
        rows = [model.encode_image(preprocess(image)[None])[0].numpy() for image in images]
    return np.stack(rows)


def squares(frame):
    """The ten crops as the facts page lists them, cut with PIL."""
    resized = Image.fromarray(frame).resize((340, 256), Image.Resampling.BICUBIC)
    corners = [(58, 16), (0, 0), (116, 0), (0, 32), (116, 32)]
    five = [resized.crop((x, y, x + 224, y + 224)) for x, y in corners]
    return five + [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in five]


@pytest.fixture
def video(tmp_path):
    """40 frames of noise that differ in every corner."""
    av = pytest.importorskip("av")
    rng, path = np.random.default_rng(0), tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p"
        for _ in range(40):
            picture = np.kron(rng.integers(0, 256, (8, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


EDGES = np.array([0, 16, 32, 40])


def test_ten_crops_equal_open_clips_own_call(tiny, video):
    model = vision.ClipImages("clip-vit-b16", tiny, 10, "middle")
    found = of_video(model, video, EDGES)
    frames = [frame for (frame,) in snippets(video, EDGES, 1)]
    images = [image for frame in frames for image in squares(frame)]
    expected = own_call(tiny, "tiny-quickgelu", images).reshape(3, 10, -1).swapaxes(0, 1)
    assert found.shape == (10, 3, 24) and found.dtype == np.float16
    # float16 keeps three digits; what is compared here is everything before that
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)
    assert np.abs(found[0] - found[5]).max() > 1e-2 and np.abs(found[0] - found[1]).max() > 1e-2
    by_itself = np.stack([model.snippet([frame]) for frame in frames], axis=1)
    np.testing.assert_allclose(by_itself, found, atol=1e-4, rtol=1e-3)
    one = vision.ClipImages("clip-vit-b16", tiny, 1, "middle")
    np.testing.assert_array_equal(of_video(one, video, EDGES)[0], found[0])
    assert "top left" in model.producer["crops"] and one.producer["crops"] == "centre"


def test_embeddings_before_rounding_equal_open_clips_own_call(tiny, video):
    model = vision.ClipImages("clip-vit-b16", tiny, 10, "middle")
    images = squares(next(iter(snippets(video, EDGES, 1)))[0])
    expected = own_call(tiny, "tiny-quickgelu", images)
    np.testing.assert_allclose(model.embed([np.asarray(i) for i in images]), expected, atol=1e-4)


def test_a_snippets_mean_is_over_its_sixteen_frames(tiny, video, monkeypatch):
    model = vision.ClipImages("clip-vit-b16", tiny, 1, "mean")
    frames = [frame for picked in snippets(video, EDGES, 16) for frame in picked]
    rows = own_call(tiny, "tiny-quickgelu", [squares(frame)[0] for frame in frames])
    expected = rows.reshape(3, 16, -1).mean(axis=1)
    np.testing.assert_allclose(of_video(model, video, EDGES)[0], expected, atol=1e-4, rtol=1e-3)
    monkeypatch.setattr(vision, "BATCH", 5)  # fewer than the sixteen images of a snippet
    by_itself = [model.snippet(picked)[0] for picked in snippets(video, EDGES, 16)]
    np.testing.assert_allclose(by_itself, expected, atol=1e-4, rtol=1e-3)
    middle = of_video(vision.ClipImages("clip-vit-b16", tiny, 1, "middle"), video, EDGES)[0]
    assert np.abs(middle - expected).max() > 1e-2


def test_a_videos_rows_do_not_depend_on_the_others_in_a_batch(tiny, video, monkeypatch):
    model = vision.ClipImages("clip-vit-b16", tiny, 10, "middle")
    whole, start = of_video(model, video, EDGES), of_video(model, video, EDGES[:2])
    np.testing.assert_array_equal(whole[:, :1], start)


def test_vit_b16_itself_runs_from_a_local_checkpoint(tmp_path, video, monkeypatch):
    monkeypatch.setattr(vision, "BATCH", 2)
    weights = saved(clip.MODELS["clip-vit-b16"], tmp_path / "b16")
    found = of_video(vision.ClipImages("clip-vit-b16", weights, 1, "middle"), video, EDGES[:3])
    assert found.shape == (1, 2, 512)
    images = [squares(frame)[0] for (frame,) in snippets(video, EDGES[:3], 1)]
    expected = own_call(weights, "ViT-B-16-quickgelu", images)
    np.testing.assert_allclose(found[0], expected, atol=1e-4, rtol=1e-3)
    model = text.ClipText("clip-vit-b16", weights, weights)
    tensors = model.class_texts("ucf", UCF_CLASSES)
    np.testing.assert_array_equal(tensors["class_tokens"], parity.class_tokens())
    tower = {k.removeprefix("text_tower."): v for k, v in tensors.items() if "tower." in k}
    tower, tokens = class_text.crop_tower(tower, tensors["class_tokens"])
    jax_names = through_jax(tower, tokens)
    np.testing.assert_allclose(jax_names, tensors["class_name"], atol=1e-4)
    np.testing.assert_allclose(jax_names, model([n.lower() for n in UCF_CLASSES]), atol=1e-4)


@pytest.mark.slow
def test_vit_l14s_text_tower_runs_from_a_local_checkpoint(tmp_path):
    # half precision: a checkpoint beside a model of this size takes gigabytes
    weights = saved(clip.MODELS["clip-vit-l14"], tmp_path / "l14", "pure_fp16")
    model = text.ClipText("clip-vit-l14", weights, None)
    assert model(["a man runs", "two cars"]).shape == (2, 768) and model.width == 768


def through_jax(tower, tokens):
    """The class names without a prompt through the JAX side's tower."""
    tower, tokens = jax.tree.map(jnp.asarray, tower), jnp.asarray(tokens)
    embedded = tower["token_embedding.weight"][tokens]
    end = jnp.argmax(tokens, axis=-1)
    return class_text.text_tower(tower, embedded, end)


TEXTS = ["a man runs", "Two cars, then nothing.", "a man runs", "word " * 90 + "end", ""]


def test_texts_equal_open_clips_own_call_and_long_ones_are_cut(tiny):
    model = text.ClipText("clip-vit-b16", tiny, tiny)
    own = open_clip.create_model("tiny-quickgelu", pretrained=str(tiny / clip.FILE)).eval()
    tokens = open_clip.get_tokenizer("tiny-quickgelu")(TEXTS)
    with torch.inference_mode():
        expected = np.stack([own.encode_text(row[None])[0].numpy() for row in tokens])
    found = model(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(found[0], found[2])
    assert model.count_tokens(TEXTS[3]) == 91 and tokens[3, -1] == 49407
    np.testing.assert_allclose(found[3], model(["word " * 75])[0], atol=1e-4)
    assert model([]).shape == (0, 24)


def test_xd_prompts_are_words(tiny):
    tensors = text.ClipText("clip-vit-b16", tiny, tiny).class_texts("xd", tuple(XD_CODES.values()))
    names = ["normal", "fighting", "shooting", "riot", "abuse", "car accident", "explosion"]
    expected = open_clip.get_tokenizer("tiny-quickgelu")(names).numpy()
    np.testing.assert_array_equal(tensors["class_tokens"], expected)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda w: w.pop("ln_final.bias"), "clip-vit-b16 cannot be loaded from"),
        (lambda w: w.update(more=torch.zeros(1)), "clip-vit-b16 cannot be loaded from"),
        (lambda w: w.update(visual=None), "cannot be loaded"),
    ],
)
def test_a_checkpoint_with_other_weights_fails(tiny, tmp_path, spoil, words):
    weights = load_file(tiny / clip.FILE)
    spoil(weights)
    file = tmp_path / clip.FILE
    if None in weights.values():
        file.write_bytes(b"no tensors")
    else:
        save_file(weights, file)
    with pytest.raises(BadInput, match=words):
        clip.load("clip-vit-b16", tmp_path)


def test_a_folder_without_weights_is_told(tiny, tmp_path):
    with pytest.raises(BadInput, match="holds no open_clip_model.safetensors; --weights"):
        vision.ClipImages("clip-vit-b16", tmp_path, 1, "middle")


def test_no_hub_is_told_in_a_sentence(tiny, monkeypatch):
    def unreachable(*_):
        raise OSError("We couldn't connect to the hub.\nCheck it.")

    monkeypatch.setattr(clip, "hf_hub_download", unreachable)
    monkeypatch.setattr(clip, "_hub", lambda name: "hub/it")
    with pytest.raises(BadInput, match=r"\(We couldn't connect to the hub.\); with a connection"):
        clip.load("clip-vit-b16", None)


def test_a_store_of_clip_by_one_command(tiny, tmp_path, capsys):
    folder = tmp_path / "videos"
    (folder / "videos").mkdir(parents=True)
    rows = ["video,split,label,frames,anomaly_intervals"]
    captions = []
    for i, (split, label) in enumerate([("train", "Normal"), ("train", "Riot"), ("test", "Riot")]):
        render(folder / "videos" / f"v{i}.mp4", frames=20 + i)
        rows.append(f"v{i},{split},{label},{20 + i},{'3-9' if split == 'test' else ''}")
        words = ["people run " * 60, f"someone stands {i}"]
        captions += [{"video": f"v{i}", "snippet": s, "text": words[s]} for s in range(2)]
    (folder / "videos.csv").write_text("\n".join(rows))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(c) + "\n" for c in captions))
    command = ["--dataset", "folder", "--videos", str(folder), "--text", "clip-vit-b16"]
    command += ["--captioner", f"file:{tmp_path / 'c.jsonl'}"]
    command += ["--weights", f"clip-vit-b16={tiny}", "--out", str(tmp_path / "store")]
    assert run.main(command) == 0
    opened = store.open(tmp_path / "store")
    assert opened.visual.shape == (10 * 6, 24) and opened.caption_embedding.shape == (6, 24)
    assert [v.crops for v in opened.videos] == [10, 10, 10]
    producers = opened.info["producers"]
    assert producers["captions_cut"] == {"of": 6, "longer than the context": 3}
    assert producers["visual"]["revision"].startswith("sha256 ")
    frozen = data.frozen(opened)
    assert frozen.text_tower is not None and frozen.class_tokens.shape == (2, 77)
    names = through_jax(frozen.text_tower, frozen.class_tokens)
    np.testing.assert_allclose(names, frozen.class_name, atol=1e-4)
    assert capsys.readouterr().err == ""
