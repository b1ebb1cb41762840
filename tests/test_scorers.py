"""Training-free systems: each step against numbers worked out by hand or a slow loop, answers that
are asked once, whole runs of a small random language model, and the judgement of the scores.
"""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas
import pytest
from sklearn import metrics as sklearn_metrics

import main
from featurize import anomaly_ruler as ruler
from featurize import answers, lavad, run, similarity
from featurize.answers import Answers, interpolated, level, verdict
from featurize.request import Request
from semvad_jax import store, training_free
from semvad_jax.files import BadInput, sha256
from tests.support.command_line import refused, words
from tests.support.stores import make_store


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What is written by default is not written into the repository."""
    monkeypatch.chdir(tmp_path)


# ---- answers


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("[0.3]", 0.3),
        ("I would say [ 1.0 ], since they fight.", 1.0),
        ("0.7", 0.7),
        (" 0. ", 0.0),
        ("[0]", 0.0),
        ("[0.85]", None),  # not on the scale
        ("[2]", None),
        ("the score is 0.5 of 1", None),
        ("", None),
    ],
)
def test_a_level_is_read_in_brackets_or_alone(answer, value):
    assert level(answer) == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Anomaly", 1.0),
        ("**normal**, as rule 1 says; no anomaly", 0.0),
        ("Answer: Anomaly.", 1.0),
        ("There is no anomaly", None),
        ("abnormal", None),
        ("", None),
    ],
)
def test_a_verdict_is_the_first_word(answer, value):
    assert verdict(answer) == value


def test_what_cannot_be_read_is_interpolated():
    values = [None, 0.2, None, None, 0.8, None]
    np.testing.assert_allclose(interpolated(values), [0.2, 0.2, 0.4, 0.6, 0.8, 0.8])
    np.testing.assert_array_equal(interpolated([None, None]), [0.5, 0.5])
    assert answers.unread(values) == 4


class Scripted:
    """A language model whose answers a function tells; `asked` are the batches that it was given.

    It is interrupted at batch `stop`.
    """

    def __init__(self, answer, stop=None, name="scripted"):
        self.producer = {"model": name}
        self.asked: list[list[str]] = []
        self._answer, self._stop = answer, stop

    @property
    def prompts(self):
        return [prompt for batch in self.asked for prompt in batch]

    def generate(self, prompts, new_tokens):
        if len(self.asked) == self._stop:
            raise KeyboardInterrupt
        self.asked.append(list(prompts))
        return [self._answer(prompt) for prompt in prompts]


def test_equal_prompts_are_asked_once_and_kept_answers_never_again(tmp_path):
    prompts = [f"prompt {k % 20}" for k in range(50)]
    llm = Scripted(str.upper)
    ask = Answers(llm, tmp_path)
    assert ask("a", prompts, 5) == [p.upper() for p in prompts]
    assert [len(batch) for batch in llm.asked] == [8, 8, 4]
    assert ask("a", prompts[:9], 5) == [p.upper() for p in prompts[:9]] and len(llm.asked) == 3
    assert Answers(llm, tmp_path)("a", prompts, 5)[3] == "PROMPT 3" and len(llm.asked) == 3
    ask("b", prompts[:8], 5), ask("a", prompts[:8], 6)  # another video's; longer ones
    Answers(Scripted(str.upper, name="other"), tmp_path)("a", prompts[:8], 5)
    assert len(llm.asked) == 5
    again = Answers(llm, tmp_path, resume=False)
    again("a", prompts[:8], 5)
    again("a", prompts[8:16], 5)
    assert len(llm.asked) == 7
    assert Answers(llm, tmp_path)("a", prompts[:16], 5) and len(llm.asked) == 7


def test_answers_survive_an_interrupt_within_a_video(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "KEEP_SECONDS", -1.0)
    prompts = [f"prompt {k}" for k in range(30)]
    with pytest.raises(KeyboardInterrupt):
        Answers(Scripted(str.upper, stop=2), tmp_path)("a", prompts, 5)
    llm = Scripted(str.upper)
    assert Answers(llm, tmp_path)("a", prompts, 5) == [p.upper() for p in prompts]
    assert llm.prompts == prompts[16:]


# ---- similarity


def test_similarity_by_hand():
    rows = np.array([[3, 0], [0, 2], [1, 1], [0, 0], [-5, 0]], np.float16)
    classes = {"class_caption": np.array([[2, 0], [0, 1], [-1, 0]], np.float32)}

    class Captions:
        class_text = classes

        def caption_rows(self, i):
            return rows

    scored = similarity.Similarity(Captions())(0)  # pyright: ignore[reportArgumentType]
    # cosines: to normal 1, 0, √½, 0, −1; to the nearer of the two anomalies 0, 1, √½, 0, 1
    np.testing.assert_allclose(scored.scores, [0.25, 0.75, 0.5, 0.5, 1.0])


# ---- LAVAD


def directions(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_a_caption_is_cleaned_by_the_nearest_within_ten_seconds():
    captions = directions(0, 50, 1, 52, 2)
    middles = np.array([0.0, 5.0, 10.0, 15.0, 20.05])
    texts = ["a", "b", "c", "d", "e"]
    # to 0: 1 is 10 s away and 50° off, 2 is 10 s away and 1° off; to 4: 2 is 10.05 s away
    assert lavad.cleaned(captions, captions, middles, texts, False).tolist() == [2, 3, 0, 1, 3]
    assert lavad.cleaned(captions, captions, middles, texts, True).tolist() == [0, 1, 2, 3, 4]
    looked = directions(2, 2, 51.5, 0, 0)  # images
    assert lavad.cleaned(looked, captions, middles, texts, True).tolist() == [2, 2, 3, 2, 4]
    silent = ["a", "b", "", "d", "e"]
    assert lavad.cleaned(captions, captions, middles, silent, False).tolist() == [1, 3, 0, 1, 3]
    alone = lavad.cleaned(captions, captions, 100 * middles, texts, False)
    assert alone.tolist() == [0, 1, 2, 3, 4]


def test_a_summary_is_of_ten_captions_at_most_evenly_around_it():
    slow = lavad.windows(np.array([0.0, 5.0, 9.9, 15.0]))
    assert [w.tolist() for w in slow] == [[0, 1], [0, 1, 2], [1, 2], [3]]
    quick = lavad.windows(np.arange(100) / 8)  # ± 5 s are 40 snippets before and after
    assert all(len(w) == 10 for w in quick)
    assert quick[0].tolist() == [0, 4, 9, 13, 18, 22, 27, 31, 36, 40]
    assert quick[99][0] == 59 and quick[99][-1] == 99


def test_refinement_by_hand(monkeypatch):
    monkeypatch.setattr(lavad, "NEIGHBOURS", 2)
    captions = directions(0, 60, 90)
    scores = np.array([1.0, 0.0, 0.5])
    # of 0°: cosines 1, ½, 0; of 90°: 0, √¾, 1
    one = np.e / (np.e + np.exp(0.5))
    other = 0.5 * np.e / (np.e + np.exp(0.75**0.5))
    for block in (1, 256):
        monkeypatch.setattr(lavad, "BLOCK", block)
        got = lavad.refined(scores, directions(0, 90, 0), captions)
        np.testing.assert_allclose(got, [one, other, one], rtol=1e-12)


def slow_lavad(features, i, summary_of, score_of):
    """LAVAD of one video, snippet by snippet."""
    texts, rows = features.texts(i), features.caption_rows(i).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    edges = features.videos[i].second_edges
    middles, n = (edges[:-1] + edges[1:]) / 2, len(texts)
    best = []
    for a in range(n):
        others = [b for b in range(n) if b != a and abs(middles[a] - middles[b]) <= 10]
        best.append(max(others, key=lambda b: rows[a] @ rows[b]))
    raw = []
    for a in range(n):
        near = [b for b in range(n) if abs(middles[a] - middles[b]) <= 5]
        near = [near[round(k)] for k in np.linspace(0, len(near) - 1, min(10, len(near)))]
        raw.append(score_of(summary_of([texts[best[b]] for b in near])))
    refined = []
    for a in range(n):
        cosines = np.array([rows[a] @ rows[best[b]] for b in range(n)])
        top = sorted(range(n), key=lambda b: (-cosines[b], b))[:10]
        weights = np.exp(cosines[top])
        refined.append(weights @ np.array(raw)[top] / weights.sum())
    return refined


def test_lavad_whole(tmp_path):
    features = make_store(tmp_path / "store", train=2, test=4, lengths=(40, 5))

    def answer(prompt):
        if prompt.startswith("These captions"):
            said = prompt.partition("\n\n")[2].split("\n")
            return f"{len(said)} captions, first: {said[0]}"
        place = int(prompt.rpartition("caption ")[2].split()[0])
        return f"[{place % 11 / 10}]"

    llm = Scripted(answer)
    scorer = lavad.Lavad(features, Answers(llm, tmp_path / "work"))
    assert scorer.producer["nearest"] == "caption to caption" and scorer.splits == ("test",)
    for i in (2, 4):
        expected = slow_lavad(
            features,
            i,
            lambda said: f"{len(said)} captions, first: {said[0]}",
            lambda summary: int(summary.partition("caption ")[2].split()[0]) % 11 / 10,
        )
        scored = scorer(i)
        np.testing.assert_allclose(scored.scores, expected, rtol=1e-9)
        assert scored.asked == len(features.texts(i)) and scored.unread == 0
    assert np.ptp(scorer(4).scores) > 0.01


def test_images_clean_captions_where_one_clip_embedded_both(tmp_path):
    clip = {"model": "clip-vit-b16 (open_clip)", "revision": "x", "pool": "mean"}
    features = make_store(tmp_path / "store", train=2, test=2, widths=(10, 10), crops=2)
    for producers, expected in (
        ({"visual": clip, "text": clip | {"context": "77"}}, True),
        ({"visual": clip, "text": clip | {"model": "clip-vit-l14"}}, False),
        ({"visual": clip, "text": clip | {"revision": "y"}}, False),
        ({"visual": {"model": "minilm", "revision": "x"}} | {"text": {"model": "minilm"}}, False),
        ({"vision": "synthetic"}, False),
    ):
        features.info["producers"] = producers
        assert lavad.by_image(features) is expected
    features.info["producers"] = {"visual": clip, "text": clip}
    scorer = lavad.Lavad(features, Answers(Scripted(lambda p: "[0.5]"), tmp_path / "work"))
    assert scorer.producer["nearest"] == "image to caption"
    rows = [features.visual_rows(2, crop).astype(np.float64) for crop in (0, 1)]
    rows = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows]
    mean = (rows[0] + rows[1]) / 2
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(scorer._images(2), expected, rtol=1e-12)
    np.testing.assert_allclose(scorer(2).scores, 0.5)


# ---- AnomalyRuler


def test_the_moving_average_is_that_of_pandas():
    values = np.random.default_rng(0).random(40)
    expected = pandas.Series(values).ewm(span=10, adjust=True).mean()
    np.testing.assert_allclose(ruler.moving_average(values), expected, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 8, 21, 60])
def test_the_majority_of_the_snippets_around(n):
    marked = np.random.default_rng(n).random(n) < 0.5
    slow = [2 * sum(part := marked[max(0, k - 10) : k + 11].tolist()) > len(part) for k in range(n)]
    assert ruler.majority(marked).tolist() == slow


def test_words_of_an_answer():
    answer = "Running, Fight-ing; a knife.\n2. running " + " ".join(
        f"word{'x' * k}" for k in range(30)
    )
    found = ruler.listed_words(answer)
    assert found[:5] == ["running", "fight", "ing", "knife", "word"] and len(found) == 20


def test_perception_smoothing(monkeypatch):
    monkeypatch.setattr(ruler, "MAJORITY", 3)
    texts = ["Two men Fight, a car waits.", *["people walk"] * 4]
    texts += ["they fight. a knife", "people stand", "a knife, they fight", "they fight", "a dog"]
    # hits 1 0 0 0 0 1 0 1 1 0
    average = ruler.moving_average(np.array([1, 0, 0, 0, 0, 1, 0, 1, 1, 0.0]))
    above = average > average.mean()
    assert above.tolist() == [True, True, False, False, False, False, False, True, True, True]
    changed = ruler.perceived(texts, ["fight", "knife"])
    # majorities of three (two at the ends): 1 1 0 0 0 0 0 1 1 1
    assert changed[0] == "Two men Fight, a car waits. There is a sign of fight."
    assert changed[1] == "people walk There is a sign of fight."
    assert changed[2:5] == texts[2:5] and changed[6] == texts[6]
    assert changed[5] == ""  # all that it said was a sign, and smoothing calls it normal
    assert changed[7] == "a knife, they fight There is a sign of fight."
    assert changed[9] == "a dog There is a sign of fight."
    assert ruler.perceived(texts, []) == texts
    kept = ruler.perceived(["a car, they fight", *["x"] * 8, "fight", "fight", "fight"], ["fight"])
    assert kept[0] == "a car, they fight There is a sign of fight." or kept[0] == "a car"


def test_anomaly_ruler_whole(tmp_path):
    features = make_store(tmp_path / "store", train=30, test=4, lengths=(30, 12))

    def answer(prompt):
        if prompt.startswith("A surveillance camera"):
            return "RULE from " + prompt.partition("described so: ")[2].partition("\n")[0]
        if prompt.startswith("Several"):
            return "ALL RULES"
        if "single words" in prompt:
            return "knife, gun"
        text = prompt.partition("Description: ")[2].partition("\n")[0]
        if "A first reading" in prompt:
            return (
                "Anomaly" if "caption 3 " in text or "called it an anomaly" in prompt else "Normal"
            )
        return "Anomaly" if "caption 5 " in text else "well"

    llm = Scripted(answer)
    scorer = ruler.AnomalyRuler(features, Answers(llm, tmp_path / "work"))
    scored = scorer(30)
    normal = {t for i, v in enumerate(features.videos) for t in features.texts(i)
              if v.split == "train" and v.labels == ("Normal",)}  # fmt: skip
    made = scorer.made
    assert len(made["captions"]) == len(set(made["captions"])) == 10
    assert set(made["captions"]) <= normal and len({c.split()[-1] for c in made["captions"]}) == 10
    assert made["rules"] == "ALL RULES" and made["words"] == ["knife", "gun"]
    aggregated = next(p for p in llm.prompts if p.startswith("Several"))
    assert all(f"RULE from {caption}" in aggregated for caption in made["captions"])
    # one first verdict can be read, "anomaly", so that interpolation makes all of them so
    n = features.videos[30].snippets
    assert scored.asked == 2 * n and scored.unread == n - 1
    np.testing.assert_allclose(scored.scores, np.ones(n))
    assert sum("A first reading called it an anomaly" in p for p in llm.prompts) == n

    llm = Scripted(lambda p: answer(p) if "caption 5 " in p or "first reading" in p or
                   not p.startswith("Rules") or "single" in p else "Normal")  # fmt: skip
    scored = ruler.AnomalyRuler(features, Answers(llm, tmp_path / "again"))(30)
    second = np.isin(np.arange(n), (3, 5)).astype(float)
    np.testing.assert_allclose(
        scored.scores, pandas.Series(second).ewm(span=10, adjust=True).mean(), rtol=1e-12
    )
    assert scored.unread == 0


def test_rules_need_normal_captions(tmp_path):
    features = make_store(tmp_path / "store", train=2, test=2)
    (tmp_path / "store/captions.jsonl").write_text(
        json.dumps({"video": "video_003", "snippet": 0, "text": "a fight"}) + "\n"
    )
    ask = Answers(Scripted(str.upper), tmp_path / "work")
    with pytest.raises(BadInput, match="no captions of normal train videos"):
        ruler.AnomalyRuler(features, ask)(3)
    with pytest.raises(BadInput, match="no captions of video_002 as texts"):
        lavad.Lavad(features, ask)(2)


# ---- a language model on disk


@pytest.fixture(scope="module")
def tiny_llm():
    for package in ("torch", "transformers"):
        pytest.importorskip(package, reason="needs the extra featurize")
    from tests.support import tiny_llm

    return tiny_llm


@pytest.fixture(scope="module")
def folder(tiny_llm, tmp_path_factory) -> Path:
    return tiny_llm.write(tmp_path_factory.mktemp("llm") / "tiny")


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("chat", [True, False])
def test_answers_are_the_models_own_greedy_ones(tiny_llm, tmp_path, kind, chat):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from featurize.llm import LocalLLM

    place = tiny_llm.write(tmp_path / kind, kind, chat=tiny_llm.CHAT if chat else None)
    prompts = ["a man walks", "two men fight over a bag in front of a shop", "a man walks"]
    got = LocalLLM(place).generate(prompts, 12)
    tokens, model = (c.from_pretrained(place) for c in (AutoTokenizer, AutoModelForCausalLM))
    expected = []
    for prompt in prompts:
        if chat:
            prompt = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        ids, new = tokens(prompt, return_tensors="pt")["input_ids"], []
        with torch.inference_mode():
            while len(new) < 12:
                new.append(int(model(torch.cat([ids, torch.tensor([new], dtype=torch.long)], 1))
                               .logits[0, -1].argmax()))  # fmt: skip
                if new[-1] == tokens.eos_token_id:
                    break
        expected.append(tokens.decode(new, skip_special_tokens=True).strip())
    assert got == expected and got[0] == got[2] != got[1]


def test_the_record_tells_models_and_templates_apart(tiny_llm, tmp_path, folder):
    from featurize.llm import LocalLLM

    one = LocalLLM(folder).producer
    assert one["model"] == "tiny" and one["revision"].startswith("folder, sha256 ")
    other = shutil.copytree(folder, tmp_path / "tiny")
    assert LocalLLM(other).producer == one
    (other / "chat_template.jinja").write_text(tiny_llm.CHAT.replace("assistant", "model"))
    assert LocalLLM(other).producer["chat_template"] != one["chat_template"]
    tiny_llm.write(tmp_path / "b" / "tiny", spread=0.3)
    assert LocalLLM(tmp_path / "b" / "tiny").producer["revision"] != one["revision"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{}"), "is no causal language model"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "is no causal language model",
        ),
        (
            lambda f: (f / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"lm_head.weight": "pytorch_model.bin"}})
            ),
            "reads safetensors of its own folder alone",
        ),
        (lambda f: (f / "tokenizer.json").write_text("{"), "is no causal language model"),
    ],
)
def test_folders_that_are_no_language_model(folder, tmp_path, spoil, told):
    from featurize.llm import LocalLLM

    place = shutil.copytree(folder, tmp_path / "spoilt")
    spoil(place)
    with pytest.raises(BadInput, match=told):
        LocalLLM(place).generate(["x"], 2)


def test_no_code_of_a_checkpoint_is_run_and_every_weight_must_fit(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    from featurize.llm import LocalLLM

    place = shutil.copytree(folder, tmp_path / "own")
    config = json.loads((place / "config.json").read_text())
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\nclass M: pass\n"
    (place / "own.py").write_text(code)
    own = {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"},
    }
    (place / "config.json").write_text(json.dumps(config | own))
    with pytest.raises(BadInput, match="is no causal language model"):
        LocalLLM(place).generate(["x"], 2)
    assert not (tmp_path / "ran").exists()
    (place / "config.json").write_text(json.dumps(config))
    weights = load_file(place / "model.safetensors")
    gone = weights.pop("model.layers.1.mlp.up_proj.weight")
    assert gone.numel()
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match="1 missing .model.layers.1.mlp.up_proj.weight"):
        LocalLLM(place).generate(["x"], 2)


# ---- the stage, whole


def small(tmp_path):
    return make_store(tmp_path / "store", train=6, test=4, lengths=(5, 12))


def stage(tmp_path, scorer, *more):
    flags = ["--dataset", "folder", "--out", str(tmp_path / "store"), "--stages", "scores"]
    return run.main([*flags, "--scorer", scorer, *map(str, more)])


def read(tmp_path, scorer):
    path = tmp_path / f"store/scores_{scorer}.npy"
    return np.load(path), json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("scorer", ["lavad", "anomaly_ruler"])
def test_a_small_random_language_model_scores_a_store(
    folder, tmp_path, scorer, monkeypatch, capsys
):
    from featurize.llm import LocalLLM

    monkeypatch.setattr(lavad, "SUMMARY_TOKENS", 12)
    for name in ("RULE_TOKENS", "LIST_TOKENS", "WORD_TOKENS"):
        monkeypatch.setattr(ruler, name, 12)
    features = small(tmp_path)
    monkeypatch.setattr(answers, "KEEP_SECONDS", -1.0)
    generate, batches = LocalLLM.generate, []

    def counted(self, prompts, new_tokens):
        if len(batches) == stop:
            raise KeyboardInterrupt
        batches.append(prompts)
        return generate(self, prompts, new_tokens)

    monkeypatch.setattr(LocalLLM, "generate", counted)
    weights, stop = ("--weights", f"llm={folder}"), 5
    assert stage(tmp_path, scorer, *weights) == 130
    assert not list((tmp_path / "store").glob("scores_*"))
    stop = None
    leftover = tmp_path / f"store/scores_{scorer}.npy.0.partial"  # of a call that was killed
    leftover.touch()
    assert stage(tmp_path, scorer, *weights) == 0 and not leftover.exists()
    assert ("nearest by caption to caption" in words(capsys)) == (scorer == "lavad")
    asked = [prompt for batch in batches for prompt in batch]
    scores, made = read(tmp_path, scorer)
    of_one_video = [tuple(batch) for batch in batches]
    assert len(of_one_video) == len(set(of_one_video)) and len(asked) > 20
    done = len(batches)
    assert stage(tmp_path, scorer, *weights) == 0 and len(batches) == done
    np.testing.assert_array_equal(read(tmp_path, scorer)[0], scores)

    test = np.repeat(
        [v.split == "test" for v in features.videos], [v.snippets for v in features.videos]
    )
    assert scores.dtype == np.float32 and scores.shape == test.shape == (made["snippets"],)
    assert np.isnan(scores[~test]).all() and np.isfinite(scores[test]).all()
    np.testing.assert_array_equal(scores[test], 0.5)  # noise says nothing that can be read
    times = 1 if scorer == "lavad" else 2
    assert made["answers"]["asked"] == made["answers"]["not read"] == times * test.sum()
    assert made["answers"]["videos without one that was read"] == 4 and made["scored"] == ["test"]
    assert made["producer"]["llm"]["model"] == "tiny"
    assert made["producer"]["prompts"] == (lavad if scorer == "lavad" else ruler).PROMPTS
    assert made["store_sha256"] == features.info["sha256"]
    assert made["sha256"] == sha256(tmp_path / f"store/scores_{scorer}.npy")
    assert (scorer == "lavad") == (made["made"] == {})
    main.main(["--scorer", scorer, "--data", str(tmp_path / "store")])
    assert f"{times * test.sum()} of {times * test.sum()} answers could not be read" in words(
        capsys
    )


@pytest.mark.parametrize("scorer", ["lavad", "anomaly_ruler"])
def test_shards_ask_and_one_call_for_the_rest_writes(folder, tmp_path, scorer, monkeypatch, capsys):
    from featurize.llm import LocalLLM

    features = make_store(tmp_path / "store", train=2, test=6, lengths=(5, 8))
    videos, asked = {v.video for v in features.videos if v.split == "test"}, []

    def generate(self, prompts, new_tokens):
        asked.extend(prompts)
        drawn = [zlib.crc32(prompt.encode()) % 10 for prompt in prompts]
        return [f"[0.{k}]" if scorer == "lavad" else ("Normal", "Anomaly")[k % 2] for k in drawn]

    monkeypatch.setattr(LocalLLM, "generate", generate)
    weights = ("--weights", f"llm={folder}")
    shares = [{v for v in videos if Request.of("folder", shard=(k, 2)).shares(v)} for k in (0, 1)]
    assert all(shares) and shares[0] | shares[1] == videos and not shares[0] & shares[1]
    counts = []
    for k in (0, 1):
        assert stage(tmp_path, scorer, *weights, "--shard", f"{k}/2") == 0
        assert f"answers on {len(shares[k])} of 6 videos" in words(capsys)
        assert not list((tmp_path / "store").glob("scores_*"))
        counts.append(len(asked))
    assert 0 < counts[0] < counts[1]
    assert stage(tmp_path, scorer, *weights) == 0 and len(asked) == counts[1]
    in_shares, _ = read(tmp_path, scorer)
    assert stage(tmp_path, scorer, *weights, "--no-resume") == 0 and len(asked) > counts[1]
    np.testing.assert_array_equal(read(tmp_path, scorer)[0], in_shares)
    assert np.ptp(in_shares[np.isfinite(in_shares)]) > 0


def test_videollama3_is_asked_for_a_score(tiny_llm, tmp_path, monkeypatch):
    pytest.importorskip("av", reason="needs the extra featurize (PyAV)")
    from featurize import captions, vlm
    from tests.support import tiny_videollama3
    from tests.test_videos import render

    monkeypatch.setattr(captions, "NEW_TOKENS", 6)
    videos = tmp_path / "videos"
    (videos / "videos").mkdir(parents=True)
    for name in ("a", "b"):
        render(videos / "videos" / f"{name}.mp4", frames=70)
    (videos / "videos.csv").write_text(
        "video,split,label,frames,anomaly_intervals\na,test,Normal,,\nb,test,Fighting,,10-40\n"
    )
    with store.Writer(
        tmp_path / "store", dataset="folder", classes=("Normal", "Fighting"), producers={}
    ) as writer:
        for name, label, spans in (("a", "Normal", ()), ("b", "Fighting", (("Fighting", 10, 40),))):
            video = store.Video(
                name, "test", (label,), 70, 10.0, 3, None, intervals=spans, edges=(0, 20, 50, 70)
            )
            writer.add(video, np.zeros((1, 3, 4), np.float16), np.zeros((3, 4), np.float16))
        texts = {n: np.zeros((2, 4), np.float32) for n in ("class_caption", "class_name")}
        writer.finish(texts, {"Normal": [], "Fighting": []})
    model = tiny_videollama3.write_native(tmp_path / "vlm", tiny_videollama3.model())
    said = iter([f"[0.{k}]" if k != 2 else "?" for k in range(5)] * 2)
    texts_of, calls = captions.VideoLlama3._texts, []

    def told(self, tokens):
        calls.append(len(tokens))
        real = texts_of(self, tokens)
        return [next(said) for _ in real]

    monkeypatch.setattr(captions.VideoLlama3, "_texts", told)
    more = ("--videos", videos, "--weights", f"videollama3-2b={model}")
    shares = [sum(Request.of("folder", shard=(k, 2)).shares(v) for v in "ab") for k in (0, 1)]
    for k in (0, 1):
        assert stage(tmp_path, "vlm", *more, "--shard", f"{k}/2") == 0
        assert (
            len(calls) == sum(shares[: k + 1]) and not (tmp_path / "store/scores_vlm.npy").exists()
        )
    assert stage(tmp_path, "vlm", *more) == 0
    scores, made = read(tmp_path, "vlm")
    # rows of frames 0–20, 20–50, 50–70: middles 10, 35, 60 in snippets 0, 2, 3; 2 is interpolated
    np.testing.assert_allclose(scores, [0.0, 0.2, 0.3] * 2)
    assert made["answers"] == {"asked": 10, "not read": 2, "videos without one that was read": 0}
    assert made["producer"]["prompts"] == vlm.PROMPTS and "Holmes-VAD" in made["producer"]["kind"]
    assert made["producer"]["model"] == "DAMO-NLP-SG/VideoLLaMA3-2B"
    assert stage(tmp_path, "vlm", *more) == 0 and calls == [5, 5]
    (videos / "videos/b.mp4").unlink()
    assert stage(tmp_path, "vlm", *more) == 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--stages", "scores"], "--stages scores and --scorer similarity or lavad"),
        (["--scorer", "similarity"], "go together"),
        (["--stages", "scores", "--scorer", "lavad"], "needs --weights llm=DIR"),
        (["--stages", "scores", "--scorer", "similarity", "--dry-run"], "leave it out"),
        (["--stages", "scores", "--scorer", "similarity", "--shard", "0/2"], "leave out --shard"),
        (["--stages", "scores", "--scorer", "similarity"], "is not a feature store"),
    ],
)
def test_the_stage_refuses(tmp_path, capsys, flags, told):
    assert run.main(["--dataset", "ucf", "--out", str(tmp_path / "no"), *flags]) == 2
    message = capsys.readouterr().err
    assert told in message and message.count("\n") == 1
    with pytest.raises(BadInput, match="--scorer x is not known"):
        Request.of("ucf", scorer="x", stages=("scores",))


# ---- the judgement


@pytest.fixture
def scored(tmp_path, capsys):
    make_store(tmp_path / "store", train=6, test=12, lengths=(5, 12, 9))
    assert stage(tmp_path, "similarity") == 0
    capsys.readouterr()
    return tmp_path


def by_frames(features, rows, draw):
    """Scores, truth and whether the video is anomalous, of every frame of the drawn videos."""
    starts = np.cumsum([0, *(v.snippets for v in features.videos)])
    test = [i for i, v in enumerate(features.videos) if v.split == "test"]
    scores, truth, inside = [], [], []
    for i, times in zip(test, draw, strict=True):
        video, marked = features.videos[i], np.zeros(features.videos[i].frames, bool)
        for _, start, end in video.intervals:
            marked[start:end] = True
        lengths = np.diff(video.frame_edges)
        scores += [np.repeat(rows[starts[i] : starts[i + 1]], lengths)] * times
        truth += [marked] * times
        inside += [np.full(len(marked), marked.any())] * times
    return (np.concatenate(x) for x in (scores, truth, inside))


def slow_metrics(features, rows, draw):
    scores, truth, inside = by_frames(features, rows, draw)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(truth, scores)
    return {
        "auc": sklearn_metrics.roc_auc_score(truth, scores),
        "ap": sklearn_metrics.average_precision_score(truth, scores),
        "ap_trapezoid": sklearn_metrics.auc(recall, precision),
        "auc_abnormal": sklearn_metrics.roc_auc_score(truth[inside], scores[inside]),
    }


def test_the_figures_are_those_of_sklearn_on_repeated_frames(scored, monkeypatch, capsys):
    monkeypatch.setattr(training_free, "VIDEO_RESAMPLES", 15)
    features, rows = store.open(scored / "store"), read(scored, "similarity")[0]
    argv = ["--scorer", "similarity", "--data", str(scored / "store"), "--out", str(scored / "out")]
    main.main(argv)
    told = words(capsys)
    assert "12 test videos" in told and "by similarity, without a language model" in told
    written = json.loads((scored / "out/scorer.json").read_text())
    expected = slow_metrics(features, rows, [1] * 12)
    anomalous = np.array([bool(v.intervals) for v in features.videos if v.split == "test"])
    draws = training_free.statistics.resample_videos(anomalous, 15)
    again = [slow_metrics(features, rows, draw) for draw in draws]
    assert len(written["metrics"]) == 4
    for metric, value in expected.items():
        found = written["metrics"][f"last/binary/{metric}"]
        assert found["value"] == pytest.approx(value, abs=1e-9)
        ends = np.quantile([values[metric] for values in again], [0.025, 0.975])
        np.testing.assert_allclose(found["interval"], ends, atol=1e-9)
        assert f"{100 * value:.2f} {100 * ends[0]:.2f} to {100 * ends[1]:.2f}" in told
    assert expected["auc"] != expected["auc_abnormal"]


def test_results_finds_what_was_judged(scored, capsys):
    main.main(["--scorer", "similarity", "--data", "store"])
    told = words(capsys)
    assert "see runs/scorers/store-similarity/scorer.json" in told
    auc = told.partition("AUC ")[2].split()[0]
    main.main(["--results", "runs"])
    shown = capsys.readouterr().out
    assert "```\npython main.py --scorer similarity --data store\n```" in shown
    row = "| similarity | similarity, without a language model | "
    assert f"{row}{auc} (" in shown and "**store = `store`**: 12 test videos; " in shown
    assert "here: data set synthetic, " in shown and shown.count("*not run* |") == 3


def change(place, rows=None, **fields):
    """Other scores or other fields, with the checksum of what is there."""
    path = place / "store/scores_similarity.npy"
    if rows is not None:
        np.save(path, rows)
    made = json.loads(path.with_suffix(".json").read_text()) | {"sha256": sha256(path)} | fields
    path.with_suffix(".json").write_text(json.dumps(made))


def with_nan(rows, place):
    rows = rows.copy()
    rows[place] = np.nan
    return rows


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda s, r: (s / "store/scores_similarity.npy").unlink(), "npy is missing; make it with"),
        (lambda s, r: (s / "store/scores_similarity.json").unlink(), "json is missing; make it"),
        (lambda s, r: change(s, r[:-1]), "not float32 [156]"),
        (lambda s, r: change(s, r.astype(np.float64)), "is float64 [156], not float32"),
        (lambda s, r: change(s, with_nan(r, 0)), "a score of video_000 that is not finite"),
        (lambda s, r: change(s, with_nan(r, -1)), "a score of video_017 that is not finite"),
        (lambda s, r: change(s, with_nan(r, -1), scored=["test"]), "video_017 that is not finite"),
        (lambda s, r: change(s, scored=["train"]), "has no scores of test videos"),
        (lambda s, r: change(s, store_sha256={}), "was made from another store"),
        (lambda s, r: change(s, sha256="0"), "differs from its checksum"),
        (lambda s, r: change(s, scorer="lavad"), "holds scores of lavad"),
        (lambda s, r: change(s, scored=1), "does not describe a scorer's scores"),
        (
            lambda s, r: (np.save(s / "store/scores_similarity.npy", np.array([{}])), change(s)),
            "is not an array of plain numbers",
        ),
    ],
)
def test_other_files_are_refused(scored, capsys, spoil, told):
    spoil(scored, read(scored, "similarity")[0])
    message = refused(capsys, ["--scorer", "similarity", "--data", scored / "store"])
    assert told in message


def test_rows_that_were_not_scored_may_be_no_numbers(scored, capsys):
    change(scored, with_nan(read(scored, "similarity")[0], 0), scored=["test"])
    main.main(["--scorer", "similarity", "--data", str(scored / "store")])
    assert "AUC" in words(capsys)


def test_scores_of_another_store_are_refused(scored, capsys):
    make_store(scored / "other", train=6, test=12, lengths=(5, 12, 9), seed=1)
    for path in (scored / "store").glob("scores_*"):
        shutil.copy(path, scored / "other")
    message = refused(capsys, ["--scorer", "similarity", "--data", scored / "other"])
    assert "was made from another store" in message and "caption_embedding.npy" in message
    message = refused(capsys, ["--scorer", "../store", "--data", scored / "other"])
    assert "is no name of a scorer" in message


@pytest.mark.parametrize("more", [[], ["--data", "a", "--vmap-seeds", "2"], ["--data", "a", "b"]])
def test_a_scorer_takes_a_store_and_a_place_alone(more, capsys):
    with pytest.raises(SystemExit) as ended:
        main.arguments(["--scorer", "similarity", *more])
    assert ended.value.code == 2 and "--data" in capsys.readouterr().err
