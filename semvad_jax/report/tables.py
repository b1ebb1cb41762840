"""The console that prints outside names, and a table on it as the studies print theirs."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def plain_console() -> Console:
    """A console that prints names as they are: [red] and :cat: are no markup to it."""
    return Console(markup=False, emoji=False, highlight=False)


def table(first: str, *columns: str, fold: bool = False) -> Table:
    """An empty table: a heading over the rows' names, then one over each column of figures.

    Names that are too long are folded; with `fold`, figures are too.
    """
    empty = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    empty.add_column(first, overflow="fold")
    for heading in columns:
        empty.add_column(heading, justify="right", no_wrap=not fold)
    return empty
