from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_cxrpair.commands.common import JsonOption, print_json, print_tables, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monai_cxrpair.cohort import Cohort
    from monai_cxrpair.cohort.describe.contact_sheet import Tile

_LONGER_SIDE = 320  # pixels: sharp at the width of a tile on a phone, 24 of them are half a megabyte
_JPEG_QUALITY = 85


def describe(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A cohort file, written by `cxrpair index`.")],
    html: Annotated[Path | None, typer.Option(help="Also write one self-contained page, with pictures.")] = None,
    pictures: Annotated[int, typer.Option(min=0, max=200, help="Radiographs on the page; 0: none.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Another seed shows other radiographs.")] = 0,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Columns of Table 1: a finding, sex, laterality, view_position or published_split; "
            "default: pleural_effusion where the cohort has it.",
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder with the images, where they were moved.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a cohort holds: patients, studies, intervals, views, ages, findings; with --html as a page.

    The page holds no identifier, but its pictures may: it is as confidential as the radiographs.
    """
    from monai_cxrpair.cohort import Cohort
    from monai_cxrpair.cohort.describe.figures import describe as figures_of

    cohort = Cohort.read(file, root=root)
    description = figures_of(cohort, by=by)
    if html is not None:
        from monai_cxrpair.cohort.describe.contact_sheet import choose
        from monai_cxrpair.cohort.describe.html import write_page
        from monai_cxrpair.cohort.files import check_writable

        check_writable(html)
        tiles = choose(cohort, pictures, seed=seed, finding=description["table_one"]["by"])
        write_page(description, html, sheet=list(zip(tiles, _read(cohort, tiles), strict=True)))
    if as_json:
        print_json(description)
        return
    from monai_cxrpair.cohort.describe.text import description_tables

    print_tables(description_tables(description))
    if html is not None:
        typer.echo(f"Page: {html} (as confidential as the radiographs)")


def _read(cohort: "Cohort", tiles: "Sequence[Tile]") -> list[bytes | str]:
    """Read and shrink the radiographs of a contact sheet: a JPEG, or why there is none."""
    if not tiles:
        return []
    import cv2
    import numpy as np

    from monai_cxrpair.errors import CxrPairError
    from monai_cxrpair.imaging import read_radiograph

    paths = cohort.table["path"]
    found: list[bytes | str] = []
    with progress_bar("Pictures") as progress:
        for tile in tiles:
            path = cohort.root / paths.iloc[tile.row]
            try:
                pixels = read_radiograph(path)[0]  # (H, W)
            except CxrPairError as error:
                found.append(_reason(str(error), path))
            else:
                scale = min(1.0, _LONGER_SIDE / max(pixels.shape))
                size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
                grey = np.round(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)
                found.append(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes())
            progress(len(found), len(tiles))
    return found


def _reason(message: str, path: Path) -> str:
    """The reader's error without the path and without what a decoder said in brackets: both may identify a patient."""
    if not path.exists():
        return "the file is not there"
    reason = message.removeprefix(f"{path}: ").partition(" (")[0]
    return "cannot be read" if path.name in reason or str(path) in reason else reason
