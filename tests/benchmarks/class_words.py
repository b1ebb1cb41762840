"""The class captions that eq. 1 finds in UCA's human sentences, beside the authors' released lists.

python tests/benchmarks/class_words.py [--top-percent 10]

Prints a Markdown table, a row a class. `C^(m)` is how many words our class caption has, `list` how
many the authors' list has, `shared` how many are in both, `of candidates` how many of the list are
among the top x % before the cut to 77 tokens. The last two columns are the place of the class's own
list among all 14: by the Jaccard index of the words, and by the cosine of MiniLM's embeddings of
both as texts (the list cut to 77 tokens, as ours is); ties count against it. UCA's sentences are
people's, the authors' captions a network's, and MiniLM stands in for CLIP: the words need not
agree.
"""

import argparse
import runpy
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))
runpy.run_path(str(TESTS / "cpu_torchvision/sitecustomize.py"))

from featurize import class_captions, sources  # noqa: E402
from featurize.minilm import MiniLM  # noqa: E402
from tests.support import uca  # noqa: E402

CLASSES = sources.UCF_CLASSES


def main() -> None:
    parser = argparse.ArgumentParser(description="Our class captions beside the released lists.")
    parser.add_argument("--top-percent", type=float, default=10.0)
    percent = parser.parse_args().top_percent
    if not uca.SHARED.is_dir():
        sys.exit(f"{uca.ABSENT}.")
    model, labelled = MiniLM(), uca.train_captions()
    counts = class_captions.count_words(labelled, CLASSES)
    labels = [sources.label_text(name) for name in CLASSES]
    found = class_captions.class_words(counts, labels, model, model.count_tokens, percent)
    ours = [[row["word"] for row in rows] for rows in found]
    top = [{w for w, _ in class_captions.candidates(counts, m, percent)} for m in range(len(ours))]
    released = uca.released_words()
    lists = [released[name] for name in CLASSES]
    by_words = uca.places(uca.shared_words(ours, lists))
    by_text = uca.places(uca.text_cosines(ours, uca.cut(lists, model), model))
    print(f"{len(labelled)} train videos, top {percent:g} %\n")
    print("| class | C^(m) | list | shared | of candidates | place by words | by text |")
    print("|---|---|---|---|---|---|---|")
    for m, name in enumerate(CLASSES):
        shared = len({*ours[m]} & {*lists[m]})
        row = (len(ours[m]), len(lists[m]), shared, len(top[m] & {*lists[m]}))
        print(f"| {name} | {' | '.join(map(str, (*row, by_words[m], by_text[m])))} |")
    near = [sum(place <= 3 for place in places[1:]) for places in (by_words, by_text)]
    print(
        f"\nOwn list among the 3 nearest: {near[0]} (words) and {near[1]} (text) of 13 anomaly "
        "classes."
    )


if __name__ == "__main__":
    main()
