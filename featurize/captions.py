"""Captions by VideoLLaMA 3: a sentence or two about the middle of every three snippets.

A snippet's caption is made from the window of its predecessor, itself and its successor; at the
video's ends the snippet at the end stands in for the missing one. The model sees 4 frames of each
snippet, 12 a window, with their times in it.

A snippet belongs to three windows, yet its frames go through the vision tower once: attention
there stays within a frame, so that a frame's tokens are the same in every window. What does look
across snippets is the model's pruning of tokens that repeat the frame before; it is recomputed for
each window from the pixels, which are kept for as long.

The prompts in prompts.json are the paper's (§3.2 and appendix A.1), verbatim. They are part of
`producer`, so that captions by other ones are kept apart. A caption that reaches the limit of new
tokens, which the longest one that the paper prints (A.2.3) is well below, ends in CUT.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import GenerationConfig
from transformers.video_utils import VideoMetadata

from featurize import arithmetic, videollama3
from featurize.arithmetic import in_batches
from featurize.request import CUT
from featurize.sources import SNIPPET_FRAMES, Entry, UnreadableVideo, edges
from featurize.videos import part_middles, snippets
from semvad_jax.files import BadInput, read_json

FRAMES = 4  # of each snippet that the model sees
WINDOW = 3  # snippets
BATCH = 8  # windows of one video; the last ones of a video are filled up
NEW_TOKENS = 128
LONGEST_SIDE = 200  # times the shorter one: what the model's resizing takes
PROMPTS = Path(__file__).with_name("prompts.json")
STOPS = ("<|im_end|>", "<|endoftext|>")
TEXT = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{video}\n{user}<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@dataclass(frozen=True)
class Snippet:
    """What a snippet's three windows need of it."""

    size: tuple[int, int]  # of the video's picture, width and height
    length: int  # in frames of the video
    positions: list[int]  # of the frames seen, within the snippet
    seconds: np.ndarray | None  # times of its frames and its end, where the rate varies
    grid: tuple[int, int]  # of patches in a frame
    pixels: Tensor  # [FRAMES · h · w, numbers of a patch], on the CPU
    tokens: Tensor  # [FRAMES · h · w / 4, D], on the model's device


class Prompts(TypedDict):
    """The texts of prompts.json; `source` says where they come from."""

    system: str
    user: str
    source: str


class Window(NamedTuple):
    """A prompt, and the tokens [k, D] for its k places of video."""

    text: str
    tokens: Tensor


class VideoLlama3:
    """The captioner `videollama3-7b` or `-2b`; `weights` is a local folder in place of the hub's,
    `prompts` are others than the paper's.

    Greedy, unless a temperature or a top-p is given; then it samples, each batch from a seed made
    of the video's name and the batch's first snippet, so that captions are the same every time.
    """

    frames = FRAMES  # of a snippet that it looks at

    def __init__(
        self,
        size: str,
        weights: Path | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        self._id = f"DAMO-NLP-SG/VideoLLaMA3-{size.upper()}"
        self._where = self._id if weights is None else weights
        self._prompts = prompts or read_json(
            PROMPTS, Prompts, "is no JSON of system, user and source; correct it"
        )
        self._decoding = _decoding(temperature, top_p)

    @cached_property
    def producer(self) -> dict[str, Any]:
        """All that the captions depend on. It asks the hub for the commit, and loads no weights."""
        return {
            "model": self._id,
            "revision": videollama3.revision(self._where),
            "prompts": self._prompts,
            "frames": f"{FRAMES} of each snippet, the middles of equal parts, with their times",
            "window": "the snippet between its neighbours; at an end the snippet there once more",
            "pixels": videollama3.PIXELS | {"frames": FRAMES * WINDOW},
            "decoding": self._decoding | {"stops": list(STOPS)},
            "batch": f"{BATCH} windows of one video, padded on the left to the longest",
            "dtype": "bfloat16 on a GPU, float32 on a CPU",
            "attention": "flash attention 2 where installed beside a GPU, else SDPA, not cuDNN's",
            "threads": arithmetic.THREADS,
            "snippets": f"{SNIPPET_FRAMES} frames",
        }

    def snippet_frames(self, entry: Entry) -> int:
        """16, of every video."""
        return SNIPPET_FRAMES

    def __call__(self, entry: Entry) -> list[str]:
        """A caption a snippet; raises UnreadableVideo, and BadInput for unusable weights."""
        return [text for block in self.blocks(entry) for text in block]

    def blocks(self, entry: Entry, start: int = 0) -> Iterator[list[str]]:
        """The captions from snippet `start`, a multiple of BATCH, on: BATCH at a time."""
        rows = self.tokens(entry, start)
        while block := list(islice(rows, BATCH)):
            yield self._texts(block)

    def in_turn(self, fps: float) -> Callable[[list[np.ndarray]], str]:
        """A function of the FRAMES frames of a video's next snippet, of 16 frames, that gives the
        caption of the one before it, in a batch of its own; the first call gives that of the
        snippet alone.
        """
        processor, seen = self._processor.video_processor, list[Snippet]()

        @torch.inference_mode()
        def caption(frames: list[np.ndarray]) -> str:
            size = seen[0].size if seen else frames[0].shape[1::-1]
            last = self._look(processor, frames, SNIPPET_FRAMES, size)
            seen[:] = [*(seen or [last, last])[-2:], last]
            return self._texts(list(self._generate([self._window(seen, fps)])))[0]

        return caption

    def _texts(self, tokens: list[np.ndarray]) -> list[str]:
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        stops = self._model.generation_config.eos_token_id
        ended = [bool(np.isin(row, stops).any()) for row in tokens]
        return [
            " ".join(text.split()) + ("" if stopped else CUT)
            for text, stopped in zip(texts, ended, strict=True)
        ]

    @torch.inference_mode()
    def tokens(self, entry: Entry, start: int = 0) -> Iterator[np.ndarray]:
        """The new tokens of each snippet's caption; after its end they are padding."""
        windows, first = self._windows(entry, start), start
        while batch := list(islice(windows, BATCH)):
            if self._decoding["do_sample"]:
                seed = hashlib.sha256(f"{entry.video} {first}".encode()).digest()
                torch.manual_seed(int.from_bytes(seed[:4]))
            yield from in_batches(self._generate, batch, BATCH)
            first += BATCH

    def _windows(self, entry: Entry, start: int = 0) -> Iterator[Window]:
        seen = self._seen(entry, max(start - 1, 0))
        before = here = next(seen, None)
        if start:
            here = next(seen, None)
        if before is None or here is None:
            return
        for after in chain(seen, [None]):
            yield self._window([before, here, after or here], entry.fps)
            if after is not None:
                before, here = here, after

    def _seen(self, entry: Entry, start: int) -> Iterator[Snippet]:
        """The video's snippets from `start` on."""
        processor = self._processor.video_processor  # so that unusable weights are told first
        size, borders = None, edges(entry.frames)
        times = entry.times
        if times is not None and entry.seconds(np.arange(entry.frames + 1)) is None:
            times = None  # even ones: frames over the rate tell them
        decoded = zip(borders[:-1], borders[1:], snippets(entry.path, borders, FRAMES), strict=True)
        for number, (first, end, frames) in enumerate(decoded):
            size = size or frames[0].shape[1::-1]
            if number >= start:
                seconds = None if times is None else times[first : end + 1]
                yield self._look(processor, frames, int(end - first), size, seconds)

    def _look(
        self,
        processor: Any,
        frames: list[np.ndarray],
        length: int,
        size: tuple[int, int],
        seconds: np.ndarray | None = None,
    ) -> Snippet:
        """A snippet of a video of this size; a frame is prepared as one of its window's 12."""
        if max(size) > LONGEST_SIDE * min(size):
            raise UnreadableVideo(f"its picture of {size[0]} x {size[1]} is too narrow")
        budget = dict(processor.size)
        budget["longest_edge"] = budget["longest_edge"] // (FRAMES * WINDOW) * FRAMES
        frames = [_of_size(frame, size) for frame in frames]
        ready = processor(np.stack(frames), size=budget, return_tensors="pt")
        pixels, grid = ready["pixel_values_videos"], ready["video_grid_thw"]
        features = self._model.get_video_features(
            pixels.to(self._model.device),
            grid.to(self._model.device),
            video_merge_sizes=ready["video_merge_sizes"].to(self._model.device),
        )
        shape, tokens = (grid[0, 1].item(), grid[0, 2].item()), features.pooler_output
        positions = part_middles(length, FRAMES)
        return Snippet(size, length, positions, seconds, shape, pixels, torch.cat(tokens))

    def _window(self, three: Sequence[Snippet], fps: float) -> Window:
        """The prompt of three snippets and the tokens that the model's own pruning leaves."""
        processor = self._processor.video_processor
        starts = np.cumsum([0, *(snippet.length for snippet in three)]).tolist()
        indices = [
            start + position
            for start, snippet in zip(starts[:-1], three, strict=True)
            for position in snippet.positions
        ]
        if all(snippet.seconds is not None for snippet in three):
            indices, fps = _milliseconds_seen(three), 1000.0  # it divides the one by the other
        tokens = torch.cat([snippet.tokens for snippet in three])
        about: dict[str, Any] = {
            "video_grid_thw": torch.tensor([[len(indices), *three[0].grid]]),
            "video_merge_sizes": torch.tensor([processor.merge_size]),
            "video_metadata": [VideoMetadata(starts[-1], fps=fps, frames_indices=indices)],
        }
        kept = torch.ones(len(tokens), dtype=torch.bool)
        if processor.use_token_compression:
            pixels = torch.cat([snippet.pixels for snippet in three])
            kept = processor._get_compression_mask(
                pixels, about["video_grid_thw"], about["video_merge_sizes"]
            )
        about["video_compression_mask"] = kept
        video = self._processor.replace_video_token(about, 0)
        text = TEXT.format(video=video, **self._prompts)
        return Window(text, tokens[kept.to(tokens.device)])

    def _generate(self, batch: Sequence[Window]) -> np.ndarray:
        """New tokens [B, at most NEW_TOKENS] of windows of one video."""
        texts = [window.text for window in batch]
        prompt = self._processor.tokenizer(
            texts, padding=True, padding_side="left", return_tensors="pt"
        ).to(self._model.device)
        embedded = self._model.get_input_embeddings()(prompt["input_ids"])
        video = prompt["input_ids"] == self._processor.video_token_id
        embedded[video] = torch.cat([window.tokens for window in batch])
        new = self._model.generate(inputs_embeds=embedded, attention_mask=prompt["attention_mask"])
        return new.cpu().numpy()

    @property
    def _model(self) -> Any:
        return self._loaded[0]

    @property
    def _processor(self) -> Any:
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        commit = "main" if isinstance(self._where, Path) else self.producer["revision"]
        model, processor = videollama3.load(self._where, arithmetic.device(), commit)
        # In place of the checkpoint's own, whose repetition penalty would hold for greedy too.
        model.generation_config = GenerationConfig(
            **self._decoding,
            eos_token_id=[processor.tokenizer.convert_tokens_to_ids(stop) for stop in STOPS],
            pad_token_id=processor.tokenizer.pad_token_id,
        )
        # The model would compute logits at every place of a prompt, on a GPU most of the memory,
        # where generation looks at those of the last.
        model.lm_head.register_forward_pre_hook(lambda _, args: (args[0][:, -1:],))
        return model, processor


def _milliseconds_seen(three: Sequence[Snippet]) -> list[int]:
    """The times of the frames that the model sees, counted from the window's beginning."""
    begun, seen = 0.0, list[int]()
    for snippet in three:
        assert snippet.seconds is not None
        times = begun + snippet.seconds[snippet.positions] - snippet.seconds[0]
        seen += [round(1000 * time) for time in times.tolist()]
        begun += float(snippet.seconds[-1] - snippet.seconds[0])
    return seen


def _decoding(temperature: float | None, top_p: float | None) -> dict[str, Any]:
    settings: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "repetition_penalty": 1.0}
    if temperature is None and top_p is None:
        return settings | {"do_sample": False}
    temperature, top_p = (1.0 if x is None else x for x in (temperature, top_p))
    if not (temperature > 0 and 0 < top_p <= 1):
        raise BadInput(
            f"--temperature {temperature} --top-p {top_p}: give a temperature above 0 and a top-p "
            "above 0 and at most 1, or neither for greedy decoding."
        )
    return settings | {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}


def _of_size(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The frame; in the size (width, height) of the video's first one, should the video change."""
    if frame.shape[1::-1] == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
