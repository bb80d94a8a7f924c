"""Every file is written whole or not at all: below `atomic_path`, or there is a reason here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import monai_cxrpair

PACKAGE = Path(monai_cxrpair.__file__).parent
ATOMIC = {"atomic_path", "_atomic", "TemporaryDirectory"}
METHODS = {"write_text", "write_bytes", "to_csv", "to_parquet", "savefig", "imwrite", "save_as", "savez"}
SAVES = ("torch.save", "np.save", "torch.jit.")
# What else is written, and why that is all right: module, call, reason.
ALLOWED = {
    (
        "cohort/deidentify.py",
        "os.fdopen",
    ): "a temporary file that is then linked: tests/cohort/dicom/test_hostile_exports.py",
    (
        "evaluation/export.py",
        "torch.jit.trace(network.eval(), _views(TRACED, image_size)).save",
    ): "into the draft that `export` renames",
    ("experiments/runner.py", "(job.folder / LOG).open"): "the log of a run, which grows",
    ("label/answers.py", "os.fdopen"): "grows line by line, a half line is taken off: tests/label/test_answers.py",
    ("label/app/tasks.py", "os.fdopen"): "a temporary file that the caller deletes",
    ("label/shim.py", "open"): "part of the installation",
    ("pacs/inbox.py", "os.fdopen"): "a part file that is renamed when all of it is there: tests/pacs/test_inbox.py",
    ("phantom/dicom.py", "data.save_as"): "phantom.json comes last, a folder without it is not finished",
    ("phantom/write.py", "cv2.imwrite"): "as phantom/dicom.py",
}


def _calls(tree: ast.AST, inside: bool = False) -> Iterator[tuple[ast.Call, bool]]:
    for node in ast.iter_child_nodes(tree):
        within = inside
        if isinstance(node, ast.With):
            names = {ast.unparse(item.context_expr).partition("(")[0].rpartition(".")[2] for item in node.items}
            within = inside or bool(names & ATOMIC)
        if isinstance(node, ast.Call):
            yield node, inside
        yield from _calls(node, within)


def _writes(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if last in METHODS:
        # `to_csv` without a path gives the text; `fmt.write_text` and `write_text` are ours, of report/results.py.
        return "fmt." not in name and "." in name and not (last == "to_csv" and not call.args)
    if last in ("open", "fdopen"):
        modes = [a.value for a in [*call.args, *(k.value for k in call.keywords)] if isinstance(a, ast.Constant)]
        return any(isinstance(mode, str) and set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)
    return last == "save" and name.startswith(SAVES)


def test_what_writes_a_file_writes_it_at_once_or_has_a_reason() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for call, inside in _calls(ast.parse(path.read_text(encoding="utf-8"))):
            if not inside and _writes(call):
                found[path.relative_to(PACKAGE).as_posix(), ast.unparse(call.func)] = call.lineno
    assert {place: line for place, line in found.items() if place not in ALLOWED} == {}
    assert set(ALLOWED) == set(found)  # and no reason for what is gone


def test_a_plain_write_is_found() -> None:
    text = (
        "def f(p):\n  with atomic_path(p) as t:\n    t.write_text('')\n  p.write_text('')\n  open(p, 'w')\n  open(p)\n"
    )
    assert [call.lineno for call, inside in _calls(ast.parse(text)) if not inside and _writes(call)] == [4, 5]
