"""From what a header or a table says about the projection to the paper's laterality.

`frontal` and `lateral` need positive evidence; an oblique, a decubitus or a contradiction is `unknown`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Spellings of ViewPosition (0018,5101) after `_clean`: the defined terms of DICOM PS3.3 C.8.7.4 and C.8.11.7, and
# what stands in real headers (Open-i: LATERAL, LARGE LATERAL; MIMIC-CXR: LATERAL; German and Romance sites).
_FRONTAL = {
    **dict.fromkeys(("PA", "P A", "POSTERO ANTERIOR", "POSTEROANTERIOR", "PA ERECT", "PA UPRIGHT"), "PA"),
    **dict.fromkeys(("AP", "A P", "ANTERO POSTERIOR", "ANTEROPOSTERIOR", "AP ERECT", "AP UPRIGHT"), "AP"),
    **dict.fromkeys(("AP SUPINE", "AP PORTABLE", "PORTABLE AP", "AP SITTING", "SUPINE AP"), "AP"),
    **dict.fromkeys(("FRONTAL",), "FRONTAL"),
}
_LATERAL = {
    **dict.fromkeys(("LL", "LEFT LATERAL", "L LAT", "LLAT", "LAT L", "LEFT LAT", "LATERAL LEFT"), "LL"),
    **dict.fromkeys(("RL", "RIGHT LATERAL", "R LAT", "RLAT", "LAT R", "RIGHT LAT", "LATERAL RIGHT"), "RL"),
    **dict.fromkeys(("LATERAL", "LAT", "LARGE LATERAL", "LATERO LATERAL", "LATEROLATERAL", "PROFILE"), "LATERAL"),
}
# Terms that are neither, but may be kept: they say nothing about the patient.
_OTHER = frozenset(
    (
        *("RLD", "LLD", "RLO", "LLO", "LPO", "RPO", "LAO", "RAO", "AP LLD", "AP RLD", "PA LLD", "PA RLD"),
        *("AP AXIAL", "XTABLE LATERAL", "LATERAL DECUBITUS", "SWIMMERS", "OBLIQUE", "LORDOTIC"),
    )
)
_FRONTAL_WORDS = frozenset(("PA", "AP", "FRONTAL", "POSTEROANTERIOR", "ANTEROPOSTERIOR", "DV", "VD"))
_LATERAL_WORDS = frozenset(
    ("LAT", "LATERAL", "LATERALE", "LATERALIS", "SEITLICH", "SEITL", "PROFIL", "PROFILE", "LLAT", "RLAT")
)
_NEITHER = re.compile(r"DECUB|OBL|LORDOT|APIC|SWIM|AXIAL|XTABLE|CROSS")
# Code values of ViewCodeSequence (0054,0220) that a chest radiograph may have: CID 4010 of DICOM PS3.16, in SNOMED CT
# and in the older SRT (SNM3) codes. R-10214 is how real CR headers write `postero-anterior` (Open-i); R-40888 is what
# the current standard maps to the same concept.
_CODES = {
    **dict.fromkeys(("272479007", "R-40888", "R-10214"), ("frontal", "PA")),
    **dict.fromkeys(("399348003", "R-10206"), ("frontal", "AP")),
    **dict.fromkeys(("399033003", "R-10202"), ("frontal", "FRONTAL")),
    **dict.fromkeys(("399173006", "R-10236"), ("lateral", "LL")),
    **dict.fromkeys(("399198007", "R-10232"), ("lateral", "RL")),
    **dict.fromkeys(("399067008", "R-102CD"), ("lateral", "LATERAL")),
}
# Names of processing algorithms: `NA_chestAP_auto` processed 159 radiographs of Open-i that are PA, but no lateral one.
_ALGORITHMS = ("PostprocessingFunction", "ProcessingFunction")


@dataclass(frozen=True)
class View:
    """What is known about the projection.

    Attributes:
        laterality: `frontal`, `lateral` or `unknown`.
        position: `PA`, `AP`, `LL`, `RL`, `LATERAL`, `FRONTAL`, another known term, `OTHER`, or empty.
        evidence: The attribute that decided, or empty.
    """

    laterality: str
    position: str
    evidence: str


def _clean(text: str) -> str:
    return " ".join(re.sub(r"[^\w]+|_", " ", text.upper()).split())


def laterality_of(position: str) -> str:
    """Return the laterality that a view position proves, else `unknown`."""
    name = _clean(position)
    return "frontal" if name in _FRONTAL else "lateral" if name in _LATERAL else "unknown"


def normal_position(position: str) -> str:
    """Write a view position in its normal form; an unknown term becomes `OTHER`, because it may be free text."""
    name = _clean(position)
    if not name:
        return ""
    return _FRONTAL.get(name) or _LATERAL.get(name) or (name if name in _OTHER else "OTHER")


def _from_words(text: str) -> tuple[str, str]:
    """Laterality and position of a description, decided only where its words leave one possibility."""
    # "antero-posterior" is two words after cleaning; joined they are one of the lists. `chestLAT` is two words.
    name = (
        _clean(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text))
        .replace("POSTERO ANTERIOR", "POSTEROANTERIOR")
        .replace("ANTERO POSTERIOR", "ANTEROPOSTERIOR")
    )
    words = set(name.split())
    frontal, lateral = words & _FRONTAL_WORDS, words & _LATERAL_WORDS
    if _NEITHER.search(name) or bool(frontal) == bool(lateral):
        return "unknown", ""
    if lateral:
        side = "LL" if words & {"LEFT", "LLAT"} else "RL" if words & {"RIGHT", "RLAT"} else "LATERAL"
        return "lateral", side
    positions = {_FRONTAL.get(word, "FRONTAL") for word in frontal}
    return "frontal", positions.pop() if len(positions) == 1 else "FRONTAL"


def view_of(
    *,
    position: str,
    codes: Sequence[str] = (),
    descriptions: Sequence[tuple[str, str]] = (),
    orientation: Sequence[str] = (),
) -> View:
    """Decide the projection of a radiograph from its header; the first evidence that decides wins.

    Args:
        position: ViewPosition (0018,5101).
        codes: Code values and code meanings of ViewCodeSequence (0054,0220).
        descriptions: Attribute name and text of SeriesDescription, ProtocolName, PostprocessingFunction, ... The study
            description and the procedure code have no part: they name all views of the study.
        orientation: PatientOrientation (0020,0020): direction of the rows and of the columns.

    Returns:
        The view and the attribute that decided it.
    """
    known = normal_position(position)
    if laterality_of(position) != "unknown":
        return View(laterality_of(position), known, "ViewPosition")
    if known not in ("", "OTHER"):
        return View("unknown", known, "ViewPosition")  # an oblique or decubitus: the header has spoken
    for source, text in [*(("ViewCodeSequence", code) for code in codes), *descriptions]:
        laterality, found = (source == "ViewCodeSequence" and _CODES.get(text.strip())) or _from_words(text)
        if laterality != "unknown":
            return View(laterality, "FRONTAL" if laterality == "frontal" and source in _ALGORITHMS else found, source)
        if _NEITHER.search(_clean(text)):
            return View("unknown", known, source)  # an oblique is no frontal, whichever way its rows run
    # Rows that run to the patient's left or right make a frontal, to the front or the back a lateral
    # (PS3.3 C.7.6.1.1.1). In the 4,481 Open-i headers that have both, this never contradicts ViewPosition.
    axes = {str(direction).strip().upper()[:1] for direction in orientation[:1]}
    if axes & {"L", "R"}:
        return View("frontal", known, "PatientOrientation")
    if axes & {"A", "P"}:
        return View("lateral", known, "PatientOrientation")
    return View("unknown", known, "")
