"""What a call of main.py says."""

from collections.abc import Sequence
from typing import Any

import pytest

import main


def words(capsys: Any) -> str:
    """What was printed, however it was broken into lines."""
    return " ".join(capsys.readouterr().out.split())


def refused(capsys: Any, argv: Sequence[object], status: int = 2) -> str:
    """The one sentence that a call ends in."""
    with pytest.raises(SystemExit) as ended:
        main.main([str(word) for word in argv])
    told = capsys.readouterr().err.strip()
    assert ended.value.code == status and told.startswith("error: ") and "\n" not in told
    return told
