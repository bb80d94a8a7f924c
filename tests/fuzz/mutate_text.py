"""Mutations of CSV, YAML and JSON."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from mutate_raw import raw

WORDS = (
    *("", " ", "0", "1", "-1", "2", "1.0", "nan", "NaN", "None", "<NA>", "inf", "1e400", "007", "1E+17", "true", "="),
    *("=1+1", "@x", "$import os", "../../etc/passwd", "/abs", "..", ".", "a\\b", "\0", "\r", "\n", '"', "'", ",", ";"),
    *("\t", "ÿ", "患者", "\u202e", "\U0001f600", "A" * 5000, "9" * 400, "['a', 'b'", "['a', 'b']", "[" * 300, "a|b|c"),
    *("2024-13-45", "2024-02-29 25:00", "0001-01-01", "9999-12-31", "20240101T000000Z", "frontal", "lateral", "PA"),
    *("M", "F", "O", "X", "018M", "151", "patient00001/study1", "__class__", "path", "patient_id", "image_id", "-"),
)
SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "null", "resnet18", "../x", "/etc/passwd", "$1+1", "@a", "%b", "\ud800", "a\nb", "9" * 5000, [], {}),
    *([None], [[]], {"": None}, {"_target_": "os.system"}, [1, 2, 3], ["a"], {"a": {"b": {"c": []}}}, [[0, 2]], [0.5]),
)
YAML_LINES = (
    *(
        "? [a, b]\n: c\n",
        "<<: {a: 1}\n",
        "<<: 1\n",
        "- a\n",
        "\tname: x\n",
        "a: *nothing\n",
        "a: &a [*a]\n",
        "%YAML 3.0\n",
    ),
    *(
        "!!python/object/apply:os.system ['false']\n",
        "a: !!python/name:os.system\n",
        "a: !!binary '*'\n",
        "a: !!int x\n",
    ),
    *(
        "a: 2024-13-45\n",
        "a: 2024-02-30 25:61:61\n",
        f"a: {'9' * 5000}\n",
        "a: 1:99:99\n",
        "a: 0b\n",
        "a: 0x\n",
        "a: 0o9\n",
    ),
    *(
        "a: .inf\n",
        "a: 1_000\n",
        "name: [x, {y: z}]\n",
        "rows: 1\n",
        "rows: [1]\n",
        "rows: [{name: [1]}]\n",
        "--- x\n--- y\n",
    ),
    *(
        "rows: [{name: x, overlays: [1]}]\n",
        "rows: [{name: x, overlays: [..]}]\n",
        "base: [[]]\n",
        "base: {}\n",
        "...\n",
    ),
    *(
        "compare_with: [[]]\n",
        "settings: {1: 2}\n",
        "settings: {? null : x}\n",
        "evaluate: {finding: {}}\n",
        "source: !!set {a}\n",
    ),
    *(
        "evaluate: {label_fraction: [a]}\n",
        "evaluate: {label_fraction: .nan}\n",
        "pairing: 3\n",
        "pairing: {study: []}\n",
    ),
    *("pairing: {age_bins: [{}]}\n", "pairing: {size_like: {size_like: {study: 1}}}\n", "pairing: {min_days: .nan}\n"),
    *("pairing: {? [1] : 2}\n", "pairing: {study: {a: b}}\n", "compare_with: {a: b}\n", "name: ''\n", "name: {a: b}\n"),
)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def text_table(data: bytes, rng: Random) -> bytes:
    """Cells, columns, rows, separators, quotes and encodings of a CSV."""
    if rng.random() < 0.2:
        return raw(data, rng)
    text = data.decode("utf-8", "replace")
    separator = max(",;\t", key=text[:500].count)
    rows = [line.split(separator) for line in text.splitlines()]
    for _ in range(rng.choice((1, 1, 2, 4))):
        row, what = rng.randrange(len(rows)) if rng.random() < 0.7 else 0, rng.randrange(11)
        if not rows or not rows[row]:
            break
        cell = rng.randrange(len(rows[row]))
        if what <= 2:
            rows[row][cell] = rng.choice(WORDS)
        elif what == 3:
            word = rng.choice(WORDS)
            rows = [
                [*each[:cell], word if number else each[cell] if cell < len(each) else "", *each[cell + 1 :]]
                for number, each in enumerate(rows)
            ]
        elif what == 4:
            rows[row].insert(cell, rng.choice(WORDS))
        elif what == 5:
            del rows[row][cell]
        elif what == 6:
            rows = [[*each[:cell], *each[cell + 1 :]] for each in rows]
        elif what == 7:
            rows = [[*each, *each[cell : cell + 1]] for each in rows]
        elif what == 8:
            rows.insert(row, list(rows[row]))
        elif what == 9:
            del rows[row]
        else:
            rows[0] = [rng.choice((name.upper(), name, rng.choice(rows[0]))) for name in rows[0]]
    out = rng.choice((separator, separator, separator, ",", ";", "\t", "|")).join
    text = rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(out(row) for row in rows)
    text += rng.choice(("", "\n", '"', "\n\n\n", "\x1a", '\n"' + "x," * 40000))
    text = rng.choice((text, text, text, text, '"' + text, "x" * 200000 + text, text.replace(separator, separator * 2)))
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    return text.encode(encoding, "replace")


def yaml_text(data: bytes, rng: Random) -> bytes:
    """Lines of a YAML file: lost, repeated, indented, exchanged, foreign."""
    lines = data.decode().splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, what = rng.randrange(len(lines) + 1), rng.randrange(9)
        if what == 0:
            del lines[at : at + 1]
        elif what == 1:
            lines.insert(at, rng.choice(YAML_LINES))
        elif what == 2:
            lines.insert(0, rng.choice(YAML_LINES))
        elif what == 3:
            lines[at : at + 1] = [" " * rng.randrange(6) + line for line in lines[at : at + 1]]
        elif what == 4:
            lines.insert(at, lines[at - 1] if lines else "")
        elif what == 5:
            lines[at : at + 1] = [
                line.partition(":")[0]
                + ": "
                + rng.choice(("[]", "{}", "null", "1", "x", "[[1]]", "{a: 1}", ".nan"))
                + "\n"
                for line in lines[at : at + 1]
            ]
        elif what == 6:
            lines.insert(at, "deep: " + rng.choice("[{") * rng.choice((10, 200, 2000, 30000)) + "\n")
        elif what == 7:
            lines.insert(
                0,
                BOMB
                + rng.choice(
                    (
                        "settings: *i\n",
                        "rows: *i\n",
                        "pairing: *i\n",
                        "name: *i\n",
                        "pairing: {study: *i}\n",
                        "evaluate: {finding: *i}\n",
                    )
                ),
            )
        else:
            return raw("".join(lines).encode(), rng)
    return "".join(lines).encode("utf-8", "replace")


def json_text(data: bytes, rng: Random) -> bytes:
    """Values of a JSON tree: exchanged, lost, repeated, nested; and the text itself."""
    if rng.random() < 0.2:
        return rng.choice(
            (raw(data, rng), b"[" * rng.choice((100, 5000, 200000)), b'{"format":' * 5000, b"\xef\xbb\xbf" + data)
        )
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):  # it was mutated before
        return raw(data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tree = _changed(tree, rng)
    return json.dumps(tree).encode("utf-8", "replace")


def _changed(tree: Any, rng: Random) -> Any:
    if not isinstance(tree, (dict, list)) or not tree or rng.random() < 0.12:
        return rng.choice(SCALARS)
    if isinstance(tree, dict):
        key = rng.choice(list(tree))
        what = rng.random()
        if what < 0.15:
            return {name: value for name, value in tree.items() if name != key}
        if what < 0.2:
            return {**tree, rng.choice(("x", "", "_target_", key + " ")): tree[key]}
        return {**tree, key: _changed(tree[key], rng)}
    at = rng.randrange(len(tree))
    what = rng.random()
    if what < 0.15:
        return [*tree[:at], *tree[at + 1 :]]
    if what < 0.25:
        return [*tree, tree[at]]
    return [*tree[:at], _changed(tree[at], rng), *tree[at + 1 :]]
