"""AnomalyRuler: rules that a language model draws from a few normal captions, and its verdict on
every caption by them.

Follow the Rules: Reasoning for Video Anomaly Detection with Large Language Models (ECCV 2024).

    induction    rules from each of 10 normal train captions, then one list of them; from that list
                 at most 20 words that speak of an anomaly
    first        "normal" or "anomaly" of every caption, by the rules
    perception   a caption holds one of the words (a substring) or none, 0/1 [n] → EMA of span 10 →
                 above its mean? → majority of 21. Where this says normal, the parts of a caption
                 with such words go; where it says anomaly, the window's most frequent word is added
    second       the model is asked again, with the caption so changed and its first verdict
    score        the EMA of span 10 of the second verdicts

In the authors' program the second question checks what the words say, not a verdict of the model's,
and a list of words made once is used for every data set. At a video's ends a window is what there
is of it. The prompts are ours, after theirs.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from featurize.answers import Answers, Scored, interpolated, unread, verdict
from featurize.lavad import texts_of
from semvad_jax.files import BadInput
from semvad_jax.store import Store

CAPTIONS = 10  # normal ones that rules are drawn from
SEED = 0  # of their choice
WORDS = 20
SPAN = 10  # snippets, of the exponential moving averages
MAJORITY = 21  # snippets
RULE_TOKENS, LIST_TOKENS, WORD_TOKENS, VERDICT_TOKENS = 256, 512, 128, 8
PROMPTS = {
    "induction": "A surveillance camera sees a scene that is normal. It is described so: "
    "{caption}\n\nGive rules for what is normal here, of people and of surroundings, and, as their "
    "contrast, rules for what would be an anomaly. Give them as two numbered lists.",
    "aggregation": "Several observers gave rules for what is normal and what is an anomaly in the "
    "same kind of scene:\n\n{rules}\n\nKeep the rules that most of them agree on and leave out the "
    "others. Give one list of rules for what is normal and one for what is an anomaly.",
    "words": "Rules:\n{rules}\n\nName at most 20 single words that a description of an anomaly by "
    "these rules would hold. Answer with the words alone, separated by commas.",
    "first": "Rules:\n{rules}\n\nDescription: {caption}\n\nBy these rules, is the description "
    "normal or an anomaly? If any part of it is an anomaly, it is one. Answer with one word, "
    "Normal or Anomaly.",
    "second": "Rules:\n{rules}\n\nDescription: {caption}\n\nA first reading called it {verdict}. "
    "Check this against the rules. Is the description normal or an anomaly? Answer with one word, "
    "Normal or Anomaly.",
}


class AnomalyRuler:
    """Scores video i of a store whose captions are texts and that has normal train videos."""

    splits = ("test",)

    def __init__(self, store: Store, answers: Answers) -> None:
        self._store, self._answers = store, answers
        self.producer: dict[str, Any] = {
            "llm": answers.producer,
            "prompts": PROMPTS,
            "rules_from": f"{CAPTIONS} captions of normal train videos, chosen by seed {SEED}",
            "words": f"at most {WORDS}, as substrings of a caption",
            "perception": f"EMA of span {SPAN}, above its mean, majority of {MAJORITY}",
            "score": f"EMA of span {SPAN} of the second verdicts",
            "new_tokens": {
                "induction": RULE_TOKENS,
                "aggregation": LIST_TOKENS,
                "words": WORD_TOKENS,
                "verdict": VERDICT_TOKENS,
            },
        }

    @property
    def made(self) -> dict[str, Any]:
        """What was induced."""
        return {"captions": self._normal, "rules": self._rules, "words": self._words}

    @cached_property
    def _normal(self) -> list[str]:
        return normal_captions(self._store)

    @cached_property
    def _rules(self) -> str:
        prompts = [PROMPTS["induction"].format(caption=caption) for caption in self._normal]
        rules = "\n\n".join(self._answers("rules", prompts, RULE_TOKENS))
        return self._answers("rules", [PROMPTS["aggregation"].format(rules=rules)], LIST_TOKENS)[0]

    @cached_property
    def _words(self) -> list[str]:
        prompt = PROMPTS["words"].format(rules=self._rules)
        return listed_words(self._answers("rules", [prompt], WORD_TOKENS)[0])

    def __call__(self, i: int) -> Scored:
        """The scores of video i; BadInput where its captions are not on file as texts."""
        texts = texts_of(self._store, i)
        first = self._verdicts(i, "first", [{"caption": text} for text in texts])
        changed = perceived(texts, self._words)
        told = np.where(interpolated(first) >= 0.5, "an anomaly", "normal")
        fields = [{"caption": c, "verdict": v} for c, v in zip(changed, told, strict=True)]
        second = self._verdicts(i, "second", fields)
        scores = moving_average(interpolated(second))
        return Scored(scores, 2 * len(texts), unread(first) + unread(second))

    def _verdicts(self, i: int, prompt: str, fields: list[dict[str, str]]) -> list[float | None]:
        prompts = [PROMPTS[prompt].format(rules=self._rules, **field) for field in fields]
        name = self._store.videos[i].video
        return [verdict(answer) for answer in self._answers(name, prompts, VERDICT_TOKENS)]


def normal_captions(store: Store) -> list[str]:
    """At most CAPTIONS captions, each of another normal train video; BadInput without any."""
    normal = store.classes[0]
    train = [i for i, v in enumerate(store.videos) if v.split == "train" and normal in v.labels]
    rng, chosen = np.random.default_rng(SEED), []
    for place in rng.permutation(len(train)):
        if texts := [text for text in store.texts(train[place]) if text]:
            chosen.append(texts[rng.integers(len(texts))])
        if len(chosen) == CAPTIONS:
            break
    if not chosen:
        raise BadInput(
            f"{store.path} has no captions of normal train videos as texts, which rules are drawn "
            "from; give a store that has them."
        )
    return chosen


def listed_words(answer: str) -> list[str]:
    """The first WORDS different words of a list, in small letters; those of one letter or two
    would be a part of too many others.
    """
    words = re.findall(r"[^\W\d_]{3,}", answer.lower())
    return list(dict.fromkeys(words))[:WORDS]


def moving_average(values: np.ndarray) -> np.ndarray:
    """The exponential moving average [n]: weights (1 − 2/(SPAN + 1))^age, which add up to 1."""
    keep, total, weight, means = 1 - 2 / (SPAN + 1), 0.0, 0.0, []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return np.array(means)


def majority(marked: np.ndarray) -> np.ndarray:
    """[n]: whether more than half of the MAJORITY snippets around each are marked."""
    half, sums = MAJORITY // 2, np.concatenate([[0], np.cumsum(marked)])
    place = np.arange(len(marked))
    first, last = np.maximum(place - half, 0), np.minimum(place + half + 1, len(marked))
    return 2 * (sums[last] - sums[first]) > last - first


def perceived(texts: Sequence[str], words: Sequence[str]) -> list[str]:
    """The captions of a video as perception smoothing changes them."""
    small = [text.lower() for text in texts]
    found = [[word for word in words if word in text] for text in small]
    average = moving_average(np.array([bool(here) for here in found], np.float64))
    smooth = majority(average > average.mean())
    half, changed = MAJORITY // 2, []
    for place, text in enumerate(texts):
        near = Counter(w for here in found[max(0, place - half) : place + half + 1] for w in here)
        if smooth[place] and near:
            text = f"{text} There is a sign of {near.most_common(1)[0][0]}."
        elif found[place] and not smooth[place]:
            parts = re.split(r"[,.]", text)
            kept = [p.strip() for p in parts if not any(w in p.lower() for w in found[place])]
            text = ". ".join(filter(None, kept))
        changed.append(text)
    return changed
