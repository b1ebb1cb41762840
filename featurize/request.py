"""What one call of the featurizer asks for, whoever asks: the command line (run.py), `main.py
--detect` (own_videos.py), `main.py --study runtime` (runtime.py) or an actor of Ray (engines.py).

A `Request` is complete: nothing else decides what is made. What cannot be asked for together is
refused here; whether a model is known is told where models are (producers.py).
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from featurize.class_captions import ALL_WORDS, Rules
from featurize.feature_files import LAYOUTS
from featurize.sources import Entry
from semvad_jax.files import BadInput, require
from semvad_jax.store import flags as store_flags
from semvad_jax.store.scorers import SCORERS

DATASETS = ("ucf", "xd", "folder", "demo")
EACH = ("visual", "captions", "text")  # the stages that work video by video
STAGES = (*EACH, "class-captions", "pack")
EXPORT, SCORES = "export", "scores"  # stages of their own, for a store that is finished
LLM = "llm"
OF_AN_LLM = ("lavad", "anomaly_ruler")
ENGINES = ("local", "ray")
MOST_WORKERS = 256

VISION = "clip-vit-b16"
CROPS, POOLS = (10, 1), ("middle", "mean")
CAPTIONERS = ("videollama3-7b", "videollama3-2b")
CUT = " …"  # ends a caption of theirs that the limit of new tokens cut off
TEXT = ("clip-vit-l14", "clip-vit-b16")
WEIGHTS = (*TEXT, *CAPTIONERS, LLM)  # the models whose weights may lie in a local folder
STAND_INS = ("efficientnet-lite0", "tags", "minilm-l6")
# What the demo is made by, and every other data set where nothing is asked for: the paper's.
DEMO = {"vision": "efficientnet-lite0", "captioner": "scripted", "text": "minilm-l6"}
USUAL = {"vision": VISION, "captioner": CAPTIONERS[0], "text": TEXT[0]}
# Features that were made once for a set of videos, and cannot be made for another.
MADE_ONCE = {"vision": ("published", "npy"), "captioner": ("scripted", "file", "published")}


ROWS = ("snippets", "even")  # what a row of features on file is made from
NPY = "npy"


class Maker(NamedTuple):
    """What features come from: a model by its name, or `file`, `npy` or `published` with a path."""

    name: str
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "Maker":
        """The maker of "clip-vit-b16" or "published:DIR"; the old name `release` is taken too."""
        name, _, path = text.partition(":")
        return cls(store_flags.current(name), Path(path) if path else None)

    def __str__(self) -> str:
        return self.name if self.path is None else f"{self.name}:{self.path}"

    def absolute(self) -> "Maker":
        """The same with an absolute path."""
        return self if self.path is None else Maker(self.name, self.path.absolute())


Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]+\Z")]  # of a producer; no path goes with it


class Flags(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The flags that a store records: what makes features of the same kind again, without paths.

    They are read from stores and runs of other people's: what is not declared here is refused.
    """

    vision: Name
    captioner: Name
    text: Name
    crops: int | None = None
    pool: str | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a call asks for. `Request.of` fills in what depends on the data set.

    Raises BadInput for values out of range and for what does not go together.
    """

    dataset: str  # one of DATASETS
    videos: Path  # the data set's folder
    out: Path  # STORE; beside it lies STORE.work
    vision: Maker  # image embeddings
    captioner: Maker
    text: str  # the text model: one of TEXT, or minilm-l6
    crops: int | None = None  # of a frame, by CLIP alone; None: 10
    pool: str | None = None  # how CLIP's rows of a snippet's frames become one; None: middle
    layout: str | None = None  # of --vision npy:DIR, where the files do not tell
    rows: str | None = None  # of --vision npy:DIR: one of ROWS; None: snippets
    weights: Mapping[str, Path] = field(default_factory=dict)  # local folders, by model
    stages: tuple[str, ...] = STAGES
    shard: tuple[int, int] | None = None  # (I, N): the I-th of N shares of the videos
    engine: str = "local"  # who works: this process, or actors of Ray
    workers: int = 0  # processes beside this one
    temperature: float | None = None  # of VideoLLaMA 3's sampling; None: greedy, or 1 with a top-p
    top_p: float | None = None
    top_percent: float = 10.0  # of a class's words that may stand in its class caption
    words: Rules = ALL_WORDS  # which words are a class's at all
    # share of the train videos that a run sets aside as val: no word is taken from them
    val_fraction: float = 0.0
    caption_spans: int | None = None  # captions a video in a file of captions
    resume: bool = True  # keep the pieces that are there
    dry_run: bool = False  # tell the costs, make nothing
    scorer: str | None = None  # one of SCORERS, of the stage scores
    export_tfds: Path | None = None  # where a TFDS copy of the store is written
    entries: tuple[Entry, ...] = ()  # videos of a user's own, in place of the data set's list

    @classmethod
    def of(cls, dataset: str, **asked: Any) -> "Request":
        """The request for a data set; fields that are left out or None have its defaults.

        `vision` and `captioner` may be texts such as "published:DIR".
        """
        asked = {name: value for name, value in asked.items() if value is not None}
        usual: dict[str, Any] = {
            "videos": Path("data") / dataset,
            "out": Path("features") / dataset,
            "stages": EACH if "shard" in asked else STAGES,
            **(DEMO if dataset == "demo" else USUAL),
        }
        fields = usual | asked
        for name in ("vision", "captioner"):
            if isinstance(fields[name], str):
                fields[name] = Maker.parse(fields[name])
        return cls(dataset=dataset, **fields)

    @classmethod
    def like(cls, flags: Flags, dataset: str, **asked: Any) -> "Request":
        """The request for features of the kind that a store's flags tell."""
        return cls.of(dataset, **msgspec.to_builtins(flags), **asked)

    def __post_init__(self) -> None:
        for name, allowed in (
            ("dataset", DATASETS),
            ("text", (*TEXT, "minilm-l6")),
            ("crops", (None, *CROPS)),
            ("pool", (None, *POOLS)),
            ("layout", (None, *LAYOUTS)),
            ("rows", (None, *ROWS)),
            ("engine", ENGINES),
            ("scorer", (None, *SCORERS)),
        ):
            value, known = getattr(self, name), [str(x) for x in allowed if x is not None]
            require(value in allowed, f"--{name} {value} is not known; give {' or '.join(known)}.")
        for stage in self.stages:
            known = (*STAGES, EXPORT, SCORES)
            require(stage in known, f"--stages: {stage!r} is none of {','.join(known)}.")
        self._check_models()
        self._check_work()

    def _check_models(self) -> None:
        if self.vision.name != VISION and (self.crops or self.pool):
            raise BadInput(f"--crops and --pool are for --vision {VISION}; leave them out.")
        if self.vision.name != NPY and (self.layout or self.rows):
            raise BadInput("--layout and --rows are for --vision npy:DIR; leave them out.")
        if self.captioner.name not in CAPTIONERS and (self.temperature, self.top_p) != (None, None):
            raise BadInput("--temperature and --top-p are for VideoLLaMA 3; leave them out.")
        if self.dataset == "demo" and str(self.captioner) != DEMO["captioner"]:
            raise BadInput("--dataset demo writes its own captions; leave --captioner out.")
        percent, epsilon = self.top_percent, self.words.epsilon
        require(0 < percent <= 100, f"--top-percent {percent:g} is not above 0 and at most 100.")
        require(0 < epsilon < math.inf, f"--epsilon {epsilon:g} is not a number above 0.")
        require(self.words.min_count > 0, f"--min-count {self.words.min_count} is not 1 or more.")
        require(
            0 <= self.val_fraction < 1,
            f"--val-fraction {self.val_fraction:g} is not from 0 to below 1.",
        )

    def _check_work(self) -> None:
        if EXPORT in self.stages and self.export_tfds is None:
            raise BadInput("--stages export needs --export-tfds DIR, the folder to write.")
        if self.export_tfds is not None and not {"pack", EXPORT} & set(self.stages):
            raise BadInput("--export-tfds writes a finished store; add the stage pack or export.")
        if (SCORES in self.stages) != (self.scorer is not None):
            raise BadInput(f"--stages scores and --scorer {' or '.join(SCORERS)} go together.")
        if self.scorer in OF_AN_LLM and LLM not in self.weights:
            raise BadInput(
                f"--scorer {self.scorer} needs --weights llm=DIR, the folder of a causal language "
                "model."
            )
        if self.dry_run and SCORES in self.stages:
            raise BadInput("--dry-run tells what a store costs, not what scores do; leave it out.")
        if self.dry_run and self.dataset == "demo":
            raise BadInput("--dry-run is for videos that are there; the demo renders its own.")
        if not 0 <= self.workers <= MOST_WORKERS or (self.workers and self.engine != "local"):
            raise BadInput(
                f"--workers {self.workers}: give 0 to {MOST_WORKERS}, and none with --engine ray."
            )
        if self.shard is None:
            return
        index, count = self.shard
        require(0 <= index < count, f"--shard {index}/{count} is no share: give 0/N to N-1/N.")
        require(
            set(self.stages) <= {*EACH, SCORES},
            f"--shard works on the stages {','.join(EACH)} and {SCORES}; run the others once, "
            "without --shard.",
        )
        if self.scorer == "similarity":
            raise BadInput(
                "--scorer similarity asks no model and keeps nothing; leave out --shard."
            )

    def shares(self, video: str) -> bool:
        """Whether a video is in the share of this call, by a hash of its name."""
        index, count = self.shard or (0, 1)
        return int(hashlib.sha256(video.encode()).hexdigest(), 16) % count == index

    @property
    def work(self) -> Path:
        """STORE.work, where the finished pieces of each stage lie; an absolute path."""
        out = self.out.absolute()
        return out.with_name(f"{out.name}.work")

    @property
    def crops_and_pool(self) -> tuple[int, str]:
        """Of CLIP's image tower: as asked for, or the paper's."""
        return self.crops or CROPS[0], self.pool or POOLS[0]

    @property
    def flags(self) -> dict[str, Any]:
        """What the store records: the flags that name the models, without paths."""
        by_clip = self.vision.name == VISION
        crops, pool = self.crops_and_pool
        flags = Flags(
            vision=self.vision.name,
            captioner=self.captioner.name,
            text=self.text,
            crops=crops if by_clip else None,
            pool=pool if by_clip else None,
            temperature=self.temperature,
            top_p=self.top_p,
        )
        return msgspec.to_builtins(flags)

    def anywhere(self) -> "Request":
        """The same with absolute paths, for a process that works in another folder."""
        return replace(
            self,
            videos=self.videos.absolute(),
            out=self.out.absolute(),
            vision=self.vision.absolute(),
            captioner=self.captioner.absolute(),
            weights={name: folder.absolute() for name, folder in self.weights.items()},
            entries=tuple(replace(e, path=e.path.absolute()) for e in self.entries),
        )


def flags_of(producers: Mapping[str, Any], owner: str, remedy: str) -> Flags:
    """The flags that a store's `producers` record.

    Raises BadInput(f"{owner} does not tell …; {remedy}") where there are none, and where they are
    not those of this featurizer.
    """
    flags = store_flags.recorded(producers)
    if flags is None:
        raise BadInput(f"{owner} does not tell which flags of featurize/run.py made it; {remedy}")
    try:
        return msgspec.convert(flags, Flags)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"{owner} was made by flags that this featurizer does not know ({error}); {remedy}"
        ) from None


def local_weights(texts: Iterable[str]) -> dict[str, Path]:
    """The folders of --weights NAME=DIR …, by model; BadInput where one is none."""
    weights = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        require(
            name in WEIGHTS and bool(equals and folder),
            f"--weights: {text} is not NAME=DIR with NAME one of {', '.join(WEIGHTS)}",
        )
        require(Path(folder).is_dir(), f"--weights: {folder} is no folder")
        weights[name] = Path(folder)
    return weights
