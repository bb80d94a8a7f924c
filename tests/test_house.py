"""A room imports only from the rooms above it, and the command line waits for no heavy library."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import monai_cxrpair

PACKAGE = Path(monai_cxrpair.__file__).parent
# From top to bottom, with the rooms that each may import from beside itself.
ROOMS = {
    "cohort": set(),
    "pairing": {"cohort"},
    "imaging": {"cohort", "pairing"},
    "contrast": {"cohort", "pairing", "imaging"},
    "evaluation": {"cohort", "pairing", "imaging", "contrast"},
    "pacs": {"cohort"},
    "reporting": {"cohort", "imaging", "evaluation", "pacs"},
    "label": {"cohort", "imaging", "contrast", "evaluation", "reporting", "pacs"},
    "phantom": {"cohort", "pairing", "imaging", "contrast", "evaluation"},
    "experiments": {"cohort", "evaluation"},
    "commands": {"cohort", "pairing", "imaging", "contrast", "evaluation", "pacs", "phantom", "experiments"},
}
LIGHT = ("cohort", "pacs", "reporting", "experiments", "commands", "cli")
HEAVY = ("torch", "torchvision", "monai", "ignite")


def _modules(part: str) -> list[Path]:
    folder = PACKAGE / part
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def _imports(path: Path, *, only_at_once: bool = False) -> Iterator[str]:
    """The names that a module imports; those within functions and under TYPE_CHECKING are not imported at once."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if only_at_once and (later or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute, so that this test can read them"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        todo.extend(ast.iter_child_nodes(node))


def test_every_room_of_the_package_is_in_the_list() -> None:
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert there == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_the_rooms_above_it(room: str) -> None:
    allowed = ROOMS[room] | {room, "errors", "trust", "__version__"}
    for path in _modules(room):
        for name in _imports(path):
            first, _, rest = name.partition(".")
            if first == "monai_cxrpair" and rest:
                assert rest.partition(".")[0] in allowed, f"{path.relative_to(PACKAGE)} imports {name}"


@pytest.mark.parametrize("part", LIGHT)
def test_what_needs_no_network_of_neurons_imports_none(part: str) -> None:
    for path in _modules(part):
        for name in _imports(path, only_at_once=True):
            assert name.partition(".")[0] not in HEAVY, f"{path.relative_to(PACKAGE)} imports {name}"


def test_no_module_imports_torchvision_at_once() -> None:
    for path in PACKAGE.rglob("*.py"):
        names = _imports(path, only_at_once=True)
        assert not any(name.partition(".")[0] == "torchvision" for name in names), path.relative_to(PACKAGE)


def test_the_help_and_the_index_step_load_neither_torch_nor_monai() -> None:
    """Also not by way of another library or room."""
    code = (
        "import sys, monai_cxrpair.cli\n"
        "assert not {'pandas', 'pydicom', 'numpy'} & set(sys.modules), 'the help waits for libraries'\n"
        "import monai_cxrpair.cohort.index, monai_cxrpair.pacs, monai_cxrpair.cohort.describe.html\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
