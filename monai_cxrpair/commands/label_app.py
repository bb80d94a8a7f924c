import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

_MAIN = "# Everything stands in the package.\nfrom monai_cxrpair.label.app.main import MyApp  # noqa: F401\n"


def label_app(
    model: Annotated[
        Path | None,
        typer.Option(help="A classifier to serve: model.pt of an evaluation, with model.json beside it; it is copied."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The app folder; default: cxrpair/label-app among the user's data files.")
    ] = None,
) -> None:
    """Print the folder to start MONAI Label with: `monailabel start_server --app $(cxrpair label-app) ...`.

    The folder is made where it is not there. It is for its owner only and keeps the classifier, the readers' answers,
    the log, and what is fetched from a PACS.
    """
    from monai_cxrpair.cohort.files import PRIVATE, atomic_path
    from monai_cxrpair.errors import CxrPairError

    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    folder = (out or data / "cxrpair" / "label-app").absolute()
    if any(char.isspace() for char in str(folder)):
        raise CxrPairError(
            f"{folder}: the `monailabel` command cannot take a path with a space; give another with --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CxrPairError(f"cannot make {folder}: {error.strerror or error}; give another with --out") from error
    main = folder / "main.py"
    if not main.is_file() or main.read_text(encoding="utf-8") != _MAIN:
        with atomic_path(main, mode=PRIVATE) as temporary:
            temporary.write_text(_MAIN, encoding="utf-8")
    if model is not None:
        card = model.with_suffix(".json")
        for file in (model, card):
            if not file.is_file():
                raise CxrPairError(f"{file}: no such file; --model takes the model.pt that an evaluation writes")
        for file, name in ((card, "model.json"), (model, "model.pt")):
            with atomic_path(folder / "model" / name, mode=PRIVATE) as temporary:
                shutil.copyfile(file, temporary)
    typer.echo(folder)
