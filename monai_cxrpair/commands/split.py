from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_cxrpair.commands.common import JsonOption, print_json, print_tables
from monai_cxrpair.errors import CxrPairError

if TYPE_CHECKING:
    from rich.table import Table

_SIZE_HELP = "below 1 a fraction of the patients, else a number of patients"
_TABLE_HELP = "Table of radiographs, studies or patients on the {} side; may be given several times."


class Rest(StrEnum):
    """Where patients go that no table names."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    NONE = "none"


def split(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A cohort file, written by `cxrpair index`.")],
    out: Annotated[Path, typer.Option(help="The split file to write, *.json.")],
    test: Annotated[float, typer.Option(min=0, help=f"Size of the test side: {_SIZE_HELP}.")] = 0.0,
    validation: Annotated[float, typer.Option(min=0, help=f"Size of the validation side: {_SIZE_HELP}.")] = 0.0,
    stratify: Annotated[
        list[str] | None,
        typer.Option(metavar="FINDING", help="Share this finding out evenly; none: no finding; default: all."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sides and of the label draws.")] = 0,
    train_file: Annotated[list[Path] | None, typer.Option(metavar="TABLE", help=_TABLE_HELP.format("train"))] = None,
    validation_file: Annotated[
        list[Path] | None, typer.Option(metavar="TABLE", help=_TABLE_HELP.format("validation"))
    ] = None,
    test_file: Annotated[list[Path] | None, typer.Option(metavar="TABLE", help=_TABLE_HELP.format("test"))] = None,
    split_table: Annotated[Path | None, typer.Option(metavar="TABLE", help="Table with a column `split`.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Take the split that the dataset came with.")] = False,
    rest: Annotated[Rest, typer.Option(help="Side of patients that no table names.")] = Rest.NONE,
    leave_out_overlap: Annotated[
        bool, typer.Option("--leave-out-overlap", help="Leave out of train (or validation) who overlaps with test.")
    ] = False,
    finding: Annotated[
        str | None, typer.Option(metavar="FINDING", help="Finding of the label draws; default: the only one.")
    ] = None,
    label_fraction: Annotated[
        list[float] | None,
        typer.Option(metavar="SHARE", help="Draw this share of the labelled train studies; several times for more."),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of each label fraction.")] = 5,
    draw_file: Annotated[
        list[Path] | None,
        typer.Option(metavar="TABLE", help="Table of one draw that somebody else made; with one --label-fraction."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Split a cohort by patient, evenly by finding, or as published tables say, and write the split with its hash.

    Patients who share a picture (column perceptual_hash, from `cxrpair index --check-pixels`) stay on one side.
    Training and evaluating take the file as --split_file.
    """
    files = {"train": train_file or [], "validation": validation_file or [], "test": test_file or []}
    external = published or split_table is not None or any(files.values())
    _check_usage(out, external, by_size=bool(test or validation), stratify=bool(stratify))
    if published and (split_table is not None or any(files.values())):
        raise typer.BadParameter("--published and tables of sides cannot be used together")
    if draw_file and len(label_fraction or []) != 1:
        raise typer.BadParameter("--draw-file needs exactly one --label-fraction, the share that each file holds")
    import numpy as np

    from monai_cxrpair.cohort import Cohort
    from monai_cxrpair.cohort.files import check_writable
    from monai_cxrpair.cohort.split.draws import SavedDraws
    from monai_cxrpair.cohort.split.make import check_sides, draw_labels, make_split_file
    from monai_cxrpair.cohort.split.near_duplicates import find_links
    from monai_cxrpair.cohort.split.saved import write_split
    from monai_cxrpair.cohort.split.stratify import stratified_sides
    from monai_cxrpair.cohort.split.tables import draws_of_tables, published_sides, put_rest, sides_of_tables

    check_writable(out)
    cohort = Cohort.read(file)
    links = find_links(cohort)
    notes: list[str] = []
    if external:
        named = published_sides(cohort) if published else sides_of_tables(cohort, files, split_table)
        sides, notes = named.sides, named.notes
        if rest is not Rest.NONE:
            sides = put_rest(sides, links.groups, rest.value)
        must_leave, _ = check_sides(cohort, links, sides)
        if leave_out_overlap:
            sides = np.where(must_leave, -1, sides)
            notes.append(f"{int(must_leave.sum())} radiographs were left out because they overlap with a later side")
        names = {side: [table.name for table in tables] for side, tables in files.items() if tables}
        method: dict[str, Any] = {
            "name": "published" if published else "tables",
            "tables": names | ({"split": [split_table.name]} if split_table is not None else {}),
            "matched": list(notes),
            "rest": rest.value,
            "overlap_left_out": int(must_leave.sum()) if leave_out_overlap else 0,
        }
    else:
        wanted = cohort.findings if not stratify else [name for name in stratify if name != "none"]
        sides = stratified_sides(cohort, links.groups, validation=validation, test=test, stratify=wanted, seed=seed)
        method = {
            "name": "stratified",
            "seed": seed,
            "test": test,
            "validation": validation,
            "stratified_by": wanted,
        }
    saved: list[SavedDraws] = []
    if label_fraction:
        if finding is None and len(cohort.findings) != 1:
            raise CxrPairError(f"--label-fraction needs --finding, one of: {', '.join(cohort.findings) or 'none'}")
        name = finding if finding is not None else cohort.findings[0]
        for fraction in label_fraction:
            if draw_file:
                saved.append(draws_of_tables(cohort, draw_file, finding=name, fraction=fraction, notes=notes))
            else:
                drawn = draw_labels(cohort, sides, finding=name, fraction=fraction, draws=draws, seed=seed)
                saved.append(drawn)
    content = make_split_file(cohort, links, sides, method=method, label_draws=saved)
    write_split(content, out)
    if links.unknown and links.digest:
        notes.append(f"{links.unknown} radiographs have no perceptual hash and were not compared")
    if not links.digest:
        notes.append("the cohort has no perceptual hashes: near-duplicates of other patients were not looked for")
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    shown = {key: content[key] for key in ("hash", "method", "counts", "near_duplicates")}
    drawn_counts = [
        {"finding": d.finding, "fraction": d.fraction, "radiographs": [len(ids) for ids in d.image_ids]} for d in saved
    ]
    if as_json:
        print_json({**shown, "label_draws": drawn_counts, "notes": notes})
        return
    print_tables([_table(content, list(dict.fromkeys([*([finding] if finding else []), *cohort.findings]))[:2])])
    for d in drawn_counts:
        typer.echo(f"Label draws of {d['finding']}, {d['fraction']:g}: {d['radiographs']} radiographs")
    duplicates = content["near_duplicates"]
    typer.echo(
        f"Near-duplicates: {duplicates['pairs']} pairs; {duplicates['linked_patients']} patients linked into "
        f"{duplicates['linked_groups']} groups, the largest of {duplicates['largest_group']}"
    )
    typer.echo(f"Split: {out} (hash {content['hash'][:12]})")


def _check_usage(out: Path, external: bool, *, by_size: bool, stratify: bool) -> None:
    if out.suffix != ".json":
        raise typer.BadParameter(f"{out}: the name of a split file ends with .json", param_hint="--out")
    if external and (by_size or stratify):
        raise typer.BadParameter("sizes and --stratify are for a split of our own, not for one that tables give")
    if not external and not by_size:
        raise typer.BadParameter("say how large the test side shall be (--test 0.2), or name the tables of the sides")


def _table(content: dict[str, Any], findings: list[str]) -> "Table":
    from rich.table import Table

    from monai_cxrpair.cohort.describe.table_one import percent

    # As many findings as fit into a terminal; --json has all.
    table = Table("side", "patients", "studies", "radiographs", *[f"{name} present" for name in findings])
    for side, count in content["counts"].items():
        if side == "left_out" and not count["radiographs"]:
            continue
        shares = []
        for name in findings:
            present, absent = count["findings"][name]["present"], count["findings"][name]["absent"]
            shares.append(percent(present, present + absent, 2) + " %" if present + absent else "–")
        table.add_row(side, *[f"{count[key]:,}" for key in ("patients", "studies", "radiographs")], *shares)
    return table
