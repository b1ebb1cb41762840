"""The stages that need all videos: the class captions, and the store."""

import sys
from typing import Any

from rich.progress import track

from featurize import class_captions, releases, sources
from featurize.job import Job
from featurize.producers import flags
from featurize.sources import UnreadableVideo
from semvad_jax.config import BadInput
from semvad_jax.store import Writer

PROMPT_TENSORS = "prompt tensors"


def class_texts(job: Job) -> None:
    """Find the class captions from the train videos; embed them and the class names."""
    pieces = job.pieces("class-captions")
    if pieces.has("words"):
        return
    words = _words(job)
    captions = [class_captions.caption(words[name]) for name in job.source.classes]
    pieces.save("class_caption", job.text_model(captions))
    tensors = job.text_model.class_texts(job.source.dataset, job.source.classes)
    for name, tensor in tensors.items():
        pieces.save(name, tensor)
    pieces.save(PROMPT_TENSORS, sorted(tensors))
    pieces.save("words", words)


def _words(job: Job) -> dict[str, list[dict[str, Any]]]:
    """The words of every class caption, in order."""
    classes, model = job.source.classes, job.text_model
    labels = [sources.label_text(name) for name in classes]
    if job.uncounted:
        listed = job.listed_words or {
            name: [{"word": word} for word in label.split()]
            for name, label in zip(classes, labels, strict=True)
        }
        return {c: class_captions.fitting(rows, model.count_tokens) for c, rows in listed.items()}
    labelled, train = [], [e for e in job.source.entries if e.split == "train"]
    for entry in track(train, description="class-captions "):
        try:
            labelled.append((entry.labels, job.texts(entry)))
        except UnreadableVideo:
            continue
    counts = class_captions.count_words(labelled, classes)
    percent = job.arguments.top_percent
    found = class_captions.class_words(counts, labels, model, model.count_tokens, percent)
    for name, rows in zip(classes, found, strict=True):
        if not rows:
            raise BadInput(
                f"No train video of class {name} has captions, so it has no words; give it train "
                "videos or leave the class out."
            )
    return dict(zip(classes, found, strict=True))


def pack(job: Job) -> list[str]:
    """Put the pieces together in the store; videos without features get the reason instead.

    Returns what is to be told; those reasons go to the error stream.
    """
    classes = job.pieces("class-captions")
    tensors = {n: classes.load(n) for n in ("class_caption", *classes.load(PROMPT_TENSORS))}
    producers: dict[str, Any] = {
        "visual": job.vision.producer if job.vision else {"model": "none: caption embeddings"},
        "captions": job.captioner.producer,
        "text": job.text_model.producer,
        "class_captions": job.class_producer,
        "flags": flags(job.arguments),
    }
    failures, notes = [], []
    texts = truncated = 0
    settings = {"dataset": job.source.dataset, "classes": job.source.classes}
    with Writer(job.out, **settings, producers=producers) as writer:
        for entry in track(job.source.entries, description=f"{'pack':15}"):
            try:
                found = job.finished(entry)
            except UnreadableVideo as reason:
                failures.append(f"{entry.video}: {reason}")
                writer.add(job.unreadable(entry, str(reason)))
                continue
            writer.add(found.video, found.visual, found.captions, found.texts)
            notes.append(found.note)
            texts += len(found.texts or ())
            truncated += sum(_is_cut(job.text_model, text) for text in found.texts or ())
        report = [*job.source.notes, *releases.report(notes)]
        if job.uncounted and not job.listed_words:
            report.append(f"each class caption is the class label, since {job.uncounted}")
        writer.producers["captions_cut"] = {"of": texts, "longer than the context": truncated}
        writer.producers["notes"] = report
        if failures:
            print(
                "\n".join([f"{len(failures)} videos could not be read:", *failures]),
                file=sys.stderr,
            )
        writer.finish(tensors, classes.load("words"))
    return report


def _is_cut(model: Any, text: str) -> bool:
    """Whether a text does not fit the model's context; a token is at least a byte."""
    room = model.context - 2
    return len(text.encode()) > room and model.count_tokens(text) > room
