"""A stream's snippets with features by the models that made a run's store, one snippet at a time.

VideoLLaMA 3 captions a snippet from its window; of a stream nothing is there yet that comes after
it, so each is captioned as the last snippet of a video is: its predecessor, itself, and itself once
more.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featurize import mistakes, producers
from featurize.live import Address, Snippet, Stream
from featurize.own_videos import flags_of_models
from featurize.request import Request
from featurize.sources import SNIPPET_FRAMES, USUAL_FPS, UnreadableVideo
from semvad_jax.files import BadInput

REUSED, SKIPPED = "caption reused", "skipped"


@dataclass(frozen=True)
class Seen:
    """A snippet with its features, and what was left out of it: "", REUSED, or SKIPPED, of which
    there are no features.
    """

    snippet: Snippet
    visual: np.ndarray | None  # float16 [K, F]
    caption_embedding: np.ndarray | None  # float16 [Q]
    caption: str
    left_out: str

    @property
    def picture(self) -> np.ndarray | None:
        """The latest of its pictures, uint8 [H, W, 3]."""
        pictures = self.snippet.pictures
        return pictures[max(pictures)] if pictures else None


class Camera:
    """An address, and the models that look at it: those that made the store `of_producers`.
    `weights` are local folders of theirs.

    Raises BadInput where the run's features cannot be made of other videos.
    """

    def __init__(
        self, source: Address, of_producers: Mapping[str, Any], weights: Mapping[str, Path]
    ) -> None:
        self._source, self._of_producers = source, of_producers
        request = Request.like(flags_of_models(of_producers), "folder", weights=weights)
        with mistakes.as_bad_input():
            self._vision = producers.vision(request, ())
            self._captioner = producers.captioner(request, ())
            self._text = producers.text(request)
        self._caption: Callable[[list[np.ndarray]], str] | None = None
        self._last: tuple[str, np.ndarray] | None = None

    @property
    def shown(self) -> str:
        """The address as people are told it."""
        return self._source.shown

    @property
    def used(self) -> dict[str, Any]:
        """What the features depend on, as a store's `producers` have it."""
        visual = self._vision.producer if self._vision else self._of_producers.get("visual")
        captions, text = self._captioner.producer, self._text.producer
        return {"visual": visual, "captions": captions, "text": text}

    def warm_up(self) -> Seen:
        """Loads the weights, and looks at a grey snippet. Raises BadInput where they cannot be."""
        grey = np.full((240, 320, 3), 127, np.uint8)
        seconds = np.arange(SNIPPET_FRAMES + 1) / USUAL_FPS
        pictures = dict.fromkeys(range(SNIPPET_FRAMES), grey)
        seen = self._look(Snippet(0, 0, SNIPPET_FRAMES, seconds, 0.0, pictures), False)
        self._caption = self._last = None  # nothing of it is in a stream's captions
        return seen

    @contextmanager
    def opened(self, tell: Callable[[str], None]) -> Iterator["Looked"]:
        """Reads the address until the block's end; `tell` is called with a sentence where its
        connection is lost or found.
        """
        looking = [model.frames for model in (self._vision, self._captioner) if model is not None]
        with Stream(self._source, looking, tell) as stream:
            yield Looked(stream, self._look)

    def _look(self, snippet: Snippet, hurried: bool) -> Seen:
        """A stream's next snippet; its caption is the one before it where that is `hurried`."""
        if not snippet.pictures:
            return Seen(snippet, None, None, "", SKIPPED)
        left_out = REUSED if hurried and self._last else ""
        try:
            with mistakes.as_bad_input():
                if self._last is None or not left_out:
                    self._last = self._described(snippet)
                caption, row = self._last
                return Seen(snippet, self._embedded(snippet, row), row, caption, left_out)
        except UnreadableVideo as error:
            raise BadInput(f"{self.shown} cannot be watched: {error}") from None

    def _embedded(self, snippet: Snippet, caption: np.ndarray) -> np.ndarray:
        """Its image embeddings, float16 [K, F]; the caption's where no model looks at images."""
        if self._vision is None:
            return caption[None]
        return self._vision.snippet(snippet.frames(self._vision.frames)).astype(np.float16)

    def _described(self, snippet: Snippet) -> tuple[str, np.ndarray]:
        """The snippet's caption and its embedding."""
        describe = self._caption
        if describe is None:
            rate = (snippet.end - snippet.start) / (snippet.seconds[-1] - snippet.seconds[0])
            describe = self._caption = self._captioner.in_turn(float(rate), live=True)
        caption = describe(snippet.frames(self._captioner.frames))
        if self._last is not None and self._last[0] == caption:
            return self._last
        return caption, self._text.embed([caption])[0].astype(np.float16)


@dataclass(frozen=True)
class Looked:
    """A stream's snippets with their features, each by `look`."""

    stream: Stream
    look: Callable[[Snippet, bool], Seen]

    @property
    def expected(self) -> int:
        """How many snippets there will be; 0 where nobody knows."""
        return self.stream.expected

    def says(self) -> str:
        return self.stream.says()

    def __iter__(self) -> Iterator[Seen | None]:
        """The snippets until the source ends; None where none has come for a moment."""
        for snippet in self.stream:
            yield None if snippet is None else self.look(snippet, self.stream.behind)
