import runpy
import sys
from typing import Annotated

import typer


def run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="training|evaluating|inference")],
) -> None:
    """Run a workflow of the bundle as `python -m monai.bundle run` does, its configs checked before.

    MONAI runs what stands in a config. Here each file is read first, and one that holds more than settings is refused;
    `--trust_config true` takes it nevertheless. All other options are the workflow's own: `--config_file` and so on.
    """
    from monai_cxrpair.trust import check_command

    check_command(context.args)
    sys.argv = ["monai.bundle", "run", name, *context.args]
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
