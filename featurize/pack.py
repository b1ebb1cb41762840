"""The stages that need all videos: the class captions, and the store."""

import sys
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from rich.progress import track

from featurize import class_captions, feature_files, plan, published, sources
from featurize.feature_files import FeatureFiles
from featurize.job import Job
from featurize.request import CAPTIONERS, CUT
from featurize.sources import SNIPPET_FRAMES, USUAL_FPS, Entry, UnreadableVideo, edges
from semvad_jax.files import BadInput, require
from semvad_jax.store import Video, Writer

ALL = "all"  # what these pieces are made from: no single video


def class_texts(job: Job) -> None:
    """Find the class captions from the train videos; embed them and the class names.

    Done anew each time it is asked for: a video may have become readable since.
    """
    pieces = job.pieces("class-captions")
    words, notes = _words(job)
    captions = [class_captions.caption(words[name]) for name in job.source.classes]
    tensors = {"class_caption": job.text_model(captions)}
    tensors |= job.text_model.class_texts(job.source.dataset, job.source.classes)
    for name, tensor in tensors.items():
        pieces.save(name, ALL, tensor)
    pieces.save("made", ALL, {"tensors": sorted(tensors), "words": words, "notes": notes})


def _words(job: Job) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The words of every class caption, in order; and notes on them for the report.

    Where they cannot be counted, those of the class label stand in.
    """
    classes, model = job.source.classes, job.text_model
    labels = {name: sources.label_text(name) for name in classes}
    in_labels = {c: [{"word": word} for word in text.split()] for c, text in labels.items()}
    if job.uncounted:
        note = f"each class caption is the class label, since {job.uncounted}"
        listed = job.listed_words or in_labels
        fitting = {
            c: class_captions.fitting(rows, model.count_tokens) for c, rows in listed.items()
        }
        of_own = bool(job.request.entries)  # nobody trains on a user's own videos
        return fitting, [] if job.listed_words or of_own else [note]
    labelled = []
    train = [e for e in job.source.entries if e.split == "train" and e.video not in job.val]
    for entry in track(train, description="class-captions "):
        try:
            labelled.append((entry.labels, job.texts(entry)))
        except UnreadableVideo:
            continue
    counts = class_captions.count_words(labelled, classes)
    percent = job.request.top_percent
    counted = class_captions.class_words(
        counts, list(labels.values()), model, model.count_tokens, percent, job.request.words
    )
    words = {name: rows or in_labels[name] for name, rows in zip(classes, counted, strict=True)}
    captioned = {label for labels, texts in labelled if any(texts) for label in labels}
    whys = {
        "no train video of {} has captions": [],
        "the captions of {} have no word of two letters": [],
        "no word of the captions of {} fits the text encoder": [],
    }
    silent, wordless, unfit = whys.values()
    for name, count, rows in zip(classes, counts, counted, strict=True):
        if not rows:
            (unfit if count else wordless if name in captioned else silent).append(name)
    return words, [
        f"{why.format(', '.join(names))}; the class label stands in"
        for why, names in whys.items()
        if names
    ]


class Finished(NamedTuple):
    """All that the store keeps of one video; `texts` None where only embeddings are known."""

    video: Video
    visual: np.ndarray
    captions: np.ndarray
    texts: list[str] | None
    note: str | None  # how rows were brought to one length
    differing: list[str]  # what the list says of it and the file does not


class _Rows(NamedTuple):
    """The rows that a video is to have, before its captions are brought to them."""

    entry: Entry  # with its frames known
    visual: np.ndarray | None  # [crops, n, F]; None where the captions' embeddings are taken
    edges: np.ndarray  # the frames at which rows begin and the last one ends, [n + 1]
    snippet_frames: int | None  # None: equal parts of the video
    note: str | None = None


def _rows(job: Job, entry: Entry) -> _Rows:
    """The rows of a video; raises UnreadableVideo."""
    if isinstance(job.vision, published.PublishedVision):
        visual = job.vision.rows(entry.video)
        # the published protocol: a row is 16 frames, the last one too
        entry = entry.of_length(SNIPPET_FRAMES * visual.shape[1], USUAL_FPS)
        return _Rows(entry, visual, edges(entry.frames), SNIPPET_FRAMES)
    if isinstance(job.vision, FeatureFiles):
        if not entry.frames and not entry.path.is_file():
            require(
                not job.vision.even,
                f"the frames of {entry.video} are not known; --rows even needs them in videos.csv, "
                "or the video itself.",
            )
            entry = entry.of_length(SNIPPET_FRAMES * job.vision.snippets(entry.video), USUAL_FPS)
        entry = job.known(entry)
        fitted = job.vision.fitted(entry)
        span = None if job.vision.even else SNIPPET_FRAMES
        return _Rows(entry, fitted.rows, fitted.edges, span, fitted.note)
    visual = job.kept("visual", entry) if job.vision else None
    entry = job.known(entry)
    span = job.captioner.snippet_frames(entry)
    return _Rows(entry, visual, edges(entry.frames, span), span)


def finished(job: Job, entry: Entry) -> Finished:
    """What the stages made of a video, brought to one length; raises UnreadableVideo."""
    if job.embedded_captions:
        texts, captions = None, job.captioner.embeddings(entry.video)
        if captions.shape[1] != job.text_model.width:
            raise BadInput(
                f"--captioner {job.request.captioner} has embeddings of {captions.shape[1]} "
                f"numbers, but --text {job.request.text} makes {job.text_model.width}; give the "
                "text model that made them."
            )
    else:
        texts, captions = job.texts(entry), job.kept("text", entry)
    rows = _rows(job, entry)
    entry, visual, binned_from, note = rows.entry, rows.visual, None, rows.note
    # a caption a row, but for the last one or for long train videos
    by_count = job.embedded_captions and rows.snippet_frames is not None
    if by_count or isinstance(job.vision, published.PublishedVision):
        visual = captions[None] if visual is None else visual
        visual, captions, binned_from, note = published.align(visual, captions, entry.split)
        texts = texts and (texts + texts[-1:])[: len(captions)]
    else:
        places = _in_the_middle(rows.edges, job.caption_edges(entry), len(captions))
        captions, texts = captions[places], texts and [texts[place] for place in places]
        visual = captions[None] if visual is None else visual
    made = Video(
        video=entry.video,
        split=entry.split,
        labels=entry.labels,
        frames=entry.frames,
        fps=entry.fps,
        snippets=visual.shape[1],
        snippet_frames=rows.snippet_frames,
        crops=len(visual),
        binned_from=binned_from,
        intervals=entry.intervals if entry.split == "test" else (),
        edges=tuple(rows.edges.tolist()) if rows.snippet_frames is None else None,
    )
    timed = replace(made, seconds=entry.seconds(made.frame_edges))
    notes = [f"{entry.video}: {entry.note}"] if entry.note else []
    return Finished(timed, visual, captions, texts, note, notes)


def _in_the_middle(rows: np.ndarray, captions: np.ndarray, count: int) -> np.ndarray:
    """Which of the `count` captions is said of each row's middle frame, [n]; both are given by the
    frames at which they begin and the last one ends.

    Raises UnreadableVideo where there are captions of another length of video.
    """
    if abs(count - (len(captions) - 1)) > 1:
        raise UnreadableVideo(f"{count} captions do not fit its {captions[-1]} frames")
    middle = (rows[:-1] + rows[1:]) // 2
    return np.clip(np.searchsorted(captions, middle, side="right") - 1, 0, count - 1)


def unreadable(entry: Entry, reason: str) -> Video:
    """The store's record of a video without features."""
    named = {"video": entry.video, "split": entry.split, "labels": entry.labels}
    return Video(**named, frames=entry.frames, fps=entry.fps, snippets=0, error=reason)


def pack(job: Job) -> list[str]:
    """Put the pieces together in the store; videos without features get the reason instead.

    Returns the report's notes; those reasons go to the error stream.
    """
    classes = job.pieces("class-captions")
    if (made := classes.load("made", ALL)) is None:
        raise BadInput("Stage class-captions has no result yet; run it first.")
    tensors = {name: classes.load(name, ALL) for name in made["tensors"]}
    producers: dict[str, Any] = {
        "visual": job.vision.producer if job.vision else {"model": "none: caption embeddings"},
        "captions": job.captioner.producer,
        "text": job.text_model.producer,
        "class_captions": job.class_producer,
        "class_names": job.text_model.class_producer,
        "flags": job.request.flags,
    }
    failures, notes, differing = [], [], list[str]()
    texts = truncated = cut = 0
    settings = {"dataset": job.source.dataset, "classes": job.source.classes}
    with Writer(job.request.out, **settings, producers=producers) as writer:
        for entry in track(job.source.entries, description=f"{'pack':15}"):
            try:
                features = finished(job, entry)
            except UnreadableVideo as reason:
                failures.append(f"{entry.video}: {reason}")
                writer.add(unreadable(entry, str(reason)))
                continue
            writer.add(features.video, features.visual, features.captions, features.texts)
            notes.append(features.note)
            differing += features.differing
            texts += len(features.texts or ())
            truncated += sum(_is_cut(job.text_model, text) for text in features.texts or ())
            if job.request.captioner.name in CAPTIONERS:
                cut += sum(text.endswith(CUT) for text in features.texts or ())
        report = [*job.source.notes, *feature_files.report(notes), *made["notes"]]
        if not job.request.entries and (unknown := plan.unknown_truth(job.source)):
            names = sources.some([entry.video for entry in unknown])
            report.append(f"it is not known where the anomalies are in {names}")
        if cut:
            report.append(f"{cut} of {texts} captions were cut off at the limit of new tokens")
        writer.producers["captions_cut"] = {"of": texts, "longer than the context": truncated}
        writer.producers["notes"] = [*report, *differing]
        if failures:
            told = [f"{len(failures)} videos could not be read:", *failures]
            print("\n".join(told), file=sys.stderr)
        writer.finish(tensors, made["words"])
    return [*report, sources.some(differing)] if differing else report


def _is_cut(model: Any, text: str) -> bool:
    """Whether a text does not fit the model's context; a token is at least a byte."""
    room = model.context - 2
    return len(text.encode()) > room and model.count_tokens(text) > room
