"""Who imports whom, read from the sources: leftwards only, no circle, jax where it belongs."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = (  # rooms and files of semvad_jax; an import goes to the same group or to one before it
    {"files", "hosts", "stopwatch", "types", "config", "metrics", "statistics", "store"},
    {"losses", "models", "data", "convert"},
    {"train", "evaluate"},
    {"seeds"},
    {"checkpoint"},
    {"detection", "report", "templates"},
    {"run", "compare", "training_free", "export"},
    {"studies"},
    {"main"},
)
GROUP = {name: number for number, names in enumerate(ORDER) for name in names}
FOR_FEATURIZE = {"files", "config", "store", "stopwatch"}
WITHOUT_JAX = {"files", "config", "metrics", "statistics", "store", "stopwatch"}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}


def sources(*folders):
    files = [ROOT / "main.py"] if "main" in folders else []
    for folder in folders:
        files += (ROOT / folder).rglob("*.py")
    return sorted(files)


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sources("main", "semvad_jax", "featurize")}


def imports_of(path):
    """The modules that a file imports anywhere, those for type checkers alone included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in MODULES else node.module)
    return names


def room(module):
    """The part of `semvad_jax` that a module is in: "report" of semvad_jax.report.page."""
    parts = module.split(".")
    return parts[1] if parts[0] == "semvad_jax" and len(parts) > 1 else parts[0]


def test_every_file_has_its_place_in_the_order():
    rooms = {room(module) for module in MODULES if not module.startswith("featurize")}
    assert rooms - {"semvad_jax"} == set(GROUP)


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("featurize")])
def test_imports_run_leftwards(module):
    for imported in imports_of(MODULES[module]):
        if imported.split(".")[0] == "semvad_jax" and imported != "semvad_jax":
            assert GROUP[room(imported)] <= GROUP[room(module)], f"{module} imports {imported}"
        assert imported.split(".")[0] != "featurize" or module == "main", f"{module}: {imported}"


def test_there_is_no_circle():
    graph = {}
    for module, path in MODULES.items():
        # a package's __init__ may import its own files, which name the package in front of them
        graph[module] = {name for name in imports_of(path) if name in MODULES and name != module}
    assert tuple(graphlib.TopologicalSorter(graph).static_order())


def test_rooms_have_no_circle_either():
    graph = {}
    for module, path in MODULES.items():
        if not module.startswith("featurize"):
            own = room(module)
            theirs = {room(n) for n in imports_of(path) if n.startswith("semvad_jax.")}
            graph.setdefault(own, set()).update(theirs - {own})
    assert tuple(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("featurize")])
def test_featurize_knows_four_rooms_of_the_other_wing(module):
    for imported in imports_of(MODULES[module]):
        if imported.split(".")[0] == "semvad_jax" and imported != "semvad_jax":
            assert room(imported) in FOR_FEATURIZE, f"{module} imports {imported}"
        assert imported.split(".")[0] not in JAX, f"{module} imports {imported}"


def test_what_both_wings_read_imports_no_jax():
    waiting = [m for m in MODULES if m.startswith("semvad_jax.") and room(m) in WITHOUT_JAX]
    reached = set()
    while waiting:
        module = waiting.pop()
        reached.add(module)
        for imported in imports_of(MODULES[module]):
            # store/tfds.py is read where a store is exchanged; tensorflow-datasets has no jax
            assert imported.split(".")[0] not in JAX, f"{module} imports {imported}"
            if imported in MODULES and imported not in reached:
                waiting.append(imported)
    assert {room(module) for module in reached} - {"semvad_jax"} == WITHOUT_JAX
