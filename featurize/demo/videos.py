"""The demo's videos as mp4 files with their exact truth, rendered where they are missing."""

import csv
import io
import json
from fractions import Fraction
from pathlib import Path

import av
from rich.progress import track

from featurize.demo.scenes import frames_of
from featurize.demo.scripts import CLASSES, FPS, HEIGHT, SEED, WIDTH, Script, scripts
from featurize.sources import COLUMNS, Entry, Source
from semvad_jax.files import write

VERSION = 2  # of what the scripts and the drawing make; another one renders again


def source(folder: Path) -> Source:
    """The demo as a data set; what is missing of its mp4 files is rendered into `folder`."""
    render(folder, scripts())
    entries = [
        Entry(
            video=s.video,
            split=s.split,
            labels=(s.label,),
            frames=s.frames,
            fps=float(FPS),
            path=folder / f"{s.video}.mp4",
            intervals=s.intervals,
        )
        for s in scripts()
    ]
    return Source("demo", CLASSES, tuple(entries))


def render(folder: Path, wanted: list[Script]) -> None:
    """Writes the wanted videos that FOLDER lacks, and FOLDER/videos.csv with their exact truth."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "made_by.json"
    # "featurize/demo.py" is what this file was called when the videos at hand were rendered.
    recipe = json.dumps({"program": "featurize/demo.py", "version": VERSION, "seed": SEED})
    current = made.is_file() and made.read_text() == recipe
    missing = [s for s in wanted if not (current and (folder / f"{s.video}.mp4").is_file())]
    if not current:
        for script in wanted:
            (folder / f"{script.video}.mp4").unlink(missing_ok=True)
        write(made, recipe.encode())
    for script in track(missing, description="render", disable=not missing):
        write(folder / f"{script.video}.mp4", encode(script))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for s in wanted:
        spans = " ".join(f"{a}-{b}" for _, a, b in s.intervals) if s.split == "test" else ""
        writer.writerow([s.video, s.split, s.label, s.frames, spans])
    write(folder / "videos.csv", table.getvalue().encode())


def encode(script: Script) -> bytes:
    """The video as H.264 in mp4, the same bytes every time.

    That takes one encoder thread and plain C code: x264's vector code rounds differently from run
    to run on pictures this small.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "ultrafast", "crf": "30", "x264-params": "asm=0"}
        for picture in frames_of(script):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
