"""What is installed is what constraints.txt names: exact versions, nothing besides them, each file by its hash."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ["test", "pacs", "reporting", "encoders", "export"]
# What torch's build for GPUs brings; ours is the one for the CPU.
GPU = ("nvidia-", "cuda-", "triton")


def pins(name):
    """Package -> version of each requirement line; a line that is no exact pin is an error."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        if not line or line.startswith(("#", " ")):
            continue
        requirement = Requirement(line.removesuffix("\\"))
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        assert "*" not in specifier.version, line
        found[canonicalize_name(requirement.name)] = specifier.version.removesuffix("+cpu")
    return found


def asked(*extras):
    """What pyproject.toml asks for, with these extras; the project itself left out."""
    optional = PROJECT["optional-dependencies"]
    requirements = map(Requirement, [*PROJECT["dependencies"], *chain(*(optional[extra] for extra in extras))])
    return [each for each in requirements if each.name != PROJECT["name"]]


def brought(requirements):
    """Everything that an installation brings with these, as far as it is installed here."""
    seen, waiting = set(), [(each, "") for each in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ["", *requirement.extras]:
            if (name, extra) not in seen and not name.startswith(GPU):
                seen.add((name, extra))
                try:
                    lines = requires(name) or []
                except PackageNotFoundError:  # an extra that is not installed here: its own name counts all the same
                    lines = []
                waiting += [(Requirement(line), extra) for line in lines]
    return {name for name, _ in seen}


def test_every_package_that_an_installation_brings_has_an_exact_version():
    everything = brought(asked(*EXTRAS))
    assert {"numpy", "sympy", "setuptools", "highdicom", "pyjpegls"} <= everything  # also what others bring
    assert everything - set(pins("constraints.txt")) == set()


def test_the_hashes_are_those_of_the_exact_versions():
    assert pins("requirements.txt") == pins("constraints.txt")


def test_every_version_has_hashes_and_the_file_names_no_index():
    text = (ROOT / "requirements.txt").read_text()
    body = re.sub(r"^#.*\n", "", text, flags=re.M)
    for block in re.split(r"\n(?=\S)", body.strip()):
        first, *hashes = [line.removesuffix("\\").strip() for line in block.splitlines()]
        assert hashes, first
        for line in hashes:
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line), (first, line)
    assert "://" not in body
    assert not re.search(r"^-", body, flags=re.M)


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-label.txt"])
def test_no_package_is_pinned_below_what_pyproject_asks_for(name):
    exact = pins(name)
    for requirement in asked(*PROJECT["optional-dependencies"]):
        version = exact.get(canonicalize_name(requirement.name))
        assert version is None or version in requirement.specifier, f"{requirement}: {version}"


def test_the_two_environments_share_their_versions():
    ours, label = pins("constraints.txt"), pins("constraints-label.txt")
    assert {each: label[each] for each in ours.keys() & label.keys()} == {
        each: ours[each] for each in ours.keys() & label.keys()
    }
