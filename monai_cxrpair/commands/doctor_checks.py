"""What `cxrpair doctor` looks at. Nothing here imports what it asks about, so that the answer comes at once."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]  # where the exact versions lie; an installed wheel has none
_ROOM = 5 * 10**9  # bytes free: the environment of the label server alone takes about 3 GB
_PATIENCE = 600  # seconds; the first import of a fresh environment compiles thousands of files
_WITHOUT_DEPENDENCIES = ("monailabel", "pydicom-seg")  # installed without their dependencies, see the Makefile
_EXTRAS = {"pacs": "cxrpair pull", "label": "the label server", "encoders": "ViT and ConvNeXt encoders"}


@dataclass(frozen=True)
class Check:
    """One thing looked at; `status` is ok, note (works, but look at it) or missing (something needed does not work)."""

    name: str
    status: str
    found: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)


def remedy(*, label: bool) -> str:
    """The one command that installs what is needed."""
    if (CHECKOUT / "Makefile").is_file():
        return f"make -C {CHECKOUT} {'label-env' if label else 'install'}"
    extra = "[pacs,label]" if label else "[pacs]"
    return f"{sys.executable} -m pip install --upgrade 'monai-cxrpair{extra}'"


def all_checks(*, label: bool) -> Iterator[Check]:
    """Everything; with `label` also the label server, which takes some ten seconds."""
    pins = _pins("constraints-label.txt" if label else "constraints.txt")
    yield _python()
    yield from _packages(pins, label=label)
    yield from _folders()
    yield _gpu()
    if label:
        yield from _label_server(pins)


def _python() -> Check:
    found = platform.python_version()
    if found.startswith("3.11."):
        return Check("Python", "ok", found)
    return Check("Python", "note", found, "the exact versions were seen to work with Python 3.11; MONAI Label needs it")


def _pins(file: str) -> dict[str, str]:
    """The exact versions, by normalised name; empty where the project was not installed from a checkout."""
    path = CHECKOUT / file
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pairs = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_normalised(name): pin.strip() for name, _, pin in pairs}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _packages(pins: dict[str, str], *, label: bool) -> Iterator[Check]:
    """What the package's metadata asks for: versions below a floor are as bad as none."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("monai-cxrpair") or []]
    except PackageNotFoundError:
        yield Check("monai-cxrpair", "missing", "not installed", "it runs from a folder that is not installed")
        return
    for extra in ("", *_EXTRAS):
        needed = not extra or (label and extra in ("pacs", "label"))
        mine = [one for one in wanted if _belongs(one, extra)]
        checks = [_package(one, pins) for one in mine]
        if not needed and any(check.status == "missing" for check in checks):
            yield Check(f"extra [{extra}]", "note", "not installed", f"needed only for {_EXTRAS[extra]}")
            continue
        yield from checks


def _belongs(requirement: object, extra: str) -> bool:
    marker = getattr(requirement, "marker", None)
    if getattr(requirement, "name", "").startswith("monai-cxrpair"):
        return False  # an extra that names another one
    if marker is None:
        return not extra
    return bool(extra) and bool(marker.evaluate({"extra": extra})) and not marker.evaluate({"extra": ""})


def _package(requirement: object, pins: dict[str, str]) -> Check:
    name, floor = str(getattr(requirement, "name", "")), getattr(requirement, "specifier", None)
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, "missing", "not installed", f"{name}{floor} is needed")
    if floor is not None and not floor.contains(found, prereleases=True):
        return Check(name, "missing", found, f"{name}{floor} is needed")
    return _against_pin(name, found, pins)


def _against_pin(name: str, found: str, pins: dict[str, str]) -> Check:
    pin = pins.get(_normalised(name))
    if pin is None or found.partition("+")[0] == pin:  # torch 2.13.0+cpu is torch 2.13.0
        return Check(name, "ok", found)
    return Check(name, "note", found, f"seen to work: {pin}")


def _folders() -> Iterator[Check]:
    """The folders that runs write to: here, the temporary one, and the user's cache and data."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    places = {
        "working folder": Path.cwd(),
        "temporary folder": Path(tempfile.gettempdir()),
        "cache": home,
        "data": data,
    }
    for name, folder in places.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            yield Check(name, "missing", str(folder), "it cannot be written")
            continue
        free = shutil.disk_usage(there).free
        status, advice = ("ok", "") if free >= _ROOM else ("note", f"less than {_ROOM / 1e9:.0f} GB are free")
        yield Check(name, status, f"{folder}, {free / 1e9:.0f} GB free", advice)


def _gpu() -> Check:
    """From the driver's own list, as asking torch takes seconds."""
    models = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        models += re.findall(r"^Model:\s*(.+)$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    if not models:
        return Check("GPU", "ok", "none; training takes the processor")
    try:
        build = version("torch")
    except PackageNotFoundError:
        build = ""
    if "+cpu" in build:
        return Check("GPU", "note", ", ".join(models), f"torch {build} cannot use it: install torch's CUDA build")
    return Check("GPU", "ok", ", ".join(models))


def _label_server(pins: dict[str, str]) -> Iterator[Check]:
    absent = False
    for name in _WITHOUT_DEPENDENCIES:
        try:
            yield _against_pin(name, version(name), pins)
        except PackageNotFoundError:
            absent = True
            yield Check(name, "missing", "not installed", "it must be installed without its dependencies")
    if not absent:
        yield _importable()
    yield from _settings()


def _importable() -> Check:
    """In a process of its own, started as the server is, so that the shim in site-packages is tried too."""
    code = "import monailabel.interfaces.app, monailabel.endpoints.infer"
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        advice = "this machine is too busy or its disk too slow: ask again"
        return Check("import monailabel", "missing", f"no answer within {_PATIENCE} s", advice)
    if done.returncode == 0:
        return Check("import monailabel", "ok", "with the stand-in for pydicom 2's module")
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Check("import monailabel", "missing", reason[:200], "the environment is not as `make label-env` makes it")


def _settings() -> Iterator[Check]:
    """MONAI Label's settings that are dangerous, or that the app takes no notice of."""
    said = {name: value for name, value in os.environ.items() if name.startswith("MONAI_LABEL_")}
    on = {"1", "true", "yes", "on"}
    if said.get("MONAI_LABEL_AUTH_ENABLE", "").lower() not in on:
        advice = (
            "whoever reaches the port reads the radiographs: start it with --host 127.0.0.1 (the default is 0.0.0.0)"
        )
        yield Check("MONAI_LABEL_AUTH_ENABLE", "note", "off, MONAI Label's default", advice)
    if "*" in said.get("MONAI_LABEL_CORS_ORIGINS", ""):
        yield Check("MONAI_LABEL_CORS_ORIGINS", "note", "*", "any web page could read the radiographs: remove it")
    for name in (
        "MONAI_LABEL_DATASTORE_FILE_EXT",
        "MONAI_LABEL_DICOMWEB_CONVERT_TO_NIFTI",
        "MONAI_LABEL_DICOMWEB_SEARCH_FILTER",
        "MONAI_LABEL_AUTO_UPDATE_SCORING",
        "MONAI_LABEL_SESSIONS",
    ):
        if name in said:
            yield Check(name, "note", said[name], "the app reads DX and CR as DICOM, JPEG and PNG and ignores this")
    if Path(".env").is_file():
        yield Check(".env", "note", str(Path(".env").absolute()), "MONAI Label reads its settings from this file too")
