"""--dry-run: what a call would make, how large it would be and about how long it would take."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from featurize.job import Job, announced_frames
from featurize.pieces import digest
from featurize.sources import SNIPPET_FRAMES, USUAL_FPS, Entry, UnreadableVideo

A_MINUTE = 60.0  # seconds that a stage is measured for, if there is so much to do
SAMPLE_SNIPPETS = 32  # of one video
CAPTION_BYTES = 200  # about a line of captions.jsonl


def report(job: Job) -> None:
    """Print videos, snippets, bytes and hours of each stage that works video by video.

    Nothing is kept. Times are those of one process on this machine that has measured each stage for
    a minute, on the starts of videos from all over the list.
    """
    lengths = job.expected
    table = Table("stage", "videos to do", "snippets to do", "snippets/s", "hours", "GB in all")
    for stage in job.made:
        if stage in job.request.stages:
            left = [e for e in job.entries if not job.settled(stage, e)]
            rate, size = _measured(job, stage, left or job.entries)
            snippets = sum(lengths[entry.video] for entry in left)
            hours = f"{snippets / rate / 3600:.2f}" if rate else "unknown"
            size = f"{size * sum(lengths.values()) / 1e9:.3f}" if rate else "unknown"
            table.add_row(stage, f"{len(left):,}", f"{snippets:,}", f"{rate:.1f}", hours, size)
    console = Console(markup=False, emoji=False)
    console.print(table)
    unknown = sum(n == 0 for n in lengths.values())
    console.print(
        f"{len(lengths)} videos of {job.request.videos}, {sum(lengths.values()):,} snippets"
        + (f", {unknown} videos of unknown length" if unknown else "")
        + f"; the store would be {job.request.out}. Nothing was written. Each stage was measured "
        "alone, for up to a minute; images and captions together share one decoding.",
        soft_wrap=True,
    )


def _measured(job: Job, stage: str, entries: Sequence[Entry]) -> tuple[float, float]:
    """Snippets a second and bytes a snippet; zeros where no video can be read."""
    begun, snippets, seconds, size = None, 0, 0.0, 0
    for entry in sorted(entries, key=lambda entry: digest(entry.video)):  # any, but the same again
        if begun and time.perf_counter() - begun >= A_MINUTE:
            break
        try:
            run = _short_run(job, stage, entry)
            if begun is None:
                run(1)  # loads the model
                begun = time.perf_counter()
            started = time.perf_counter()
            piece = run(SAMPLE_SNIPPETS)
        except UnreadableVideo:
            continue
        seconds += time.perf_counter() - started
        is_array = isinstance(piece, np.ndarray)
        snippets += piece.shape[-2] if is_array else len(piece)
        size += piece.nbytes if is_array else CAPTION_BYTES * len(piece)
    return (snippets / max(seconds, 1e-9), size / snippets) if snippets else (0.0, 0.0)


def _short_run(job: Job, stage: str, entry: Entry) -> Callable[[int], Any]:
    """The stage on the first snippets of a video, as many as it is asked for."""

    def start(snippets: int) -> Entry:
        if not (frames := min(announced_frames(entry), snippets * SNIPPET_FRAMES)):
            raise UnreadableVideo("of unknown length")
        return replace(entry, frames=frames, fps=entry.fps or USUAL_FPS)

    def captions(snippets: int) -> list[str]:
        decodes = job.looks_at_videos("captions")
        return job.captioner(start(snippets) if decodes else entry)[:snippets]

    if stage == "visual":
        return lambda snippets: job.visual_piece(start(snippets))
    if stage == "captions":
        return captions
    texts = captions(SAMPLE_SNIPPETS)
    return lambda snippets: job.text_model(texts[:snippets]).astype(np.float16)
