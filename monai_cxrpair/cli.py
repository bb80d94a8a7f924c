"""`cxrpair ...`: data and reports. Training itself is `python -m monai.bundle run`.

Rooms are imported inside of the commands, so that `cxrpair --help` costs nothing and `cxrpair index` never waits for
torch or MONAI.
"""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from monai_cxrpair import __version__
from monai_cxrpair.commands.describe import describe
from monai_cxrpair.commands.doctor import doctor
from monai_cxrpair.commands.export_bundle import export_bundle
from monai_cxrpair.commands.index import index
from monai_cxrpair.commands.label_app import label_app
from monai_cxrpair.commands.pairs import pairs
from monai_cxrpair.commands.phantom import phantom
from monai_cxrpair.commands.pull import pull
from monai_cxrpair.commands.run import run
from monai_cxrpair.commands.send import send
from monai_cxrpair.commands.split import split
from monai_cxrpair.commands.sweep import sweep
from monai_cxrpair.errors import CxrPairError, disk_error

app = typer.Typer(
    name="cxrpair",
    help="Contrastive pre-training of chest X-ray encoders with positive pairs chosen by patient metadata.",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # paragraphs of the docstrings flow
    add_completion=False,
    pretty_exceptions_enable=False,  # errors are one line; main() prints them
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order in which a newcomer needs them; what each can do stands in its own module.
_COMMANDS: dict[Callable[..., None], str] = {
    index: "cxrpair index /data/pacs_export --out cohort.parquet --labels effusion.csv",
    describe: "cxrpair describe cohort.parquet",
    pairs: "cxrpair pairs cohort.parquet --config configs/pairing/same_study.yaml --html pairs.html",
    split: "cxrpair split cohort.parquet --out split.json --test 0.2 --finding pleural_effusion --label-fraction 0.01",
    sweep: "cxrpair sweep configs/experiments/table1.yaml --cohort cohort.parquet --out sweep/",
    phantom: "cxrpair phantom phantom/ --patients 200 --format dicom --seed 1",
    export_bundle: "cxrpair export-bundle report1/model.pt --out effusion_classification --onnx",
    label_app: "monailabel start_server --app $(cxrpair label-app) --studies studies/ --host 127.0.0.1",
    doctor: "cxrpair doctor --label",
    pull: "cxrpair pull https://pacs.example/dicom-web --out export/ --dates 20240101-20240331 --body-part CHEST",
    send: "cxrpair send answers/ --to https://pacs.example/dicom-web",
}
for _command, _example in _COMMANDS.items():
    app.command(epilog=f"Example: {_example}")(_command)
app.command(
    epilog="Example: cxrpair run training --config_file configs/train.yaml --cohort_file cohort.parquet",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(run)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cxrpair {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def main() -> None:
    """Run the command line: exit 0 on success, 2 on wrong usage, 1 with one line on stderr otherwise."""
    debug = bool(os.environ.get("CXRPAIR_DEBUG"))
    try:
        app()
    except CxrPairError as error:
        if debug:
            raise
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except Exception as error:  # the last frame: whatever it is, the user gets one line
        if debug:
            raise
        # The message of an unforeseen error may hold a patient's data, so it is shown only on request.
        unforeseen = f"unexpected {type(error).__name__}; set CXRPAIR_DEBUG=1 to see where it comes from"
        typer.echo(f"error: {disk_error(error) or unforeseen}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
