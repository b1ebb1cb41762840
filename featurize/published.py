"""The authors' public features as input: VadCLIP's image rows and SemVAD's caption embeddings.

    published:DIR for --vision       NAME__K.npy, [n, 512], crop K of video NAME
    published:DIR for --captioner    NAME.npy, [m, 1, Q] or [m, Q], shared by all crops of NAME

anywhere below DIR. Names hold `__` themselves (XD: `v=2lXh2n0aPyw__#1_label_A`), so K is what
follows the last one. Row i is made from frames [16i, 16i + 16). What is wrong with one video raises
UnreadableVideo, so that a run goes on without it; what is wrong with the folder raises BadInput.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np

from featurize.feature_files import half, identity, keep_one, mapped, stacked
from featurize.sources import SNIPPET_FRAMES, UnreadableVideo
from semvad_jax.files import BadInput, read_json, require

WIDTH = 512  # of CLIP ViT-B/16; public I3D files have the same names and another width
CROPS = range(10)
CUT = 256  # rows that the caption files of longer train videos were reduced to

REPEATED = "had one caption row too few; the last was repeated"
DROPPED = "had one caption row too many; the last was dropped"
BINNED = f"had more visual rows than the {CUT} of the captions; they were averaged to {CUT}"
Word = Annotated[str, msgspec.Meta(min_length=1)]


class WordRow(TypedDict):
    """A word of a class caption, as a store's class_words.json has it."""

    word: Word
    score: NotRequired[float]
    cosine: NotRequired[float]


class PublishedVision:
    """VadCLIP's published image rows below a folder.

    A video has the crops 0 to 9, or one file alone, as in the published test lists.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, dict[int, Path]] = {}
        paths = _arrays(folder, "--vision", "VadCLIP's NAME__K.npy")
        for path in paths:
            name, _, crop = path.stem.rpartition("__")
            if name and crop.isdecimal():
                crops = self._files.setdefault(name, {})
                keep_one(folder, crops, int(crop), path)
        if not self._files:
            raise BadInput(
                f"{folder} has .npy files but none named NAME__K.npy; --vision published:DIR needs "
                "VadCLIP's, one a crop."
            )
        alone = Counter(min(crops) for crops in self._files.values() if len(crops) == 1)
        self.producer = {
            "model": "CLIP ViT-B/16, VadCLIP's release",  # as stores have recorded it
            "pooling": "unknown: the authors do not say how 16 frames became one row",
            "snippets": f"{SNIPPET_FRAMES} frames",
            "crops": "0 centre, 1 to 4 corners (top left, top right, bottom left, bottom right), "
            "5 to 9 their mirror images",
            "videos_with_one_crop": {str(crop): count for crop, count in sorted(alone.items())},
            **identity(folder, paths),
        }

    def snippets(self, name: str) -> int:
        """The number of rows n of a video, from the head of one file; UnreadableVideo."""
        crops = self._crops(name)
        return len(mapped(crops[min(crops)]))

    def rows(self, name: str) -> np.ndarray:
        """The video's crops in order, float16 [crops, n, 512], each file read once.

        Raises UnreadableVideo where crops are missing, damaged, of several lengths or not finite;
        BadInput for an array of objects or of another width.
        """
        files = [path for _, path in sorted(self._crops(name).items())]
        return stacked((path, _of_clip(path)) for path in files)

    def _crops(self, name: str) -> dict[int, Path]:
        crops = self._files.get(name, {})
        if not crops:
            raise UnreadableVideo(f"{name}__K.npy is missing")
        if len(crops) > 1 and set(crops) != set(CROPS):
            missing, unknown = set(CROPS) - set(crops), set(crops) - set(CROPS)
            text = f"crops {_listed(missing)} of 0 to 9 are missing" if missing else ""
            text = text or f"crops {_listed(unknown)} are none of 0 to 9"
            raise UnreadableVideo(f"{text} ({name}__K.npy); all ten or one alone can be used")
        return crops


def _of_clip(path: Path) -> np.ndarray:
    """The rows [n, 512] of a file, memory-mapped; UnreadableVideo, or BadInput for others' rows."""
    rows = mapped(path)
    if rows.ndim != 2 or not len(rows):
        raise UnreadableVideo(f"{path.name} has shape {list(rows.shape)}, not [n, 512]")
    require(
        rows.shape[1] == WIDTH,
        f"{path} has rows of {rows.shape[1]} numbers; --vision published:DIR needs VadCLIP's, of "
        f"{WIDTH}.",
    )
    return rows


class PublishedCaptions:
    """SemVAD's published caption embeddings below a folder; their texts are not public."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}
        paths = _arrays(folder, "--captioner", "SemVAD's NAME.npy")
        for path in paths:
            keep_one(folder, self._files, path.stem, path)
        self.producer = {
            "model": "VideoLLaMA 3, SemVAD's release",  # as stores have recorded it
            "text": "unknown: embeddings without their texts; 768 numbers are what the text tower "
            "of CLIP ViT-L/14 gives",
            "snippets": f"{SNIPPET_FRAMES} frames",
            "train": f"videos of more snippets were reduced to {CUT} rows, the authors do not say "
            "how",
            **identity(folder, paths),
        }

    def snippet_frames(self, entry: object) -> int:
        """How many frames each row spans: the same for every video."""
        return SNIPPET_FRAMES

    def embeddings(self, name: str) -> np.ndarray:
        """The video's caption embeddings, float16 [m, Q].

        Raises UnreadableVideo where its file is missing, damaged, of another form or not finite;
        BadInput for an array of objects.
        """
        path = self._files.get(name)
        if path is None:
            raise UnreadableVideo(f"{name}.npy is missing among the captions")
        rows = mapped(path)
        flat = rows[:, 0] if rows.ndim == 3 and rows.shape[1] == 1 else rows
        if flat.ndim != 2 or not flat.size:
            raise UnreadableVideo(f"{path.name} has shape {list(rows.shape)}, not [n, 1, Q]")
        return half(path, flat)


class Aligned(NamedTuple):
    """Rows that fit each other; `binned_from` as in the store, `note` what was done to them."""

    visual: np.ndarray
    captions: np.ndarray
    binned_from: int | None
    note: str | None


def align(visual: np.ndarray, captions: np.ndarray, split: str) -> Aligned:
    """Visual [crops, n, F] and captions [m, Q] of one video brought to one length.

    m = n                  as they are
    train, m = 256 < n     visual rows averaged in 256 bins, edges ⌊linspace(0, n, 257)⌋
    |m - n| = 1            the last caption row repeated or dropped
    else                   UnreadableVideo

    Sources: method.md §1.3 and §7 rows 29 and 30.
    """
    n, m = visual.shape[1], len(captions)
    if m == n:
        return Aligned(visual, captions, None, None)
    # 257 rows in train fit both rules. The authors reduced every train video of more than 256 rows
    # to 256, so its 256 captions are means over all 257, not the first 256 with one lost.
    if split == "train" and m == CUT < n:
        return Aligned(_binned(visual), captions, n, BINNED)
    if m == n - 1:
        return Aligned(visual, np.concatenate([captions, captions[-1:]]), None, REPEATED)
    if m == n + 1:
        return Aligned(visual, captions[:n], None, DROPPED)
    raise UnreadableVideo(f"{m} caption rows do not fit {n} visual rows")


def class_words(folder: Path, classes: Sequence[str]) -> dict[str, list[dict[str, Any]]] | None:
    """The words of every class in order, as {"word", ...}, from FOLDER/class_words.json.

    Published captions have no texts to count words in, so the words come from there: {class: [word,
    ...]}, or a store's own file. None where there is no such file; BadInput for another form or a
    class without words.
    """
    path = folder / "class_words.json"
    if not path.is_file():
        return None
    refusal = (
        f"does not give words for each of {', '.join(classes)}; it needs "
        '{"CLASS": ["word", ...], ...}'
    )
    listed = read_json(path, dict[str, list[Word | WordRow]], refusal)
    require(all(listed.get(name) for name in classes), f"{path} {refusal}.")
    return {name: [_row(word) for word in listed[name]] for name in classes}


def _row(word: str | WordRow) -> dict[str, Any]:
    """A word as class captions hold it."""
    return {"word": word} if isinstance(word, str) else dict(word)


def _binned(visual: np.ndarray) -> np.ndarray:
    edges = np.linspace(0, visual.shape[1], CUT + 1).astype(int)
    binned = np.empty((len(visual), CUT, visual.shape[2]), visual.dtype)
    for crop, rows in enumerate(visual):  # one by one: the longest video has 61,031 rows a crop
        sums = np.add.reduceat(rows.astype(np.float32), edges[:-1], axis=0)
        binned[crop] = sums / np.diff(edges)[:, None]
    return binned


def _arrays(folder: Path, flag: str, what: str) -> list[Path]:
    paths = sorted(folder.rglob("*.npy"))
    if not paths:
        raise BadInput(f"{folder} has no .npy file; {flag} published:DIR needs {what} below it.")
    return paths


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
