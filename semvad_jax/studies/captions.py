"""Do captions say what people say of the same moment? Table 4 of the paper, made readable.

The paper gives the mean cosine of captions with human sentences alone. Here it stands beside that
of other moments and other videos, see cosines.py. Text encoders are handed in by main.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.console import Console

from semvad_jax.files import BadInput, json_text, read_json, write
from semvad_jax.report.tables import plain_console, table
from semvad_jax.store.locate import open_store
from semvad_jax.studies.cosines import Comparison, Encoder, measure, unit
from semvad_jax.studies.sentences import described, read_sentences
from semvad_jax.studies.study import labelled

SENTENCES = "sentences"  # the label of --data that names no store
HEADING = (
    "Mean cosine of human sentences with captions of the same moment and with those of another: a "
    "video's sentences averaged first, then the videos. ± t: a 95 % interval over videos. nearer: "
    "how often a caption of the own moment is nearer than one of the other, drawn from each; a tie "
    "counts half, and chance is 50 %."
)
COUNTED = {  # what is told of the sentences that were repaired or left out
    "reversed": "had start and end the wrong way round and were put in order",
    "cut": "reached past the video and were cut there",
    "left_out": "were left out: no whole frame, no words, or no caption at their moment",
    "whole_video": "share frames with every caption of their video and have no other moment",
}


@dataclass(frozen=True)
class CaptionMatch:
    """The study; `pairs` is a file {"source": note, "pairs": [{"caption", "human", "paper"}, …]}.

    `paper` is the mean cosine that the paper prints. It is of other captions, by another encoder,
    and without a baseline: nothing follows from its distance to ours.
    """

    title: str
    pairs: Path
    paper: float
    data: Mapping[str, str] = field(default_factory=lambda: {"demo": "demo"})  # label → store
    sentences: str = "demo/sentences.json"


@dataclass(frozen=True)
class Pair:
    """A caption and a human sentence that the paper compares, and the cosine that it prints."""

    caption: str
    human: str
    paper: float


@dataclass(frozen=True)
class PairsFile:
    """What a file of pairs holds; its "source" is a note for people."""

    pairs: list[Pair]


@dataclass(frozen=True)
class ComparedPair(Pair):
    """A pair with our cosine of it, by encoder."""

    cosine: dict[str, float]


@dataclass(frozen=True)
class Compared:
    """What was found of one store: `encoders` is [encoder][all | of the anomaly][ANOTHER]."""

    data: str  # its label
    store: str
    counts: dict[str, int]
    encoders: dict[str, dict[str, dict[str, Comparison | None]]]


@dataclass(frozen=True)
class Result:
    """study.json; cosines and shares as fractions."""

    study: str
    title: str
    paper: float
    pairs: list[ComparedPair]
    sentences: str  # where they were read
    rows: list[Compared]


def run(
    study: CaptionMatch, name: str, data: Sequence[str], encoders: Mapping[str, Encoder]
) -> Result:
    """Measures every store with every encoder.

    Args:
        name: the study's.
        data: --data's LABEL=STORE … and sentences=FILE|DIR; none for the study's own.
        encoders: (texts) -> embeddings [n, Q] of any length, by name.

    Raises BadInput: see `read_pairs` and sentences.py; and for stores without sentences or the
    other way round.
    """
    stores = labelled(data) or {**study.data, SENTENCES: study.sentences}
    path = stores.pop(SENTENCES, None)
    if path is None or not stores:
        raise BadInput(
            f"--data {' '.join(data)}: give LABEL=STORE, for captions, and {SENTENCES}=FILE|DIR, "
            "for what people wrote of the same videos"
        )
    pairs, written = read_pairs(study.pairs), read_sentences(Path(path))
    by_label = {label: described(open_store(store), written) for label, store in stores.items()}
    compared_pairs = _compared_pairs(pairs, encoders)
    console, compared = plain_console(), []
    for label, (videos, counts) in by_label.items():
        by_encoder = {}
        for encoder, encode in encoders.items():
            console.print(f"{label}: {encoder} embeds captions and sentences")
            by_encoder[encoder] = measure(videos, encode)
        compared.append(Compared(label, stores[label], counts, by_encoder))
    return Result(name, study.title, study.paper, compared_pairs, path, compared)


def read_pairs(path: Path) -> list[Pair]:
    """The paper's pairs. Raises BadInput for another form."""
    refusal = (
        'is no JSON of "source" and "pairs", a list of {"caption", "human", "paper"}; correct it'
    )
    return read_json(path, PairsFile, refusal).pairs


def read_result(path: Path) -> Result:
    """A study.json as `tell` writes it; raises BadInput for another form."""
    return read_json(path, Result, "is no result of a study; run --study again to make it")


def _compared_pairs(pairs: Sequence[Pair], encoders: Mapping[str, Encoder]) -> list[ComparedPair]:
    """The paper's pairs with their cosine by every encoder."""
    if not pairs:
        return []
    texts = [pair.caption for pair in pairs] + [pair.human for pair in pairs]
    cosines: dict[str, list[float]] = {}
    for name, encode in encoders.items():
        captions, sentences = np.split(unit(encode(texts)), 2)
        cosines[name] = (captions * sentences).sum(axis=1).tolist()
    return [
        ComparedPair(
            pair.caption, pair.human, pair.paper, {name: cosines[name][k] for name in cosines}
        )
        for k, pair in enumerate(pairs)
    ]


def tell(study: CaptionMatch, result: Result, home: Path) -> None:
    """Prints the study and writes HOME/study.json."""
    home.mkdir(parents=True, exist_ok=True)
    write(home / "study.json", json_text(asdict(result)))
    console = plain_console()
    console.print(f"\n{study.title}\n{HEADING}")
    _print_pairs(console, study, result)
    for row in result.rows:
        console.print(f"\n{row.data} = {row.store}; sentences: {result.sentences}")
        console.print(counted(row.counts))
        for encoder, compared in row.encoders.items():
            _print_compared(console, study, encoder, compared)
    console.print(
        "* The paper's figure is of other captions, by another encoder, and has no baseline: "
        "nothing follows from its distance to ours."
    )
    console.print(f"The numbers: {home / 'study.json'}")


def _print_pairs(console: Console, study: CaptionMatch, result: Result) -> None:
    if not result.pairs:
        return  # a result from before the pairs were there
    console.print("\nThe paper's own caption pairs (A.2, A.3), cosine by encoder")
    pairs = table("caption, human sentence", *result.pairs[0].cosine, "the paper", fold=True)
    for pair in result.pairs:
        ours = [f"{cosine:.3f}" for cosine in pair.cosine.values()]
        pairs.add_row(f"{pair.caption}\n{pair.human}", *ours, f"{pair.paper:g}")
    means = [f"{fmean(p.cosine[e] for p in result.pairs):.3f}" for e in result.pairs[0].cosine]
    printed = fmean(pair.paper for pair in result.pairs)
    pairs.add_row(f"mean of these {len(result.pairs)}", *means, f"{printed:.2f}")
    pairs.add_row("mean of 26 videos", *["–"] * len(means), f"{study.paper:.2f}")
    console.print(pairs)


def counted(counts: Mapping[str, int]) -> str:
    """How many videos and sentences were compared, and what was repaired or left out."""
    parts = [
        f"{counts['videos']} of {counts['test_videos']} test videos have captions and sentences, "
        f"{counts['sentences']} of them"
    ]
    parts += [f"{counts[key]} {words}" for key, words in COUNTED.items() if counts[key]]
    if counts["other_duration"]:
        parts += [f"videos whose duration there is more than 5 % off: {counts['other_duration']}"]
    return "; ".join(parts) + "."


def _print_compared(
    console: Console,
    study: CaptionMatch,
    encoder: str,
    compared: Mapping[str, Mapping[str, Comparison | None]],
) -> None:
    columns = ("same", "other", "difference ± t", "nearer, %", "videos", "sentences")
    rows = table("same moment against", *columns, fold=True)
    for group, comparisons in compared.items():
        for another, comparison in comparisons.items():
            label = another if group == "all" else f"{another},\n{group}"
            rows.add_row(label, *cells(comparison))
    rows.add_row("the paper", f"{study.paper:.2f}*", *["–"] * (len(columns) - 1))
    console.print(f"\n{encoder}")
    console.print(rows)


def cells(comparison: Comparison | None) -> list[str]:
    """Same, other, difference ± t, nearer in per cent, videos and sentences, in print."""
    if comparison is None:
        return ["–"] * 6
    gap, interval = f"{comparison.difference:+.3f}", comparison.difference_interval
    if interval:
        gap += f" ± {(interval[1] - interval[0]) / 2:.3f}"
    cosines = f"{comparison.same:.3f}", f"{comparison.other:.3f}", gap
    counts = str(comparison.videos), str(comparison.sentences)
    return [*cosines, f"{100 * comparison.nearer:.1f}", *counts]
