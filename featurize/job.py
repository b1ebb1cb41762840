"""What a request is worked on with: the data set, the models, the pieces of each stage; and what a
stage makes of ONE video.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featurize import plan, producers, published, sources
from featurize.caption_files import FileCaptions
from featurize.feature_files import FeatureFiles
from featurize.pieces import Pieces, digest
from featurize.progress import Told, nobody
from featurize.published import PublishedCaptions, PublishedVision
from featurize.request import CAPTIONERS, Request
from featurize.rows import Rows, of_video
from featurize.sources import USUAL_FPS, Entry, Source, UnreadableVideo, edges
from semvad_jax.files import BadInput, sha256
from semvad_jax.store.val import set_aside

DECODING = ("visual", "captions")
LOOKERS = (*CAPTIONERS, "tags")  # captioners that look at the videos
KEEP_SECONDS = 60  # of captions may be lost in an interrupt


class Job:
    """A data set, the models that look at it, and the pieces of each stage."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._checksums: dict[str, str] = {}  # of files, by what tells them from others
        self.source = _source(request)
        self.vision = producers.vision(request, self.source.entries)
        self.captioner = producers.captioner(request, self.source.entries)
        if isinstance(self.vision, PublishedVision) and self._snippets != "16 frames":
            raise BadInput(
                f"--vision {request.vision} has a row for every 16 frames, but each caption of "
                f"--captioner {request.captioner} spans more; give captions of 16 frames."
            )

    @property
    def _snippets(self) -> str:
        return self.captioner.producer["snippets"]

    @cached_property
    def text_model(self) -> Any:
        return producers.text(self.request)

    @property
    def embedded_captions(self) -> bool:
        """Whether captions come as embeddings, their texts unknown."""
        return isinstance(self.captioner, PublishedCaptions)

    @property
    def made(self) -> tuple[str, ...]:
        """The stages with work to do: features on file are read where they lie."""
        stages = []
        if self.vision is not None and not isinstance(self.vision, PublishedVision | FeatureFiles):
            stages.append("visual")
        if not self.embedded_captions:
            stages += ["captions", "text"]
        return tuple(stages)

    @property
    def passes(self) -> list[tuple[str, ...]]:
        """The stages that are asked for, those together that a video goes through at one time: what
        one decoding serves; all, where workers need no GPU for it and so start once.
        """
        asked = tuple(stage for stage in self.made if stage in self.request.stages)
        if asked and self.request.workers:
            from featurize import arithmetic

            if not arithmetic.on_gpu():
                return [asked]
        if self._one_decoding(asked):
            return [asked[:2], *((stage,) for stage in asked[2:])]
        return [(stage,) for stage in asked]

    def _one_decoding(self, stages: Sequence[str]) -> bool:
        """Whether some stages begin with two that look at a video and can share its frames."""
        return tuple(stages[:2]) == DECODING and self.request.captioner.name in LOOKERS

    @cached_property
    def expected(self) -> dict[str, int]:
        """About how many snippets each video has, by its name; 0 where nobody tells."""
        return {entry.video: self._about(entry) for entry in self.entries}

    def _about(self, entry: Entry) -> int:
        if not (frames := announced_frames(entry)):
            return 0
        return -(-frames // self.captioner.snippet_frames(replace(entry, frames=frames)))

    @property
    def entries(self) -> list[Entry]:
        """The videos of this call: all, or those of its share."""
        return [entry for entry in self.source.entries if self.request.shares(entry.video)]

    @cached_property
    def listed_words(self) -> dict[str, list[dict[str, Any]]] | None:
        """The words of the class captions, where a list lies beside published captions."""
        if self.embedded_captions:
            return published.class_words(self.captioner.folder, self.source.classes)
        return None

    @property
    def uncounted(self) -> str | None:
        """Why the words of the class captions cannot be counted; None where they can be."""
        if self.embedded_captions:
            return "published captions have no texts"
        if not any(entry.split == "train" for entry in self.source.entries):
            return "there are no train videos"
        return None

    @property
    def class_producer(self) -> dict[str, Any]:
        if self.uncounted:
            return {"words": self.listed_words or f"the class labels: {self.uncounted}"}
        val = {"val_fraction": self.request.val_fraction, "val": sorted(self.val)}
        made = self.request.words.producer | {"top_percent": self.request.top_percent}
        return made | (val if self.val else {})

    @cached_property
    def val(self) -> set[str]:
        """The train videos that are set aside, by name."""
        train = [entry for entry in self.source.entries if entry.split == "train"]
        labels = [entry.labels[0] for entry in train]
        places = set_aside(labels, self.source.classes, self.request.val_fraction)
        return {train[place].video for place in places}

    def pieces(self, stage: str) -> Pieces:
        """The kept pieces of a stage, under all settings that they depend on."""
        if stage == "times":
            return Pieces(self.request.work, stage, None)
        captions = self.captioner.producer
        if stage == "visual":
            return Pieces(self.request.work, stage, [self.vision.producer, self._snippets])
        if stage in ("captions", "begun-captions"):
            return Pieces(self.request.work, stage, captions)
        key = [captions, self.text_model.producer]
        if stage == "class-captions":
            videos = [(e.video, e.split, e.labels) for e in self.source.entries]
            key += [self.class_producer, self.text_model.class_producer]
            key += [self.source.dataset, self.source.classes, videos]
        return Pieces(self.request.work, stage, key)

    def made_from(self, stage: str, entry: Entry) -> str:
        """What a stage's piece of a video is made from, as a digest: the file, or the captions."""
        if stage == "text":
            return digest(_as_json(self._piece("captions", entry)))
        if stage == "captions" and not self.looks_at_videos(stage):
            return digest(entry.frames)
        return digest([self._checksum(entry.path), entry.frames, entry.fps])

    def _checksum(self, path: Path) -> str | None:
        """The SHA-256 of a video's file, None where it is missing. A file is read once, and again
        when anything of it changes: its place, its size or its times.
        """
        if not path.is_file():
            return None
        state = path.stat()
        identity = [os.fsdecode(os.path.abspath(path)), state.st_size, state.st_ino]
        identity += [state.st_mtime_ns, state.st_ctime_ns]
        key = digest(ascii(identity))
        if key not in self._checksums:
            kept = Pieces(self.request.work, "checksums", None)
            known = kept.load("file", key)
            if known is None and self.request.dry_run:
                return None  # nothing is kept of a file that was never read
            if known is None:
                known = sha256(path)
                kept.save("file", key, known)
            self._checksums[key] = known
        return self._checksums[key]

    def _piece(self, stage: str, entry: Entry) -> Any:
        return self.pieces(stage).load(entry.video, self.made_from(stage, entry))

    def kept(self, stage: str, entry: Entry) -> Any:
        """A video's piece; raises UnreadableVideo with the error that was kept instead, and
        BadInput where there is neither.
        """
        piece = self._piece(stage, entry)
        if isinstance(piece, Exception):
            raise UnreadableVideo(str(piece))
        if piece is None:
            raise BadInput(f"Stage {stage} has no result for {entry.video} yet; run it first.")
        return piece

    def known(self, entry: Entry) -> Entry:
        """The entry with its frames, their rate and their times, as the file has them; as the list
        has them where no file is at hand, and where nothing is to be kept.

        Raises UnreadableVideo.
        """
        if entry.frames and (self.request.dry_run or not entry.path.is_file()):
            return entry if entry.fps else entry.of_length(entry.frames, USUAL_FPS)
        if not self.settled("times", entry):
            self._keep("times", entry, lambda: _times(_present(entry)))
        times, fps = np.split(self.kept("times", entry), [-1])
        known = entry.of_length(len(times) - 1, float(fps[0]), times)
        if entry.frames in (0, known.frames):
            return known
        note = f"the list says {entry.frames} frames, the file has {known.frames}"
        return replace(known, note=note)

    def caption_edges(self, entry: Entry) -> np.ndarray:
        """The frames at which a video's captions begin and the last one ends."""
        if isinstance(self.captioner, FileCaptions):
            return self.captioner.edges(entry)
        return edges(entry.frames, self.captioner.snippet_frames(entry))

    def looks_at_videos(self, stage: str) -> bool:
        """Whether the stage decodes the videos."""
        if stage == "captions":
            return not isinstance(self.captioner, FileCaptions)
        return stage == "visual"

    def check_videos(self, stage: str) -> None:
        """BadInput where a stage needs videos and none is there."""
        listed = self.source.entries
        if self.looks_at_videos(stage) and not any(e.path.is_file() for e in listed):
            raise BadInput(
                f"{self.request.videos} has none of its {len(listed)} listed videos (the first "
                f"should be {listed[0].path}); put them there or name their folder with --videos."
            )

    def settled(self, stage: str, entry: Entry) -> bool:
        """Whether a video's piece is there; an error is tried again."""
        return self.pieces(stage).has(entry.video, self.made_from(stage, entry))

    def finished(self, stages: Sequence[str]) -> list[bool]:
        """Of each video whether all its pieces are there. What a video's file is made of is looked
        at only where each stage has a piece of it: a file that is new is read when it is its turn.
        """
        names = [entry.video for entry in self.entries]
        begun = set.intersection(*(self.pieces(stage).held(names) for stage in stages))
        return [
            entry.video in begun and all(self.settled(stage, entry) for stage in stages)
            for entry in self.entries
        ]

    def make_each(self, stages: Sequence[str], entry: Entry, told: Told = nobody) -> None:
        """Make the pieces of one video of some stages; where two look at it, it is decoded once."""
        missing = [s for s in stages if not (self.request.resume and self.settled(s, entry))]
        if self._one_decoding(missing) and self._made_together(entry, told):
            missing, told = missing[2:], nobody
        for stage in missing:
            self.make(stage, entry, told)
            told = nobody  # a snippet counts once

    def make(self, stage: str, entry: Entry, told: Told = nobody) -> int:
        """Make the piece of one video, unless it is there; of an unreadable one its error. `told`
        is called with the number of each few snippets that are done.

        Returns the number of snippets that were worked on.
        """
        if self.request.resume and self.settled(stage, entry):
            return 0
        snippets = self._keep(stage, entry, lambda: self._work_on(stage, entry, told))
        if stage == "captions":
            self.pieces("begun-captions").drop(entry.video, self.made_from(stage, entry))
        return snippets

    def fail(self, stages: Sequence[str], entry: Entry, reason: str) -> None:
        """Keep a reason in place of the pieces that are missing."""
        for stage in stages:
            if not self.settled(stage, entry):
                error = UnreadableVideo(reason)
                self.pieces(stage).save(entry.video, self.made_from(stage, entry), error)

    def _work_on(self, stage: str, entry: Entry, told: Told) -> Any:
        if stage == "visual":
            return self.visual_piece(entry, told)
        if stage == "captions":
            return self.captions_piece(entry, told)
        return self.text_piece(entry, told)

    def _made_together(self, entry: Entry, told: Told) -> bool:
        """Whether images and captions of a video came from one decoding, which counts its frames
        too where nobody has.

        They do not where the video cannot be read to its end, changes meanwhile, or has other times
        than its packets tell: then nothing is kept but its times.
        """
        from featurize import videos

        source = [self.made_from(stage, entry) for stage in DECODING]
        try:
            expected = self._expected(_present(entry))
            if expected is None:
                return False
            known, guess = expected
            times = None if guess is None else list[float]()
            # what is begun by a guess is of no use to whoever knows better
            begun = source[1] if guess is None else digest([source[1], guess.tolist()])
            images, texts = self._looked_at(known, begun, times, told)
        except UnreadableVideo:
            return False
        if [self.made_from(stage, entry) for stage in DECODING] != source:
            return False
        if guess is not None and times is not None:
            found = _as_piece(videos.told(entry.path, times))
            self.pieces("times").save(entry.video, self.made_from("times", entry), found)
            if not np.array_equal(found, guess):
                return False
        for stage, made_from, piece in zip(DECODING, source, (images, texts), strict=True):
            self.pieces(stage).save(entry.video, made_from, piece)
        self.pieces("begun-captions").drop(entry.video, begun)
        return True

    def _expected(self, entry: Entry) -> tuple[Entry, np.ndarray | None] | None:
        """The entry with its frames and times, and, where only its packets tell them, these as the
        piece of times; None where nobody does.
        """
        if entry.frames or self.settled("times", entry):
            return self.known(entry), None
        from featurize.videos import undecoded

        found = undecoded(entry.path)
        if found is None:
            return None
        return entry.of_length(found.frames, found.fps, found.times), _as_piece(found)

    def _looked_at(
        self, entry: Entry, begun: str, times: list[float] | None, told: Told
    ) -> tuple[np.ndarray, list[str]]:
        """A video's image features and captions from one decoding. `times` gets its frames', and
        `begun` is what captions that were begun were made from.
        """
        from featurize.videos import together

        borders = edges(entry.frames, self.captioner.snippet_frames(entry))
        rows = Rows(self.vision, len(borders) - 1)
        counts = [self.vision.frames, self.captioner.frames]

        def decoded() -> Iterator[list[np.ndarray]]:
            for of_images, of_captions in together(entry.path, borders, counts, times):
                rows.add(of_images)
                yield of_captions
                told(1)

        frames = decoded()
        texts = self._captioned(entry, begun, nobody, frames)
        deque(frames, maxlen=0)  # what the captions did not need
        return rows.features(), texts

    def _keep(self, stage: str, entry: Entry, make: Callable[[], Any]) -> int:
        """Save what `make` gives, or why it cannot; returns the number of snippets.

        What was made of a file that changed meanwhile is made again, once.
        """
        pieces, source = self.pieces(stage), self.made_from(stage, entry)
        try:
            piece = make()
            if self.made_from(stage, entry) != source:
                source = self.made_from(stage, entry)
                piece = make()
            if self.made_from(stage, entry) != source:
                raise UnreadableVideo("its file changes while it is read")
        except UnreadableVideo as error:
            pieces.save(entry.video, source, error)
            return 0
        pieces.save(entry.video, source, piece)
        return piece.shape[-2] if isinstance(piece, np.ndarray) and piece.ndim > 1 else len(piece)

    def visual_piece(self, entry: Entry, told: Told = nobody) -> np.ndarray:
        """Image embeddings, float16 [crops, n, F]."""
        entry = self.known(_present(entry))
        borders = edges(entry.frames, self.captioner.snippet_frames(entry))
        return of_video(self.vision, entry.path, borders, told)

    def captions_piece(self, entry: Entry, told: Told = nobody) -> list[str]:
        """A caption for each snippet; hours of a long video survive an interrupt."""
        source = self.made_from("captions", entry)
        if self.looks_at_videos("captions"):
            entry = self.known(_present(entry))
        return self._captioned(entry, source, told)

    def _captioned(
        self, entry: Entry, source: str, told: Told, *decoded: Iterator[list[np.ndarray]]
    ) -> list[str]:
        """A caption for each snippet of a video whose frames are known, and may be decoded here."""
        if self.request.captioner.name not in LOOKERS:
            texts = self.captioner(entry)
            told(len(texts))
            return texts
        begun = self.pieces("begun-captions")
        texts = begun.load(entry.video, source) or []
        told(len(texts))
        kept = time.monotonic()
        for block in self.captioner.blocks(entry, len(texts), *decoded):
            texts += block
            told(len(block))
            if time.monotonic() - kept > KEEP_SECONDS:
                begun.save(entry.video, source, texts)
                kept = time.monotonic()
        return texts

    def text_piece(self, entry: Entry, told: Told = nobody) -> np.ndarray:
        """Caption embeddings, float16 [n, Q]."""
        return self.text_model(self.texts(entry), told).astype(np.float16)

    def texts(self, entry: Entry) -> list[str]:
        """The captions of a video; raises UnreadableVideo."""
        return self.kept("captions", entry)


def _source(request: Request) -> Source:
    """The videos that the request is for."""
    if request.entries:
        return sources.own(request.entries)
    if request.dataset == "demo":
        from featurize.demo import videos

        return videos.source(request.videos)
    listed = {"ucf": sources.ucf, "xd": sources.xd}.get(request.dataset, sources.folder)
    source = listed(request.videos)
    plan.check(source, request.videos)
    return source


def announced_frames(entry: Entry) -> int:
    """The frames of a video as listed, else as its header tells; 0 where neither does."""
    if entry.frames or not entry.path.is_file():
        return entry.frames
    from featurize.videos import announced

    return announced(entry.path)[0]


def _as_json(piece: Any) -> Any:
    return str(piece) if isinstance(piece, Exception) else piece


def _times(entry: Entry) -> np.ndarray:
    """The times of a video's frames and of its end, [frames + 1], and behind them their rate.

    A list's count that the packets agree with saves decoding all of the file. Raises
    UnreadableVideo.
    """
    from featurize.videos import probe, undecoded

    found = undecoded(entry.path) if entry.frames else None
    if found is None or found.frames != entry.frames:
        found = probe(entry.path)
    return _as_piece(found)


def _as_piece(found: Any) -> np.ndarray:
    """A Probe as the piece of times."""
    return np.append(found.times, found.fps)


def _present(entry: Entry) -> Entry:
    if not entry.path.is_file():
        raise UnreadableVideo(f"{entry.path.name} is missing")
    return entry
