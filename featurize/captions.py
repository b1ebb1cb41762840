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

On a GPU a batch has more windows, and the frames of all of them go through the tower together,
those of the two snippets that it shares with its neighbours once more: so a batch depends on
nothing but its place in the video.
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
from featurize.generation import Generation
from featurize.request import CUT
from featurize.sources import SNIPPET_FRAMES, Entry, UnreadableVideo, edges
from featurize.videos import part_middles, snippets
from semvad_jax.files import BadInput, read_json

FRAMES = 4  # of each snippet that the model sees
WINDOW = 3  # snippets
# windows of one video; on a CPU the last ones of a video are filled up
BATCH = 64 if arithmetic.on_gpu() else 8
PATCHES = 2**17  # of frames that go through the vision tower together
NEW_TOKENS = 128
LONGEST_SIDE = 200  # times the shorter one: what the model's resizing takes
PROMPTS = Path(__file__).with_name("prompts.json")
STOPS = ("<|im_end|>", "<|endoftext|>")
TEXT = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{video}\n{user}<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@dataclass(frozen=True, eq=False)
class Snippet:
    """What a snippet's three windows need of it."""

    number: int  # in the video
    size: tuple[int, int]  # of the video's picture, width and height
    length: int  # in frames of the video
    positions: list[int]  # of the frames seen, within the snippet
    seconds: np.ndarray | None  # times of its frames and its end, where the rate varies
    grid: tuple[int, int]  # of patches in a frame
    pixels: Tensor  # [FRAMES · h · w, numbers of a patch], on the CPU
    tokens: Tensor | None  # [FRAMES · h · w / 4, D]; None on a GPU, which makes them by the batch


class Prompts(TypedDict):
    """The texts of prompts.json; `source` says where they come from."""

    system: str
    user: str
    source: str


class Window(NamedTuple):
    """A prompt, and the tokens [k, D] for its k places of video."""

    text: str
    tokens: Tensor


class Unseen(NamedTuple):
    """A batch of windows before the vision tower: what a GPU needs of it."""

    pixels: list[Tensor]  # of each snippet, [FRAMES · h · w, numbers of a patch]
    grid: tuple[int, int]  # of patches in a frame
    windows: list[tuple[str, list[int], Tensor]]  # text, its snippets, which of their tokens stay


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
            "batch": f"{BATCH} windows of one video, "
            + ("each read alone" if arithmetic.on_gpu() else "padded on the left to the longest"),
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

    def blocks(
        self, entry: Entry, start: int = 0, decoded: Iterator[list[np.ndarray]] | None = None
    ) -> Iterator[list[str]]:
        """The captions from snippet `start`, a multiple of BATCH, on: BATCH at a time. `decoded`
        are the FRAMES frames of all snippets, where another decodes the video.
        """
        rows = self.tokens(entry, start, decoded)
        while block := list(islice(rows, BATCH)):
            yield self._texts(block)

    def in_turn(self, fps: float, live: bool = False) -> Callable[[list[np.ndarray]], str]:
        """A function of the FRAMES frames of a video's next snippet, of 16 frames, that gives the
        caption of the one before it, in a batch of its own; the first call gives that of the
        snippet alone.

        `live`: it gives the snippet's own caption, as if the video ended with it, since what comes
        after it is not there yet.
        """
        processor, seen = self._processor.video_processor, list[Snippet]()

        @torch.inference_mode()
        def caption(frames: list[np.ndarray]) -> str:
            size = seen[0].size if seen else frames[0].shape[1::-1]
            last = self._look(processor, 0, frames, SNIPPET_FRAMES, size)
            seen[:] = [*(seen or [last, last])[-2:], last]
            three = [seen[-2], last, last] if live else seen
            return self._texts(list(self._generate([self._window(three, fps)])))[0]

        return caption

    def _texts(self, tokens: list[np.ndarray]) -> list[str]:
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        ended = [bool(np.isin(row, self._stops).any()) for row in tokens]
        return [
            " ".join(text.split()) + ("" if stopped else CUT)
            for text, stopped in zip(texts, ended, strict=True)
        ]

    @torch.inference_mode()
    def tokens(
        self, entry: Entry, start: int = 0, decoded: Iterator[list[np.ndarray]] | None = None
    ) -> Iterator[np.ndarray]:
        """The new tokens of each snippet's caption; after its end they are padding."""
        if arithmetic.on_gpu():
            for number, batch in enumerate(self._unseen(entry, start, decoded)):
                yield from self.write(_seed(entry, start + number * BATCH), batch)
            return
        windows, first = self._windows(entry, start, decoded), start
        while batch := list(islice(windows, BATCH)):
            torch.manual_seed(_seed(entry, first))
            yield from in_batches(self._generate, batch, BATCH)
            first += BATCH

    @torch.inference_mode()
    def write(self, seed: int, batch: Unseen) -> np.ndarray:
        """The new tokens of a batch's windows; a worker beside a GPU has its owner do this."""
        torch.manual_seed(seed)
        return self._generate(self._windows_of(batch))

    def _windows(
        self, entry: Entry, start: int = 0, decoded: Iterator[list[np.ndarray]] | None = None
    ) -> Iterator[Window]:
        """The windows of the snippets from `start` on, each frame seen by the tower once."""
        for three in _threes(self._seen(entry, max(start - 1, 0), decoded, tower=True), start):
            yield self._window(three, entry.fps)

    def _unseen(
        self, entry: Entry, start: int = 0, decoded: Iterator[list[np.ndarray]] | None = None
    ) -> Iterator[Unseen]:
        """The same in batches, before the tower."""
        threes = _threes(self._seen(entry, max(start - 1, 0), decoded, tower=False), start)
        for one in threes:
            first, grid = one[0].number, one[0].grid
            pixels, windows = list[Tensor](), []
            for three in chain([one], islice(threes, BATCH - 1)):
                text, kept = self._prompt(three, entry.fps)
                windows.append((text, [snippet.number - first for snippet in three], kept))
                for snippet in three:
                    if snippet.number - first == len(pixels):
                        pixels.append(snippet.pixels.to(arithmetic.dtype()))
            yield Unseen(pixels, grid, windows)

    def _windows_of(self, batch: Unseen) -> list[Window]:
        """The windows of a batch, the tower's tokens in them."""
        height, width = batch.grid
        most = max(PATCHES // (FRAMES * height * width), 1)
        tokens = list[Tensor]()
        for i in range(0, len(batch.pixels), most):
            tokens += self._tower(batch.pixels[i : i + most], batch.grid)
        return [
            Window(text, torch.cat([tokens[i] for i in three])[kept.to(tokens[0].device)])
            for text, three, kept in batch.windows
        ]

    def _tower(self, pixels: Sequence[Tensor], grid: tuple[int, int]) -> Sequence[Tensor]:
        """The tokens of some snippets' frames, [FRAMES · h · w / 4, D] each."""
        device, merge = self._model.device, self._processor.video_processor.merge_size
        together = torch.cat(list(pixels))
        if device.type == "cuda":
            together = together.pin_memory()
        features = self._model.get_video_features(
            together.to(device, non_blocking=True),
            torch.tensor([[FRAMES, *grid]] * len(pixels), device=device),
            video_merge_sizes=torch.tensor([merge] * len(pixels), device=device),
        )
        return features.pooler_output

    def _seen(
        self, entry: Entry, start: int, decoded: Iterator[list[np.ndarray]] | None, tower: bool
    ) -> Iterator[Snippet]:
        """The video's snippets from `start` on, with tokens if the `tower` is to see them."""
        processor = self._processor.video_processor  # so that unusable weights are told first
        size, borders = None, edges(entry.frames)
        times = entry.times
        if times is not None and entry.seconds(np.arange(entry.frames + 1)) is None:
            times = None  # even ones: frames over the rate tell them
        if decoded is None:
            decoded = snippets(entry.path, borders, FRAMES)
        of_all = zip(borders[:-1], borders[1:], decoded, strict=True)
        for number, (first, end, frames) in enumerate(of_all):
            size = size or frames[0].shape[1::-1]
            if number >= start:
                seconds = None if times is None else times[first : end + 1]
                length = int(end - first)
                yield self._look(processor, number, frames, length, size, seconds, tower)

    def _look(
        self,
        processor: Any,
        number: int,
        frames: list[np.ndarray],
        length: int,
        size: tuple[int, int],
        seconds: np.ndarray | None = None,
        tower: bool = True,
    ) -> Snippet:
        """A snippet of a video of this size; a frame is prepared as one of its window's 12."""
        if max(size) > LONGEST_SIDE * min(size):
            raise UnreadableVideo(f"its picture of {size[0]} x {size[1]} is too narrow")
        budget = dict(processor.size)
        budget["longest_edge"] = budget["longest_edge"] // (FRAMES * WINDOW) * FRAMES
        frames = [_of_size(frame, size) for frame in frames]
        ready = processor(np.stack(frames), size=budget, return_tensors="pt")
        pixels, grid = ready["pixel_values_videos"], ready["video_grid_thw"]
        shape = (grid[0, 1].item(), grid[0, 2].item())
        (tokens,) = self._tower([pixels], shape) if tower else [None]
        positions = part_middles(length, FRAMES)
        return Snippet(number, size, length, positions, seconds, shape, pixels, tokens)

    def _window(self, three: Sequence[Snippet], fps: float) -> Window:
        """The prompt of three snippets and the tokens that the model's own pruning leaves."""
        text, kept = self._prompt(three, fps)
        tokens = torch.cat([snippet.tokens for snippet in three if snippet.tokens is not None])
        return Window(text, tokens[kept.to(tokens.device)])

    def _prompt(self, three: Sequence[Snippet], fps: float) -> tuple[str, Tensor]:
        """The prompt of three snippets, and which of their tokens the model's pruning leaves."""
        processor = self._processor.video_processor
        starts = np.cumsum([0, *(snippet.length for snippet in three)]).tolist()
        indices = [
            start + position
            for start, snippet in zip(starts[:-1], three, strict=True)
            for position in snippet.positions
        ]
        if all(snippet.seconds is not None for snippet in three):
            indices, fps = _milliseconds_seen(three), 1000.0  # it divides the one by the other
        about: dict[str, Any] = {
            "video_grid_thw": torch.tensor([[len(indices), *three[0].grid]]),
            "video_merge_sizes": torch.tensor([processor.merge_size]),
            "video_metadata": [VideoMetadata(starts[-1], fps=fps, frames_indices=indices)],
        }
        pixels = torch.cat([snippet.pixels for snippet in three])
        kept = torch.ones(len(pixels) // processor.merge_size**2, dtype=torch.bool)
        if processor.use_token_compression:
            kept = processor._get_compression_mask(
                pixels, about["video_grid_thw"], about["video_merge_sizes"]
            )
        about["video_compression_mask"] = kept
        video = self._processor.replace_video_token(about, 0)
        return TEXT.format(video=video, **self._prompts), kept

    def _generate(self, batch: Sequence[Window]) -> np.ndarray:
        """New tokens [B, at most NEW_TOKENS] of windows of one video."""
        if arithmetic.on_gpu():
            return self._generation([self._embedded(window) for window in batch]).cpu().numpy()
        texts = [window.text for window in batch]
        prompt = self._processor.tokenizer(
            texts, padding=True, padding_side="left", return_tensors="pt"
        ).to(self._model.device)
        embedded = self._model.get_input_embeddings()(prompt["input_ids"])
        video = prompt["input_ids"] == self._processor.video_token_id
        embedded[video] = torch.cat([window.tokens for window in batch])
        new = self._model.generate(inputs_embeds=embedded, attention_mask=prompt["attention_mask"])
        return new.cpu().numpy()

    def _embedded(self, window: Window) -> Tensor:
        """A window's prompt as embeddings, [L, D]."""
        ids = torch.tensor(self._processor.tokenizer(window.text)["input_ids"])
        embedded = self._model.get_input_embeddings()(ids.to(self._model.device))
        embedded[(ids == self._processor.video_token_id).to(embedded.device)] = window.tokens
        return embedded

    @cached_property
    def _generation(self) -> Generation:
        model = self._model
        return Generation(model.model.language_model, model.lm_head, model.generation_config)

    @cached_property
    def _model(self) -> Any:
        model, _ = videollama3.load(self._where, arithmetic.device(), self._commit)
        return self._ready(model)

    def _ready(self, model: Any) -> Any:
        """The model, set for what is written."""
        # In place of the checkpoint's own, whose repetition penalty would hold for greedy too.
        model.generation_config = GenerationConfig(
            **self._decoding,
            eos_token_id=self._stops,
            pad_token_id=self._processor.tokenizer.pad_token_id,
        )
        # The model would compute logits at every place of a prompt, on a GPU most of the memory,
        # where generation looks at those of the last.
        model.lm_head.register_forward_pre_hook(lambda _, args: (args[0][:, -1:],))
        return model

    @cached_property
    def _processor(self) -> Any:
        return videollama3.load_processor(self._where, self._commit)

    @property
    def _commit(self) -> str:
        return "main" if isinstance(self._where, Path) else self.producer["revision"]

    @property
    def _stops(self) -> list[int]:
        return [self._processor.tokenizer.convert_tokens_to_ids(stop) for stop in STOPS]


def _seed(entry: Entry, first: int) -> int:
    """Sampling's, for the batch that begins with snippet `first`."""
    return int.from_bytes(hashlib.sha256(f"{entry.video} {first}".encode()).digest()[:4])


def _threes(seen: Iterator[Snippet], start: int) -> Iterator[tuple[Snippet, Snippet, Snippet]]:
    """Each snippet from `start` on between its neighbours; `seen` begins with the one before it."""
    before = here = next(seen, None)
    if start:
        here = next(seen, None)
    if before is None or here is None:
        return
    for after in chain(seen, [None]):
        yield before, here, after or here
        if after is not None:
            before, here = here, after


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
