"""The reports of Open-i: XML with MeSH and RadLex terms, which become findings."""

import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from monai_cxrpair.cohort.readers.findings import KNOWN, shared_name
from monai_cxrpair.errors import CxrPairError

# Headings before the first `/`, or with their first qualifier, that mean findings of CheXpert and NIH.
_TERMS = {
    **dict.fromkeys(("hydropneumothorax", "hemopneumothorax"), ("pleural_effusion", "pneumothorax")),
    **dict.fromkeys(("hemothorax", "pleural effusions", "bilateral pleural effusion"), ("pleural_effusion",)),
    **dict.fromkeys(("atelectases",), ("atelectasis",)),
    **dict.fromkeys(("bullous emphysema", "emphysemas"), ("emphysema",)),
    **dict.fromkeys(("edemas", "pulmonary edemas"), ("edema",)),
    **dict.fromkeys(("opacity/lung", "opacities"), ("lung_opacity",)),
    **dict.fromkeys(("fractures, bone", "rib fracture", "rib fractures", "fractures"), ("fracture",)),
    **dict.fromkeys(("implanted medical device", "medical device", "catheters, indwelling"), ("support_devices",)),
    **dict.fromkeys(("tube, inserted", "stents", "pacemaker, artificial"), ("support_devices",)),
    **dict.fromkeys(("thickening/pleura", "pleural thickening"), ("pleural_thickening",)),
    **dict.fromkeys(("cardiac shadow/enlarged", "mediastinum/enlarged"), ("enlarged_cardiomediastinum",)),
    **dict.fromkeys(("hernia, diaphragmatic", "hiatal hernia"), ("hernia",)),
}


def read_reports(source: Path) -> dict[str, dict[str, int] | None]:
    """Read the terms of all reports.

    Args:
        source: `NLMCXR_reports.tgz`, or the folder with the XML files in it.

    Returns:
        For each report (`CXR1000`) finding -> 1 where a major term (chosen by a human indexer) names it, -1 where only
        an automatic one (found in the text by a program) does; None for a report that nobody has indexed.

    Raises:
        CxrPairError: The reports cannot be read.
    """
    try:
        return dict(_report(document) for document in _documents(source))
    except (tarfile.TarError, OSError, EOFError, ElementTree.ParseError) as error:
        raise CxrPairError(f"the reports {source} cannot be read: {' '.join(str(error).split())}") from error


def _report(document: bytes) -> tuple[str, dict[str, int] | None]:
    report = ElementTree.fromstring(document)
    major, automatic = (
        {(term.text or "").strip().lower() for term in report.iterfind(f".//MeSH/{kind}")} - {""}
        for kind in ("major", "automatic")
    )
    identity = report.find(".//uId")
    name = "" if identity is None else identity.get("id", "")
    if not major or major == {"no indexing"}:
        return name, None
    values = {finding: -1 for term in automatic for finding in _names(term)}
    return name, {**values, **{finding: 1 for term in major for finding in _names(term)}}


def _documents(source: Path) -> Iterator[bytes]:
    """Yield the XML files of the folder or the archive; nothing is extracted to the disk."""
    if source.is_dir():
        yield from (path.read_bytes() for path in sorted(source.glob("*.xml")))
        return
    with tarfile.open(source) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.endswith(".xml") else None
            if stream is not None:
                yield stream.read()


def _names(term: str) -> tuple[str, ...]:
    heading, _, rest = term.partition("/")
    for text in (f"{heading}/{rest.partition('/')[0]}", heading):
        if text in _TERMS:
            return _TERMS[text]
    name = shared_name(heading)
    return (name,) if name in KNOWN else ()
