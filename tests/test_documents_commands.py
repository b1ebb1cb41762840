"""Every command in README and docs is one that its program takes, and runs in a test or says what
it needs. README is short, links lead somewhere, and what is shown as Python runs.
"""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

import main
from featurize import run as featurize
from semvad_jax.files import BadInput
from tests.support.stores import make_store

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "RESULTS.md"  # names the calls that made it, which take hours
GUIDES = [ROOT / "README.md", *sorted({*(ROOT / "docs").glob("*.md")} - {RESULTS})]
OTHERS = [ROOT / f"{name}.md" for name in ("BENCHMARKS", "CHANGELOG", "CONTRIBUTING")]
DOCUMENTS = [*GUIDES, RESULTS, *OTHERS]
SCRIPT = re.compile(r"python (?:main\.py|featurize/\w+\.py|tests/benchmarks/\w+\.py)\b")

# Where a command runs, on a smaller store or with fewer seeds and steps; a command that is not
# here says after a `#` what it needs.
RUNS = {
    "python main.py --config demo --vmap-seeds 10": "test_studies_on_the_demo.py::test_in_small",
    "python main.py --config demo --vmap-seeds 10 --resume": (
        "test_main.py::test_resuming_a_finished_run_trains_nothing_and_keeps_its_clock"
    ),
    "python main.py --config demo --vmap-seeds 10 --model mil --out runs/demo_mil": (
        "test_main.py::test_other_models_train_in_the_same_program"
    ),
    "python main.py --config demo --vmap-seeds 10 --model vadclip --out runs/demo_vadclip": (
        "test_studies_on_the_demo.py::test_in_small"
    ),
    "python main.py --config demo --vmap-seeds 10 --set data.shuffle_labels=true"
    " --out runs/demo_shuffled": "test_documents_commands.py::test_settings_by_another_store",
    "python main.py --config demo --vmap-seeds 10 --set model.preset=release"
    " --out runs/demo_release": "test_documents_commands.py::test_settings_by_another_store",
    "python main.py --config demo --vmap-seeds 10 --set model.preset=best"
    " --out runs/demo_best": "test_documents_commands.py::test_settings_by_another_store",
    "python main.py --config demo --vmap-seeds 10 --set train.protocol=reload_best"
    " --out runs/demo_reload_best": (
        "test_release_protocol.py::test_only_the_optimistic_selection_is_reported"
    ),
    "python main.py --restore runs/demo --eval": (
        "test_main.py::test_eval_reproduces_the_summary_to_the_digit"
    ),
    "python main.py --restore runs/demo --eval --lookahead 0 1 4 16 all": (
        "test_main.py::test_eval_in_real_time_is_kept_for_each_lookahead"
    ),
    "python main.py --restore runs/demo --export exported": (
        "test_export.py::test_the_exported_script_scores_as_detect_does"
    ),
    "python main.py --restore runs/demo --detect demo --out detections": (
        "test_main.py::test_detect_scores_every_video_from_the_run_alone"
    ),
    "python main.py --compare runs/demo runs/demo_mil": (
        "test_compare.py::test_printed_numbers_are_those_of_scipy_and_of_resamples_written_out"
    ),
    "python main.py --study table10 --vmap-seeds 2 --set train.epochs=1": (
        "test_studies_on_the_demo.py::test_in_small"
    ),
    **{
        f"python main.py --study {name}": "test_studies_on_the_demo.py::test_in_small"
        for name in "table1 table2 table3 table10 table12 table13 figure6a figure6b".split()
    },
    "python main.py --results runs": "test_results.py::test_the_command_prints_it",
    "python featurize/run.py --dataset demo --out demo": (
        "test_featurize.py::test_demo_store_twice_and_resumed"
    ),
    "python featurize/run.py --dataset demo --out demo --stages export --export-tfds demo_tfds": (
        "test_tfds.py::test_featurize_exports_a_store_that_stands"
    ),
}


def commands(path: Path) -> list[tuple[str, str]]:
    """(command, what stands after its #) of every line of code and every `code` in a text."""
    found, text = [], path.read_text(encoding="utf-8")
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            command, _, comment = line.partition("#")
            found.append((command, comment))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found += [(code, "") for code in re.findall(r"`([^`]+)`", prose)]
    plain = ((" ".join(command.partition(">")[0].split()), comment) for command, comment in found)
    return [(command, comment.strip()) for command, comment in plain if SCRIPT.match(command)]


def parse(command: str) -> None:
    """Raises SystemExit, BadInput or AssertionError for a command that its program refuses."""
    script, *argv = shlex.split(command)[1:]
    if script == "main.py":
        main.arguments(argv)
    elif script == "featurize/run.py":
        featurize.parse(argv)
    else:
        source = (ROOT / script).read_text(encoding="utf-8")
        unknown = [word for word in argv if word.startswith("--") and f'"{word}"' not in source]
        assert not unknown, f"{script} has no {unknown}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_one_that_its_program_takes(path):
    for command, _ in commands(path):
        try:
            parse(command)
        except (SystemExit, BadInput) as error:
            pytest.fail(f"{path.name}: {command} is refused ({error})")


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_every_command_runs_in_a_test_or_says_what_it_needs(path):
    for command, comment in commands(path):
        assert command in RUNS or "needs " in comment, f"{path.name}: {command}"


def test_no_command_that_runs_is_said_to_need_something_or_left_behind():
    written = [pair for path in GUIDES for pair in commands(path)]
    assert not RUNS.keys() - {command for command, _ in written}
    assert len(written) >= 40  # the way commands are found has not gone blind


@pytest.mark.parametrize("test", sorted(set(RUNS.values())))
def test_the_tests_that_run_commands_are_there(test):
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert name in [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


CONFIG = """
from semvad_jax.config import *
config = Config(
    data=DataConfig(dataset="synthetic", val_fraction=0.25),
    model=ModelConfig(dim=4, length=8, layers=1),
    train=TrainConfig(batch=8, epochs=1, lr=1e-3),
    eval=EvalConfig(every=0, crop=0),
)
"""


@pytest.mark.slow
def test_settings_by_another_store(tmp_path, monkeypatch):
    """The documents' settings that no other test trains with, in as few runs as they go into."""
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "store", train=32, test=8, lengths=(5, 8))
    (tmp_path / "tiny.py").write_text(CONFIG)
    here = Path(__file__).name
    written = [shlex.split(c) for c, test in RUNS.items() if test.partition("::")[0] == here]
    settings = [word for words in written for word in words if word.partition("=")[1]]
    both = ["data.shuffle_labels=true", "model.preset=release"]
    assert sorted(settings) == sorted([*both, "model.preset=best"])
    start = ["--config", "tiny.py", "--data", "store", "--vmap-seeds", "1"]
    for run, of_run in (("run", both), ("best", ["model.preset=best"])):
        sets = [word for setting in of_run for word in ("--set", setting)]
        main.main([*start, "--out", run, *sets])
    resolved, best = (
        json.loads((tmp_path / run / "config.json").read_text()) for run in ("run", "best")
    )
    assert resolved["model"]["residual"] == "caption" and resolved["data"]["shuffle_labels"]
    assert best["model"]["residual"] == "both" and best["model"]["shortcut"]


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_examples_in_python_run(path, tmp_path, monkeypatch):
    """Those that need no run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    text = path.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if block.startswith(("import numpy", "from semvad_jax")):
            exec(compile(block, path.name, "exec"), {})


def test_the_model_shown_is_the_one_there():
    shown = (ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
    source = (ROOT / "semvad_jax" / "models" / "mil.py").read_text(encoding="utf-8")
    start = source.index("class TwoLayers")
    assert source[start:].strip() in shown


def test_every_file_is_on_the_map():
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    written = set(re.findall(r"[\w.]+\.py", text))
    there = [p for name in ("semvad_jax", "featurize") for p in (ROOT / name).rglob("*.py")]
    assert not {path.name for path in there} - written - {"__init__.py"}


def test_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150 and len(text.split()) <= 1300


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    """Files are there, and so are the headings behind a #."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        where = (path.parent / file).resolve() if file else path
        assert where.exists(), f"{path.name} links to {target}"
        if heading:
            assert heading in anchors(where), f"{path.name} links to {target}"


def anchors(path: Path) -> set[str]:
    """The headings of a document as they stand in links."""
    lines = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", line.lower()) for line in lines)
    return {line.strip().replace(" ", "-") for line in words}
