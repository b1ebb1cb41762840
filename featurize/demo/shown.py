"""Two of the demo's test videos and their pictures, beside the demo's store for people to look at;
semvad_jax/detection/pictures.py says where.
"""

from pathlib import Path

from featurize.demo.scenes import painter
from featurize.demo.scripts import Script, scripts
from featurize.demo.videos import encode
from featurize.sources import SNIPPET_FRAMES
from featurize.thumbnails import thumbnail
from semvad_jax.files import write
from semvad_jax.store.format import BESIDE

SHOWN = ("Explosion033_test", "Normal000_test")


def write_shown(store: Path) -> None:
    """Writes the videos, and a picture of each of their snippets, where the demo has them."""
    for script in scripts():
        if script.video in SHOWN:
            _write(store / BESIDE, script)


def _write(folder: Path, script: Script) -> None:
    pictures, picture_at = folder / script.video, painter(script)
    pictures.mkdir(parents=True, exist_ok=True)
    write(folder / f"{script.video}.mp4", encode(script))
    for snippet, start in enumerate(range(0, script.frames, SNIPPET_FRAMES)):
        middle = min(start + SNIPPET_FRAMES // 2, script.frames - 1)
        write(pictures / f"{snippet}.jpg", thumbnail(picture_at(middle)))
