"""Is a config only settings? MONAI evaluates every `$expression` of a config and imports every `_target_`.

What this project's own configs hold is allowed word for word (`trusted.txt`), and networks, losses and optimisers by
name. Whatever else would run code is refused before MONAI sees it, unless the user says `--trust_config true`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from monai_cxrpair.errors import CxrPairError

TRUSTED_FILE = Path(__file__).with_name("trusted.txt")
SWITCH = "--trust_config"
# Classes by themselves: what a name leads to below a module (`torch.nn.os.system`) is not a class of it.
_CLASSES = re.compile(r"(?:torch\.nn|torch\.optim|torch\.optim\.lr_scheduler|monai\.networks\.nets)\.[A-Z][A-Za-z0-9]*")
_TRANSFORM = re.compile(r"(?:monai\.transforms\.)?[A-Z][A-Za-z0-9]*")
# What downloads, calls what it is given (LoadImage: any function, as its reader), or writes files.
_OTHERWISE = re.compile(r"Load|CuCIM|TorchVision|TorchIO|Pretrained|Lambda|Save|Write|ApplyTransform|SimulateDelay")
_MACRO = re.compile(r"%[A-Za-z_][\w#:]*")
_FILES = ("config_file", "meta_file", "args_file")


def runnable(config: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Key and text of everything in a config that MONAI would run or import.

    Args:
        config: as it stands in a file, not evaluated.
        key: of it.
    """
    if isinstance(config, Mapping):
        for name, value in config.items():
            place = f"{key}#{name}" if key else str(name)
            # MONAI reads `encoder#_target_` and `encoder::_target_` of a file as a place within a section.
            if re.split("#|::", str(name))[-1].lstrip("+") in ("_target_", "_mode_"):
                yield place, str(value)
            else:
                yield from runnable(value, place)
    elif isinstance(config, (list, tuple)):
        for number, value in enumerate(config):
            yield from runnable(value, f"{key}#{number}")
    elif isinstance(config, str) and (
        config.lstrip().startswith("$") or (config.startswith("%") and not _MACRO.fullmatch(config))
    ):
        yield key, config


def written(text: str) -> str:
    """Without line breaks, which YAML folds, and with `::` for `#`, as MONAI has it once it has read a config."""
    return " ".join(text.split()).replace("#", "::")


def trusted() -> frozenset[str]:
    """What this project's own configs run."""
    return frozenset(TRUSTED_FILE.read_text(encoding="utf-8").splitlines())


def check_config(config: Any, *, source: str, typed: Iterable[str] = ()) -> None:
    """Refuse what is neither a setting nor known.

    Args:
        config: not evaluated.
        source: the file, for the message.
        typed: the words of the command line: who types it could run anything anyway.

    Raises:
        CxrPairError: names the key and what stands there.
    """
    known = trusted() | {written(text) for text in _typed(list(typed))}
    for key, text in runnable(config):
        if (key.endswith("_target_") and _is_harmless(text)) or written(text) in known:
            continue
        raise CxrPairError(
            f"{source}: {key} would run {written(text)[:80]!r}, which is no setting of this project; read the file, "
            f"and where you trust it add {SWITCH} true"
        )


def _is_harmless(name: str) -> bool:
    """A network, loss, optimiser or transform, by the name of its class."""
    if _CLASSES.fullmatch(name):
        return not _OTHERWISE.search(name)
    if not _TRANSFORM.fullmatch(name) or _OTHERWISE.search(name):
        return False
    import monai.transforms  # MONAI is to read this config anyway

    return hasattr(monai.transforms, name.rpartition(".")[2])


def is_trusted(arguments: list[str]) -> bool:
    """Whether the command line says so; a config cannot."""
    return any(name == SWITCH[2:] and value.lower() == "true" for name, value in _options(arguments))


def check_command(arguments: list[str]) -> None:
    """Check every config that `monai.bundle run` would read with these arguments, before it does.

    Args:
        arguments: as after `python -m monai.bundle run`.

    Raises:
        CxrPairError: see `check_config`; a file that cannot be read; or a logging file of somebody else's, since
            Python evaluates what stands in it.
    """
    if is_trusted(arguments):
        return
    _refuse_nameless(arguments)
    for name, value in _options(arguments):
        if name == "logging_file" and value.lower() not in ("none", "false"):
            raise CxrPairError(
                f"--logging_file {value}: Python evaluates what stands in it; read it, and add {SWITCH} true to use it"
            )
        if name in _FILES or (name == "tracking" and value != "mlflow"):
            for file in _list(value):
                config = _read(Path(file))
                check_config(config, source=file, typed=arguments)
                if name == "args_file" and isinstance(config, Mapping):  # options, which name further files
                    check_command([f"--{key}={said}" for key, said in config.items() if f"--{key}" != SWITCH])


def _refuse_nameless(arguments: list[str]) -> None:
    """MONAI's command line takes a config file also by its place and as `-config_file`; here neither is looked for."""
    follows = False  # the option before this word waits for its value
    for word in arguments:
        option = word.startswith("--") and len(word) > 2
        if not option and (not follows or re.match("-[A-Za-z-]", word) or word in ("-", "--")):
            raise CxrPairError(f"{word!r} belongs to no option: write --NAME VALUE, such as --config_file train.yaml")
        follows = option and "=" not in word


def _options(arguments: list[str]) -> Iterator[tuple[str, str]]:
    for number, word in enumerate(arguments):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield name.replace("-", "_"), value if equals else " ".join(arguments[number + 1 : number + 2])


def _typed(arguments: list[str]) -> Iterator[str]:
    """What the options of a command line would run themselves."""
    for name, value in _options(arguments):
        try:
            said = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            said = value
        for part in reversed(name.split("#")):
            said = {part: said}
        yield from (text for _, text in runnable(said))


def _list(value: str) -> list[str]:
    try:
        said = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return [part for part in value.split(",") if part]
    return [str(part) for part in said] if isinstance(said, (list, tuple)) else [str(said)]


def _read(path: Path) -> Any:
    """YAML holds JSON."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CxrPairError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise CxrPairError(f"{path}: is neither YAML nor JSON ({written(str(error))[:120]})") from error
