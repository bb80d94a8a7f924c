"""What the documents promise is there."""

import re
from pathlib import Path

from monai_cxrpair import cli
from monai_cxrpair.cohort.readers.formats import FORMATS
from monai_cxrpair.cohort.rejects import Reason

ROOT = Path(__file__).resolve().parents[1]
COHORT = (ROOT / "docs" / "cohort.md").read_text()


def test_the_list_of_reasons_is_documented_and_closed() -> None:
    listed = dict(re.findall(r"^\| ([a-z0-9 -]+) \| (.+\.) \|$", COHORT, re.MULTILINE))
    assert listed == {str(reason): reason.description for reason in Reason}


def test_every_format_is_documented() -> None:
    for name in set(FORMATS) - {"dicom", "table"}:
        assert f"| `{name}` |" in COHORT


def test_every_command_and_option_of_the_documents_exists() -> None:
    from typer.main import get_command

    commands = get_command(cli.app).commands  # type: ignore[attr-defined]
    for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        lines = path.read_text().replace("\\\n", " ").splitlines()
        for line in lines:
            for name, rest in re.findall(r"cxrpair (index|describe|pairs|split|pull|phantom|sweep)\b([^`#|]*)", line):
                known = {option for parameter in commands[name].params for option in parameter.opts}
                known |= {option for parameter in commands[name].params for option in parameter.secondary_opts}
                for option in re.findall(r"(?<!\S)(--[a-z-]+)", rest):
                    assert option in known, f"{path.name}: cxrpair {name} {option}"


def test_every_link_leads_somewhere() -> None:
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_settings_of_a_rule_that_are_documented_are_those_that_exist() -> None:
    from dataclasses import fields

    from monai_cxrpair.pairing import PairCriterion

    table = (ROOT / "docs" / "pairing.md").read_text().split("| setting |")[1].split("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == {f.name for f in fields(PairCriterion)}
