"""From what `monailabel start_server` was told to a reading desk; no network, but for the studies' own server."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.desk import Desk, state_folder
from monai_cxrpair.label.loaded import find_model
from monai_cxrpair.label.reader_model import ReaderModel
from monai_cxrpair.label.studies import Studies
from monai_cxrpair.pacs import Query, pull
from monai_cxrpair.pacs.access import read_address
from monai_cxrpair.pacs.accessions import read_accessions
from monai_cxrpair.pacs.query import date_range

logger = logging.getLogger(__name__)

MODALITIES = ("DX", "CR")
CONF = {
    "models": "the finding that is served; it must be the classifier's",
    "model": "the classifier's model.pt; default: model/ in the app folder",
    "dates": "studies of a PACS: YYYYMMDD-YYYYMMDD",
    "accessions": "studies of a PACS: a file of accession numbers",
    "burned_in": "true: also radiographs whose header says that text is burned into the pixels",
    "server_mode": "MONAI Label's own",
}
_PICTURES = "a folder that is read must hold radiographs (DICOM, JPEG or PNG); its folders are searched too"


def open_desk(app_dir: str | Path, source: str, conf: Mapping[str, str], *, fetch: bool = True) -> Desk:
    """Read the studies and the classifier.

    Args:
        app_dir: the app's folder.
        source: a folder, or the address of a DICOMweb server.
        conf: see `CONF`.
        fetch: bring new studies from a DICOMweb server; a training process takes what the server has brought.

    Raises:
        CxrPairError: a setting is wrong, there are no studies, or no classifier that can be loaded.
    """
    check_conf(conf)
    place = find_model(conf.get("model") or Path(app_dir) / "model")
    model_file = place.absolute()
    state = state_folder(app_dir, source)
    folder = Path(source)
    if is_server(source):
        folder = state / "pacs"
        if fetch:
            _fetch(source, folder, conf)
    try:
        studies = Studies.read(folder, key_folder=state, allow_burned_in=conf.get("burned_in") == "true")
    except CxrPairError as error:
        raise CxrPairError(f"{error}; {_PICTURES}") from error
    for note in studies.notes:
        logger.info("%s", note)
    for reason, count in studies.left_out.items():
        logger.info("left out: %d files: %s", count, reason)
    model = ReaderModel(model_file, studies, cache_folder=state / "cache")
    wanted = conf.get("models") or model.finding
    if wanted != model.finding:
        raise CxrPairError(f"--conf models {wanted}: {model_file} is a classifier of {model.finding}")
    return Desk(studies, model, state=state)


def check_conf(conf: Mapping[str, str]) -> None:
    """Find a mistyped `--conf`.

    Raises:
        CxrPairError: there is one.
    """
    unknown = [name for name in conf if name not in CONF]
    if unknown:
        known = "; ".join(f"{name} ({what})" for name, what in CONF.items())
        raise CxrPairError(f"--conf {unknown[0]}: there is no such setting; there are {known}")
    if conf.get("burned_in", "false") not in ("true", "false"):
        raise CxrPairError(f"--conf burned_in {conf['burned_in']}: use true or false")


def is_server(source: str) -> bool:
    """Whether the studies come from a DICOMweb server."""
    return source.startswith(("http://", "https://"))


def _fetch(source: str, folder: Path, conf: Mapping[str, str]) -> None:
    dates, accessions = conf.get("dates"), conf.get("accessions")
    if not dates and not accessions:
        if not read_address(source).loopback:
            raise CxrPairError(f"{source}: say which studies: --conf dates YYYYMMDD-YYYYMMDD or --conf accessions FILE")
        dates = "19000101-99991231"  # a server on this machine holds what somebody put there to be read
    query = Query(
        dates=date_range(dates) if dates else None,
        accessions=read_accessions(Path(accessions)) if accessions else (),
        modalities=MODALITIES,
    )
    result = pull(source, folder, query, progress=_told)
    logger.info("%d studies at the server, %d instances fetched anew", result.studies, result.fetched)
    if result.failed or result.studies_failed:
        logger.warning(
            "%d instances and %d studies could not be fetched; the next start tries them again",
            result.failed,
            result.studies_failed,
        )


def _told(done: int, total: int) -> None:
    if done % 100 == 0:
        logger.info("fetched %d of %d studies", done, total)
