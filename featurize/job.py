"""What a call of featurize/run.py works with: the data set, the models, the pieces of each stage;
and what a stage makes of ONE video.
"""

import argparse
import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featurize import class_captions, producers, releases, sources
from featurize.pieces import Pieces
from featurize.releases import ReleaseCaptions, ReleaseVision, align
from featurize.sources import Entry, Source, UnreadableVideo
from semvad_jax.config import BadInput
from semvad_jax.store import Video

SOURCES = {"ucf": sources.ucf, "xd": sources.xd, "folder": sources.folder}
EACH = ("visual", "captions", "text")  # the stages that work video by video
SNIPPET_FRAMES = 16
USUAL_FPS = 25.0  # of a video that is not at hand and whose rate the data set does not tell


class Finished(NamedTuple):
    """All that the store keeps of one video; `texts` None where only embeddings are known."""

    video: Video
    visual: np.ndarray
    captions: np.ndarray
    texts: list[str] | None
    note: str | None


class Job:
    """A data set, the models that look at it, and the pieces of each stage."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.videos: Path = arguments.videos or Path("data") / arguments.dataset
        self.out: Path = arguments.out
        self.work = self.out.absolute().with_name(self.out.absolute().name + ".work")
        self.vision = producers.vision(arguments)
        if arguments.dataset == "demo":
            if arguments.captioner != "scripted":
                raise BadInput("--dataset demo writes its own captions; leave --captioner out.")
            from featurize import demo, demo_captions

            self.source: Source = demo.source(self.videos)
            self.captioner: Any = demo_captions.ScriptedCaptions()
        else:
            self.source = SOURCES[arguments.dataset](self.videos)
            self.captioner = producers.captioner(arguments, self.source.entries)
        if isinstance(self.vision, ReleaseVision) and "16 frames" != self._snippets:
            raise BadInput(
                f"--vision {arguments.vision} has a row for every 16 frames, but each caption of "
                f"--captioner {arguments.captioner} spans more; give captions of 16 frames."
            )

    @property
    def _snippets(self) -> str:
        return self.captioner.producer["snippets"]

    @cached_property
    def text_model(self) -> Any:
        return producers.text(self.arguments)

    @property
    def embedded_captions(self) -> bool:
        """Whether captions come as embeddings, their texts unknown."""
        return isinstance(self.captioner, ReleaseCaptions)

    @property
    def made(self) -> tuple[str, ...]:
        """The stages with work to do: what a release holds is read where it lies."""
        images = self.vision is not None and not isinstance(self.vision, ReleaseVision)
        return EACH[not images : 1 if self.embedded_captions else None]

    @property
    def entries(self) -> list[Entry]:
        """The videos of this call: all, or those of its shard by a hash of their names."""
        index, count = self.arguments.shard or (0, 1)

        def shard(entry: Entry) -> int:
            return int(hashlib.sha256(entry.video.encode()).hexdigest(), 16) % count

        return [entry for entry in self.source.entries if shard(entry) == index]

    @cached_property
    def listed_words(self) -> dict[str, list[dict[str, Any]]] | None:
        """The words of the class captions, where a list of them lies beside a release."""
        if self.embedded_captions:
            return releases.class_words(self.captioner.folder, self.source.classes)
        return None

    @property
    def uncounted(self) -> str | None:
        """Why the words of the class captions cannot be counted; None where they can be."""
        if self.embedded_captions:
            return "a release's captions have no texts"
        if not any(entry.split == "train" for entry in self.source.entries):
            return "there are no train videos"
        return None

    @property
    def class_producer(self) -> dict[str, Any]:
        if self.uncounted:
            return {"words": self.listed_words or f"the class labels: {self.uncounted}"}
        return class_captions.PRODUCER | {"top_percent": self.arguments.top_percent}

    def pieces(self, stage: str) -> Pieces:
        """The kept pieces of a stage, under everything that they depend on."""
        captions = self.captioner.producer
        if stage == "frames":
            return Pieces(self.work, stage, None)
        if stage == "visual":
            return Pieces(self.work, stage, [self.vision.producer, self._snippets])
        if stage == "captions":
            return Pieces(self.work, stage, captions)
        key = [captions, self.text_model.producer]
        if stage == "class-captions":
            videos = [(e.video, e.split, e.labels) for e in self.source.entries]
            key += [self.class_producer, self.source.dataset, self.source.classes, videos]
        return Pieces(self.work, stage, key)

    def known(self, entry: Entry) -> Entry:
        """The entry with its frames and their rate, counted where the data set does not say.

        Raises UnreadableVideo.
        """
        if entry.frames and entry.fps:
            return entry
        from featurize.videos import probe

        pieces = self.pieces("frames")
        if not settled(pieces, entry):
            _keep(pieces, entry, lambda: list(probe(_present(entry).path)))
        frames, fps = _kept(pieces, entry)
        return entry.of_length(entry.frames or frames, fps)

    def looks_at_videos(self, stage: str) -> bool:
        """Whether the stage decodes the videos."""
        if stage == "captions":
            return not isinstance(self.captioner, producers.FileCaptions)
        return stage == "visual"

    def check_videos(self, stage: str) -> None:
        """BadInput where a stage needs videos and none is there."""
        if self.looks_at_videos(stage) and not any(e.path.is_file() for e in self.entries):
            raise BadInput(
                f"{self.videos} has none of its {len(self.entries)} listed videos "
                f"(the first should be {self.entries[0].path}); put them there or name their "
                "folder with --videos."
            )

    def make(self, stage: str, entry: Entry) -> int:
        """Make the piece of one video, unless it is there; of an unreadable one its error.

        Returns the number of snippets that were worked on.
        """
        pieces = self.pieces(stage)
        if settled(pieces, entry):
            return 0
        return _keep(pieces, entry, lambda: getattr(self, f"{stage}_piece")(entry))

    def visual_piece(self, entry: Entry) -> np.ndarray:
        """Image embeddings, float16 [crops, n, F]."""
        entry = self.known(_present(entry))
        return self.vision(entry.path, self._edges(entry))

    def captions_piece(self, entry: Entry) -> list[str]:
        """A caption for each snippet."""
        if self.looks_at_videos("captions"):
            entry = self.known(_present(entry))
        return self.captioner(entry)

    def text_piece(self, entry: Entry) -> np.ndarray:
        """Caption embeddings, float16 [n, Q]."""
        return self.text_model(_kept(self.pieces("captions"), entry)).astype(np.float16)

    def texts(self, entry: Entry) -> list[str]:
        """The captions of a video; raises UnreadableVideo."""
        return _kept(self.pieces("captions"), entry)

    def finished(self, entry: Entry) -> Finished:
        """What the stages made of a video, brought to one length; raises UnreadableVideo."""
        if self.embedded_captions:
            texts, captions = None, self.captioner.embeddings(entry.video)
            if captions.shape[1] != self.text_model.width:
                raise BadInput(
                    f"--captioner {self.arguments.captioner} has embeddings of "
                    f"{captions.shape[1]} numbers, but --text {self.arguments.text} makes "
                    f"{self.text_model.width}; give the text model that made them."
                )
        else:
            texts, captions = self.texts(entry), _kept(self.pieces("text"), entry)
        if isinstance(self.vision, ReleaseVision):
            visual = self.vision.rows(entry.video)
            # the published protocol: a row is 16 frames, the last one too
            entry = entry.of_length(SNIPPET_FRAMES * visual.shape[1], USUAL_FPS)
        else:
            visual = _kept(self.pieces("visual"), entry) if self.vision else captions[None]
            entry = self.known(entry)
        visual, captions, binned_from, note = align(visual, captions, entry.split)
        if texts:
            texts = (texts + texts[-1:])[: len(captions)]
        return Finished(self._video(entry, visual, binned_from), visual, captions, texts, note)

    def unreadable(self, entry: Entry, reason: str) -> Video:
        """The store's record of a video without features."""
        split = {"video": entry.video, "split": entry.split, "labels": entry.labels}
        return Video(**split, frames=entry.frames, fps=entry.fps, snippets=0, error=reason)

    def _video(self, entry: Entry, visual: np.ndarray, binned_from: int | None) -> Video:
        return Video(
            video=entry.video,
            split=entry.split,
            labels=entry.labels,
            frames=entry.frames,
            fps=entry.fps,
            snippets=visual.shape[1],
            snippet_frames=self.captioner.snippet_frames(entry),
            crops=len(visual),
            binned_from=binned_from,
            intervals=entry.intervals if entry.split == "test" else (),
        )

    def _edges(self, entry: Entry) -> np.ndarray:
        return np.append(
            np.arange(0, entry.frames, self.captioner.snippet_frames(entry)), entry.frames
        )


def settled(pieces: Pieces, entry: Entry) -> bool:
    """Whether a video's piece is there, no older than its file; an error is tried again."""
    file = entry.path if entry.path.is_file() else None
    there = pieces.has(entry.video, newer_than=file)
    return there and not isinstance(pieces.load(entry.video), dict)


def _keep(pieces: Pieces, entry: Entry, make: Any) -> int:
    """Save what `make` gives, or why it cannot; returns the number of snippets."""
    try:
        piece = make()
        pieces.save(entry.video, piece)
    except UnreadableVideo as error:
        pieces.save(entry.video, {"error": str(error)})
        return 0
    return piece.shape[-2] if isinstance(piece, np.ndarray) else len(piece)


def _kept(pieces: Pieces, entry: Entry) -> Any:
    """A video's piece; raises UnreadableVideo with the error that was kept instead."""
    piece = pieces.load(entry.video)
    if isinstance(piece, dict):
        raise UnreadableVideo(piece["error"])
    return piece


def _present(entry: Entry) -> Entry:
    if not entry.path.is_file():
        raise UnreadableVideo(f"{entry.path.name} is missing")
    return entry
