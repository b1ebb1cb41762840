"""What a study found, printed beside the paper's figures, and a drawing of the seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from semvad_jax.report import plots
from semvad_jax.report.findings import Spread
from semvad_jax.report.summary import NOTES, mean_and_sd, points
from semvad_jax.report.tables import plain_console, table
from semvad_jax.statistics import variance_split
from semvad_jax.studies.numbers import (
    explored,
    grids,
    lines,
    numbers,
    optimism,
    paper_figure,
    seed_interval,
    settings_apart,
    write_numbers,
)
from semvad_jax.studies.study import HEADLINE, Figure, Options, Study
from semvad_jax.studies.trained import Result, groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADINGS = {
    "auc": "frame AUC",
    "ap": "frame AP",
    "ap_trapezoid": "frame AP, trapezoid",
    "auc_abnormal": "frame AUC within anomalous videos",
    "map": "average mAP, public rules",
}


def tell(study: Study, name: str, results: Sequence[Result], options: Options) -> None:
    """Prints the study and writes OUT/<study>/study.json; with `each_seed` the metric against the
    seed also as a drawing.
    """
    home = options.out / name
    home.mkdir(parents=True, exist_ok=True)
    write_numbers(home / "study.json", numbers(study, name, options, results))
    console = plain_console()
    console.print(f"\n{study.title}\nTest videos, per cent: mean ± SD; mean ± t: its 95 % interval")
    for group in groups(study, results):
        stores = dict.fromkeys(f"{r.label} = {r.cfg.data.store}" for r in group)
        console.print(f"\n{', '.join(stores)}")
        if study.each_seed:
            _print_seeds(console, group)
            _draw(home, group)
            console.print(f"drawn: {home / group[0].label}.png and .svg")
        if study.cross_seeds:
            for result in group:
                _print_grid(console, study, result)
        for metric in study.metrics:
            _print_metric(console, study, group, metric)
        _print_selection(console, study, group)
        sentences = [*map(explored, group), *settings_apart(group)]
        for sentence in filter(None, sentences):
            console.print(sentence)
        _print_differences(console, group)
    if study.note:
        console.print(study.note)
    if options.overrides:
        console.print(f"Every row was trained with --set {' '.join(options.overrides)}.")
    console.print(f"The numbers: {home / 'study.json'}")


def heading(metric: str) -> str:
    """A metric's name in print."""
    return HEADINGS.get(metric, metric.replace("map@", "mAP@"))


def papers(figure: Figure | None) -> str:
    """The paper's mean and SD, with two or three digits after the point, as it has them."""
    numbers = [] if figure is None else [x for x in (figure.mean, figure.sd) if x is not None]
    return " ± ".join(f"{x:.3f}".removesuffix("0") for x in numbers) or "–"


def _print_metric(console: Console, study: Study, group: Sequence[Result], metric: str) -> None:
    """Our metric beside the paper's, a line a row; then the best seeds, and the optimism."""
    name, count = group[0].metric(metric), len(group[0].summary.weight_seeds)
    selections = [s for s in NOTES if any(r.spread(s, metric) for r in group)]
    if not selections:
        return  # a metric that these runs do not have
    headings = [NOTES[s].replace(", ", ",\n") for s in selections]
    heads = list(dict.fromkeys(r.head_of(metric) for r in group))
    of = "pairs of seeds" if study.cross_seeds else "seeds"
    console.print(f"\n{heading(name)}, {' or '.join(heads)} head; n = {count} {of}")
    means = table("", *headings[:1], "± t", *headings[1:], "the paper")
    best = table(f"best of {count}", *headings, "the paper")
    for row, result in lines(study, group):
        figure = paper_figure(study, row, result or group[0], name)
        if result is None and figure is None:
            continue  # not in the paper's table of this data set
        label = row.label.format(result.label if result else "")
        label += f" ({result.head_of(metric)})" if result and len(heads) > 1 else ""
        spreads = [result.spread(s, metric) if result else None for s in selections]
        cells = [_mean(spread) for spread in spreads]
        half = _half_interval(study, spreads[0] if spreads else None)
        star = "*" if figure and any(r.others for r in ([result] if result else group)) else ""
        means.add_row(label, *cells[:1], half, *cells[1:], papers(figure) + star)
        if figure and figure.best is not None:
            shown = [f"{100 * spread.best:.2f}" if spread else "–" for spread in spreads]
            best.add_row(label, *shown, f"{figure.best:.2f}{star}")
    console.print(means)
    if best.row_count:
        console.print(best)
    _print_optimism(console, study, group, metric)


def _print_optimism(console: Console, study: Study, group: Sequence[Result], metric: str) -> None:
    differences = table("selection optimism, points", "test − val", "its 95 % interval")
    for result in group:
        if difference := optimism(study, result, metric):
            interval = points(difference.interval) if difference.interval else "–"
            label = result.row.label.format(result.label)
            differences.add_row(label, f"{100 * difference.mean:+.2f}", interval)
    if differences.row_count:
        console.print(differences)


def _print_seeds(console: Console, group: Sequence[Result]) -> None:
    """The headline of each seed, a table a run."""
    for result in group:
        spreads = {s: result.spread(s, HEADLINE) for s in NOTES}
        values = {s: spread.values for s, spread in spreads.items() if spread}
        title = f"{heading(result.metric(HEADLINE))} of each seed, {result.head} head"
        console.print(f"\n{result.row.label}: {title}")
        seeds = table("weight seed, data seed", *(NOTES[s] for s in values))
        pairs = zip(result.summary.weight_seeds, result.summary.data_seeds, strict=True)
        for k, (weights, order) in enumerate(pairs):
            cells = [f"{100 * of_selection[k]:.2f}" for of_selection in values.values()]
            seeds.add_row(f"{weights}, {order}", *cells)
        console.print(seeds)


def _print_grid(console: Console, study: Study, result: Result) -> None:
    """The headline of every pair of seeds, and how much of its SD each of the two brings."""
    weight_seeds = list(dict.fromkeys(result.summary.weight_seeds))
    data_seeds = list(dict.fromkeys(result.summary.data_seeds))
    title = f"{heading(result.metric(HEADLINE))}, {result.head} head"
    splits = {}
    for selection, values in grids(study, result).items():
        console.print(f"\n{result.row.label}: {title}, {NOTES[selection]}")
        grid = table("weight seed \\ data seed", *map(str, data_seeds))
        for seed, line in zip(weight_seeds, values, strict=True):
            grid.add_row(str(seed), *(f"{100 * value:.2f}" for value in line))
        console.print(grid)
        splits[selection] = variance_split(values)
    _print_paper_pairs(console, study, result)
    console.print("\nSD that comes from, points")
    parts = table("", *(NOTES[s].replace(", ", ",\n") for s in splits))
    for part in next(iter(splits.values())):
        parts.add_row(part, *(f"{100 * split[part]:.2f}" for split in splits.values()))
    console.print(parts)


def _print_paper_pairs(console: Console, study: Study, result: Result) -> None:
    """The pairs of seeds that the paper prints a figure of, ours beside it."""
    if not result.row.paper_pairs:
        return
    shown = {s: spread.values for s in NOTES if (spread := result.spread(s, HEADLINE))}
    pairs = zip(result.summary.weight_seeds, result.summary.data_seeds, strict=True)
    place = {f"{weights}, {order}": k for k, (weights, order) in enumerate(pairs)}
    beside = table("weight seed, data seed", *(NOTES[s] for s in shown), "the paper")
    star = "*" if result.others else ""
    for pair, figure in result.row.paper_pairs.items():
        cells = [f"{100 * v[place[pair]]:.2f}" if pair in place else "–" for v in shown.values()]
        beside.add_row(pair, *cells, f"{figure:.2f}{star}")
    console.print(f"\n{result.row.label}: the paper's cells")
    console.print(beside)


def _print_selection(console: Console, study: Study, group: Sequence[Result]) -> None:
    """By what the weights were selected; of a transfer, which classes were judged."""
    if study.transfer:
        console.print("\n".join(dict.fromkeys(r.classes for r in group)))
        return
    heads = dict.fromkeys(r.cfg.eval.select_head for r in group)
    console.print(f"val, test: weights selected by the {' or '.join(heads)} head.")
    if all(r.spread("last", HEADLINE) and not r.spread("val", HEADLINE) for r in group):
        console.print("No val, no selection optimism: --set data.val_fraction=0.1 sets one aside.")


def _print_differences(console: Console, group: Sequence[Result]) -> None:
    others = dict.fromkeys(text for r in group for text in r.others)
    if others:
        console.print(
            f"* The paper's figure was made from other inputs; here: {', '.join(others)}. "
            "Nothing follows from its distance to ours."
        )


def _draw(home: Path, group: Sequence[Result]) -> None:
    """The headline against the weight seed, last step and test of every row, HOME/<label>.png and
    .svg.
    """
    first = group[0]

    def draw(axes: "Axes") -> None:
        for number, result in enumerate(group):
            for selection, dash in (("last", "-"), ("test", "--")):
                if spread := result.spread(selection, HEADLINE):
                    label = f"{result.row.label}, {NOTES[selection]}"
                    values = [100 * value for value in spread.values]
                    axes.plot(values, dash, marker="o", color=f"C{number}", label=label)
        seeds = list(map(str, first.summary.weight_seeds))
        axes.set_xticks(range(len(seeds)), seeds)
        axes.set(xlabel="weight seed", ylabel=f"{heading(first.metric(HEADLINE))}, %")
        axes.legend(frameon=False)

    plots.save(home, first.label, draw)


def _mean(spread: Spread | None) -> str:
    return "–" if spread is None else mean_and_sd(spread)


def _half_interval(study: Study, spread: Spread | None) -> str:
    interval = seed_interval(study, spread) if spread else None
    return "–" if interval is None else f"{50 * (interval[1] - interval[0]):.2f}"
