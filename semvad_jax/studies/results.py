"""docs/RESULTS.md: what the runs, studies and scorers below a folder found, as Markdown.

`python main.py --results DIR` prints it. Everything is read from study.json, summary.json,
config.json and scorer.json, so equal files give equal text. There are no dates, no absolute paths,
and no seconds: times on a shared machine are no results.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from semvad_jax import checkpoint, config, seeds, training_free
from semvad_jax.config import CONFIGS, Config
from semvad_jax.files import BadInput, read_json
from semvad_jax.metrics import MetricName
from semvad_jax.report import findings, real_time
from semvad_jax.report.summary import COLUMNS, NOTES, Summary, mean_and_sd, points, read_summary
from semvad_jax.store.scorers import SCORERS
from semvad_jax.studies import captions, folds
from semvad_jax.studies.numbers import PAPERS, Line, Measured, StudyFile, read_numbers
from semvad_jax.studies.table import heading, papers
from semvad_jax.studies.trained import last_evaluation
from semvad_jax.training_free import Figure, ScorerFile

INTRODUCTION = """\
# Results

Written by `python main.py --results {folder} > docs/RESULTS.md`, not by hand. Per cent on test
videos: mean ± SD over seeds (in brackets the best seed); ± t is half of the mean's 95 % t interval.
*last step* needs no choice; *val* chooses a run's weights on train videos that were set aside;
*test, optimistic* chooses them on the test videos themselves, as the paper's protocol does, and
test − val tells what that adds. A figure of the paper that is marked * was made from other inputs
than ours: nothing follows from its distance to ours."""
NO_TIMES = (
    "The stages' times belong to the machine that they were taken on: this study prints its own."
)
REAL_TIME = """\
A camera's video is never over: here a snippet is scored when so many more snippets have come, its
lookahead, within the last `model.length` of them; *all* is the plain evaluation, of whole videos.
What real time costs is the distance of a row's figures to its last. Where a store's snippets are
equal parts of a video a lookahead is a share of the video, and no time."""
TRAINING_FREE = """\
Systems that train nothing: no seeds, and one score a snippet, so no heads. Per cent on test videos,
in brackets a 95 % interval over the choice of these. *not run* was not judged: a system with a
model needs its weights. *similarity*, of captions to class captions, is not blind to labels: class
captions count words by the train videos' labels. *VLM asked for a score*: VideoLLaMA 3, in the way
of Holmes-VAD and VERA, and neither of them."""
PUBLISHED = {  # of training-free systems, by data set
    "lavad": {"ucf": "AUC 80.28", "xd": "AUC 85.36, AP (trapezoid) 62.01"},
}
OF_A_STUDY = re.compile(r"-[0-9a-f]{12}$")  # how the name of a study's run ends
STORE_FIELDS = ("store", "feature_dim", "caption_dim", "classes", "text_dim", "text_tower")


def markdown(folder: Path) -> str:
    """The whole text: studies, then runs that are no study's, then training-free systems, each in
    the order of their names.

    Raises BadInput where the folder has none of them, and for a damaged file.
    """
    studies = sorted(folder.rglob("study.json"), key=_natural)
    runs = sorted((p.parent for p in folder.rglob("summary.json")), key=_natural)
    runs = [run for run in runs if not OF_A_STUDY.search(run.name)]
    of_studies = {Path(run).resolve() for path in studies for run in _runs_of(path)}
    runs = [run for run in runs if run.resolve() not in of_studies]
    scorers = sorted(folder.rglob("scorer.json"), key=_natural)
    if not (studies or runs or scorers):
        raise BadInput(f"{folder} has neither runs nor studies; train one with --config or --study")
    parts = [INTRODUCTION.format(folder=_portable(str(folder)))]
    if studies:
        parts.append("## Studies")
        parts += [part for path in studies for part in _study(path)]
    if runs:
        parts.append("## Runs")
        parts += [part for run in runs for part in _run(run, folder)]
        parts += _real_time(runs, folder)
    if scorers:
        parts += _training_free(scorers, folder)
    return "\n\n".join(parts) + "\n"


def _natural(path: Path) -> list[tuple[int, str]]:
    """Orders table2 before table10."""
    parts = re.findall(r"\d+|\D+", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _runs_of(path: Path) -> list[str]:
    """The RUN directories that a study.json names."""
    rows = _contents(path).get("rows", [])
    return [row["run"] for row in rows if row.get("run")]


def _contents(path: Path) -> dict[str, Any]:
    refusal = "is no result of a study; run --study again to make it"
    return read_json(path, dict[str, Any], refusal)


# ---- studies


def _study(path: Path) -> Iterator[str]:
    contents = _contents(path)
    if "sentences" in contents:
        yield from _captions(captions.read_result(path))
    elif "folds" in contents:
        yield from _folds(folds.read_result(path))
    elif "together" in contents:
        yield f"### {contents['title']}"
        yield _code(f"python main.py --study {contents['study']}")
        yield NO_TIMES
    else:
        yield from _trained(read_numbers(path))


def _trained(study: StudyFile) -> Iterator[str]:
    """A study's tables: a group of lines for every store, or one for all."""
    yield f"### {study.title}"
    yield _code(_portable(study.command or f"python main.py --study {study.study}"))
    labels = dict.fromkeys(line.data for line in study.rows)
    groups = [[line for line in study.rows if line.data == label] for label in labels]
    for group in [study.rows] if study.by_label else groups:
        stores = dict.fromkeys(
            f"{line.data} = `{_portable(line.store)}`" for line in group if line.store
        )
        yield f"**{', '.join(stores)}**"
        yield from _group(study, group)
    yield from study.apart
    if study.note:
        yield study.note


def _group(study: StudyFile, group: Sequence[Line]) -> Iterator[str]:
    ours = [line for line in group if line.metrics]
    for line in ours:
        if study.each_seed:
            yield from _each_seed(line)
        if line.sd_from:
            yield from _grid(line, line.sd_from)
    names = [MetricName.parse(text) for line in ours for text in line.metrics or ()]
    for metric in dict.fromkeys(name.metric for name in names):
        yield from _metric(group, metric)
    yield from filter(None, [line.explored for line in ours])
    classes = dict.fromkeys(line.classes for line in ours if line.classes)
    yield from classes
    heads = dict.fromkeys(line.selected_by for line in ours if line.selected_by)
    if heads:
        yield f"val, test: weights selected by the {' or '.join(heads)} head."
    others = dict.fromkeys(text for line in ours for text in line.inputs_not_the_papers or ())
    if others:
        yield f"\\* The paper's figures were made from other inputs; here: {', '.join(others)}."


def _metric(group: Sequence[Line], metric: str) -> Iterator[str]:
    """One metric of a table's lines beside the paper's, by every selection; and the optimism."""
    by_line = [_of_metric(line, metric) for line in group]
    names = [name for values in by_line for name in values]
    selections = [s for s in NOTES if any(name.selection == s for name in names)]
    heads = list(dict.fromkeys(name.head for name in names))
    counts = dict.fromkeys(
        f"{len(line.weight_seeds)} {'pairs of seeds' if line.sd_from else 'seeds'}"
        for line in group
        if line.weight_seeds
    )
    yield f"{heading(metric)}, {' or '.join(heads)} head; n = {' or '.join(counts)}"
    star = "\\*" if any(line.inputs_not_the_papers for line in group) else ""
    rows, best, optimism = [], [], []
    for line, values in zip(group, by_line, strict=True):
        figure = line.paper_per_cent.get(metric)
        if not values and figure is None:
            continue
        head = next((name.head for name in values), "")
        label = f"{line.label} ({head})" if head and len(heads) > 1 else line.label
        shown = [values.get(MetricName(selection, head, metric)) for selection in selections]
        cells = [_mean(value) for value in shown]
        theirs = papers(figure) + (star if figure else "")
        rows.append([label, *cells[:1], _half(shown[0]), *cells[1:], theirs])
        if figure and figure.best is not None:
            bests = [f"{100 * value.best:.2f}" if value else "–" for value in shown]
            best.append([label, *bests, f"{figure.best:.2f}{star}"])
        difference = (line.selection_optimism or {}).get(f"{head}/{metric}")
        if difference:
            interval = difference.t_interval
            between = points(interval) if interval else "–"
            optimism.append([label, f"{100 * difference.mean:+.2f}", between])
    notes = [_note(selection) for selection in selections]
    yield _table(["", *notes[:1], "± t", *notes[1:], "the paper"], rows)
    if best:
        yield _table(["best seed", *notes, "the paper"], best)
    if optimism:
        yield _table(["selection optimism, points", "test − val", "its 95 % interval"], optimism)


def _of_metric(line: Line, metric: str) -> dict[MetricName, Measured]:
    """A line's values of one metric, by every selection."""
    values = {MetricName.parse(text): value for text, value in (line.metrics or {}).items()}
    return {name: value for name, value in values.items() if name.metric == metric}


def _each_seed(line: Line) -> Iterator[str]:
    """The first metric of every seed."""
    values = _first_metric(line)
    first = next(iter(values))
    yield f"{line.label}: {heading(first.metric)} of each seed, {first.head} head"
    pairs = zip(line.weight_seeds or (), line.data_seeds or (), strict=True)
    rows = [
        [f"{weights}, {order}", *(f"{100 * value.values[k]:.2f}" for value in values.values())]
        for k, (weights, order) in enumerate(pairs)
    ]
    yield _table(["weight seed, data seed", *(_note(name.selection) for name in values)], rows)


def _grid(line: Line, sd_from: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """The first metric of every pair of seeds, and how much of its SD each of the two brings."""
    weight_seeds = list(dict.fromkeys(line.weight_seeds or ()))
    data_seeds = list(dict.fromkeys(line.data_seeds or ()))
    for name, value in _first_metric(line).items():
        grid = np.reshape(value.values, (len(weight_seeds), len(data_seeds)))
        yield f"{line.label}: {heading(name.metric)}, {name.head} head, {_note(name.selection)}"
        rows = [
            [str(seed), *(f"{100 * x:.2f}" for x in values)]
            for seed, values in zip(weight_seeds, grid, strict=True)
        ]
        yield _table(["weight seed ╲ data seed", *map(str, data_seeds)], rows)
    if line.paper_pairs:
        place = {
            f"{w}, {d}": k
            for k, (w, d) in enumerate(
                zip(line.weight_seeds or (), line.data_seeds or (), strict=True)
            )
        }
        star = "\\*" if line.inputs_not_the_papers else ""
        rows = [
            [
                pair,
                *(
                    f"{100 * v.values[place[pair]]:.2f}" if pair in place else "–"
                    for v in _first_metric(line).values()
                ),
                f"{figure:.2f}{star}",
            ]
            for pair, figure in line.paper_pairs.items()
        ]
        names = [_note(name.selection) for name in _first_metric(line)]
        yield _table(["the paper's cells: weight seed, data seed", *names, "the paper"], rows)
    parts = next(iter(sd_from.values()))
    rows = [[part, *(f"{100 * split[part]:.2f}" for split in sd_from.values())] for part in parts]
    yield _table(["SD that comes from, points", *(_note(s) for s in sd_from)], rows)


def _first_metric(line: Line) -> dict[MetricName, Measured]:
    names = [MetricName.parse(text) for text in line.metrics or {}]
    return _of_metric(line, names[0].metric)


def _folds(result: folds.Result) -> Iterator[str]:
    yield f"### {result.title}"
    yield _code(f"python main.py --study {result.study} --folds {result.folds}")
    yield folds.heading(result)
    yield _table(*folds.rows_of(result))
    if result.note:
        yield result.note


def _captions(result: captions.Result) -> Iterator[str]:
    yield f"### {result.title}"
    data = [f"{row.data}={row.store}" for row in result.rows] + [f"sentences={result.sentences}"]
    own = ["demo=demo", "sentences=demo/sentences.json"]
    words = [] if data == own else ["--data", *data]
    yield _code(_portable(shlex.join(["python", "main.py", "--study", result.study, *words])))
    yield captions.HEADING
    if result.pairs:
        encoders = list(result.pairs[0].cosine)
        rows = [
            [f"{pair.caption} / {pair.human}", *(f"{c:.3f}" for c in pair.cosine.values())]
            + [f"{pair.paper:g}"]
            for pair in result.pairs
        ]
        yield _table(["caption / human sentence", *encoders, "the paper"], rows)
    for row in result.rows:
        yield f"**{row.data} = `{_portable(row.store)}`**: {captions.counted(row.counts)}"
        for encoder, groups in row.encoders.items():
            yield encoder
            yield _table(
                ["same moment against", "same", "other", "difference ± t", "nearer, %"]
                + ["videos", "sentences"],
                [
                    [f"{another}, {group}".removesuffix(", all"), *captions.cells(comparison)]
                    for group, comparisons in groups.items()
                    for another, comparison in comparisons.items()
                ],
            )
    yield (
        f"The paper has {result.paper:.2f}, of other captions by another encoder and without a "
        "baseline: nothing follows from its distance to ours."
    )


# ---- runs


def _run(run: Path, folder: Path) -> Iterator[str]:
    """A run's tables: selection and head by AUC, AP and mAP; and the selection optimism."""
    summary = read_summary(run / "summary.json")
    cfg = checkpoint.read_config(run)
    shown = Path(_portable(str(folder))) / run.relative_to(folder)
    yield f"### {shown}"
    yield _code(command(summary, cfg, shown))
    yield f"{summary.title}; {summary.steps} steps; on {summary.device}."
    latest = last_evaluation(run)
    head_on_val = findings.head_on_val(latest, cfg.eval.metric)
    metrics = [m for m in COLUMNS if any(name.metric == m for name in summary.metrics)]
    rows = []
    for selection, head in findings.rows_of(summary.metrics):
        spreads = [summary.metrics.get(MetricName(selection, head, metric)) for metric in metrics]
        cells = [f"{mean_and_sd(s)} ({100 * s.best:.2f})" if s else "" for s in spreads]
        mark = " (chosen on val)" if head == head_on_val else ""
        rows.append([_note(selection), head + mark, *cells])
    yield _table(["weights", "head", *(COLUMNS[metric] for metric in metrics)], rows)
    optimism = findings.optimism_of_heads(summary.metrics, cfg.eval.metric)
    if optimism:
        yield _table(
            [f"selection optimism, {cfg.eval.metric.upper()}, points", "test − val"]
            + ["its 95 % interval"],
            [[h, f"{100 * o.mean:+.2f}", points(o.interval)] for h, o in optimism.items()],
        )


def _real_time(runs: Sequence[Path], folder: Path) -> Iterator[str]:
    """What runs are worth at each lookahead that they were judged at, a table a metric."""
    judged = {run: found for run in runs if (found := real_time.read(run))}
    if not judged:
        return
    yield "## In real time"
    yield REAL_TIME
    shown = {run: Path(_portable(str(folder))) / run.relative_to(folder) for run in judged}
    call = "python main.py --restore {} --eval --lookahead {}"
    yield _code("\n".join(call.format(shown[r], " ".join(map(str, judged[r]))) for r in judged))
    lookaheads = real_time.in_order({k for found in judged.values() for k in found})
    for metric in ("auc", "ap"):
        rows = []
        for run, found in judged.items():
            rows_of = findings.rows_of(next(iter(found.values())).metrics)
            for selection, head in (row for row in rows_of if row[1] != "max"):
                name = MetricName(selection, head, metric)
                cells = [
                    mean_and_sd(found[k].metrics[name]) if k in found else "–" for k in lookaheads
                ]
                rows.append([str(shown[run]), head, _note(selection), *cells])
        yield f"frame {metric.upper()} at a lookahead of … snippets"
        yield _table(["run", "head", "weights", *map(str, lookaheads)], rows)


# ---- training-free systems


def _training_free(files: Sequence[Path], folder: Path) -> Iterator[str]:
    """A table a store: what was judged, and which systems were not run."""
    judged = {path: training_free.read_judged(path) for path in files}
    yield "## Training-free"
    yield TRAINING_FREE
    yield _code("\n".join(_scorer_command(path, one, folder) for path, one in judged.items()))
    for store in dict.fromkeys(one.store for one in judged.values()):
        of_store = [one for one in judged.values() if one.store == store]
        yield f"**{Path(store).name} = `{_portable(store)}`**: {of_store[0].judged}"
        yield from _scorers_of(of_store)


def _scorers_of(judged: Sequence[ScorerFile]) -> Iterator[str]:
    """The table of one store, and the sentences below it."""
    metrics = [m for m in COLUMNS if any(m in _by_metric(one) for one in judged)]
    dataset = judged[0].dataset if judged[0].dataset in PAPERS else PAPERS[0]
    there = [one.scorer for one in judged]
    rows = []
    for scorer in [*SCORERS, *(name for name in dict.fromkeys(there) if name not in SCORERS)]:
        figure = PUBLISHED.get(scorer, {}).get(dataset)
        published = "–" if figure is None else f"{figure}\\*"
        name = SCORERS.get(scorer, scorer)
        if scorer not in there:
            rows.append([name, "*not run*", *["–"] * len(metrics), published])
        for one in (one for one in judged if one.scorer == scorer):
            values = _by_metric(one)
            cells = [_with_interval(values[m]) if m in values else "–" for m in metrics]
            rows.append([name, one.model, *cells, published])
    yield _table(["", "model", *(COLUMNS[metric] for metric in metrics), "published"], rows)
    yield from (
        f"{SCORERS.get(one.scorer, one.scorer)}: {one.unread}." for one in judged if one.unread
    )
    inputs = dict.fromkeys(text for one in judged for text in one.inputs_not_the_papers)
    here = f"; here: {', '.join(inputs)}" if inputs else ""
    yield (
        "\\* LAVAD's own figures were made from other inputs, captions by five BLIP-2 models that "
        f"Llama 2 13B read{here}."
    )


def _by_metric(judged: ScorerFile) -> dict[str, Figure]:
    return {MetricName.parse(name).metric: figure for name, figure in judged.metrics.items()}


def _with_interval(figure: Figure) -> str:
    low, high = (f"{100 * end:.2f}" for end in figure.interval)
    return f"{100 * figure.value:.2f} ({low} to {high})"


def _scorer_command(path: Path, judged: ScorerFile, folder: Path) -> str:
    """The call that judges a system again."""
    words = ["python", "main.py", "--scorer", judged.scorer, "--data", _portable(judged.store)]
    place = Path(_portable(str(folder))) / path.parent.relative_to(folder)
    if place != training_free.home(judged.scorer, Path(judged.store)):
        words += ["--out", str(place)]
    return shlex.join(words)


def command(summary: Summary, cfg: Config, run: Path) -> str:
    """The call that makes a run: its config by name, and every setting that differs from it."""
    words = ["python", "main.py", "--config", summary.config]
    weight_seeds, data_seeds = summary.weight_seeds, summary.data_seeds
    if weight_seeds == config.default_seeds(len(weight_seeds)):
        words += ["--vmap-seeds", str(len(weight_seeds))]
    else:
        words += ["--seeds", ",".join(map(str, weight_seeds))]
    if data_seeds != weight_seeds:
        words += ["--data-seeds", ",".join(map(str, data_seeds))]
    if (CONFIGS / f"{summary.config}.py").is_file():
        words += _settings(summary.config, cfg)
    if run != Path("runs") / summary.config:
        words += ["--out", str(run)]
    return shlex.join(words)


def _settings(name: str, cfg: Config) -> list[str]:
    """--model, --data and --set that make the settings of a run from those of a config file."""
    base = config.load(name)
    words, overrides = [], []
    if cfg.model.name != base.model.name:
        words += ["--model", cfg.model.name]
        overrides = [f"model.name={cfg.model.name}"]
    if cfg.data.store != (base.data.store or f"features/{cfg.data.dataset}"):
        words += ["--data", _portable(cfg.data.store)]
    # a preset and a protocol change what other settings are unless they are set
    for section, field in (("model", "preset"), ("train", "protocol")):
        value = asdict(cfg)[section][field]
        if value != asdict(base)[section][field]:
            overrides.append(f"{section}.{field}={value}")
            words += ["--set", overrides[-1]]
    base = asdict(seeds.for_device(config.load(name, overrides)))
    base["train"]["remat"] = cfg.train.remat  # these change no figure
    base["data"]["placement"] = cfg.data.placement
    for section, fields in asdict(cfg).items():
        for field, value in fields.items():
            filled_in = section == "data" and field in STORE_FIELDS
            if not filled_in and value != base[section][field] and value is not None:
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                words += ["--set", f"{section}.{field}={text}"]
    return words


# ---- Markdown


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: names at the left, figures at the right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _code(text: str) -> str:
    return f"```\n{text}\n```"


def _note(selection: str) -> str:
    return f"*{NOTES[selection]}*" if selection == "test" else NOTES[selection]


def _mean(value: Measured | None) -> str:
    if value is None:
        return "–"
    sd = "" if value.sd is None else f" ± {100 * value.sd:.2f}"
    return f"{100 * value.mean:.2f}{sd}"


def _half(value: Measured | None) -> str:
    if value is None or value.t_interval is None:
        return "–"
    low, high = value.t_interval
    return f"{50 * (high - low):.2f}"


def _portable(words: str) -> str:
    """The same words with paths that hold on another machine: from here, or their last name."""

    def shorter(word: str) -> str:
        label, equals, path = word.rpartition("=")
        if not Path(path).is_absolute():
            return word
        here = Path.cwd()
        inside = Path(path).is_relative_to(here)
        return label + equals + (str(Path(path).relative_to(here)) if inside else Path(path).name)

    return shlex.join(map(shorter, shlex.split(words)))
