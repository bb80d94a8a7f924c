"""The answers about the radiographs of a study as a DICOM structured report (TID 1500, Measurement Report)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.reporting.answer import NAME, RESEARCH_ONLY, Algorithm, Answer, derived_uid, highdicom, percent
from monai_cxrpair.reporting.codes import (
    ABSENT,
    CALIBRATED,
    CERTAINTY,
    CHEST_RADIOGRAPHY,
    COMMENT,
    PERCENT,
    PRESENT,
    PRIVATE_SCHEME,
    PRIVATE_SCHEME_NAME,
    THRESHOLD,
    Term,
    finding_term,
)
from monai_cxrpair.reporting.source import UTF8, copy_patient_and_study, tamed

SERIES_NUMBER = 9901  # far from those of a modality; viewers list series by it


def build_report(answers: Sequence[Answer], algorithm: Algorithm, *, created: datetime | None = None) -> Any:
    """Make the report of a study: a measurement group for each radiograph.

    A group says, in this order: which finding it is about, on which image, by which algorithm (name, version, hash of
    the model, operating point), its certainty in percent, the threshold, the decision (finding: present or absent), and
    a comment that begins with "research use only". The report is complete, but preliminary and unverified: no
    physician has seen it.

    Args:
        answers: At least one, all of one study.
        algorithm: Who gives them.
        created: When; now if None. The UIDs do not depend on it, but on all that is said.

    Returns:
        A `highdicom.sr.ComprehensiveSR`, with the patient and study of the radiographs.

    Raises:
        CxrPairError: There is no answer, they are of several studies, or highdicom is missing.
    """
    hd = highdicom()
    if not answers:
        raise CxrPairError("a report needs at least one answer")
    answers = sorted(answers, key=lambda answer: str(answer.source.SOPInstanceUID))  # in any order the same report
    sources = [tamed(answer.source) for answer in answers]
    if len({source.StudyInstanceUID for source in sources}) > 1:
        raise CxrPairError("the answers of one report are of several studies: write a report for each")
    created = created or datetime.now()
    said = [
        (answer.source.SOPInstanceUID, answer.sentence(algorithm), answer.calibrated, answer.remark)
        for answer in answers
    ]
    uid = derived_uid("sr", algorithm.model_hash, algorithm.version, algorithm.finding, algorithm.rule, *said)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they name the values they complain about
        report = hd.sr.ComprehensiveSR(
            evidence=sources,
            content=_content(hd, answers, algorithm)[0],
            series_instance_uid=derived_uid(
                "sr series", sources[0].StudyInstanceUID, algorithm.model_hash, algorithm.finding
            ),
            series_number=SERIES_NUMBER,
            sop_instance_uid=uid,
            instance_number=1,
            is_complete=True,
            is_final=False,
            coding_schemes=[
                hd.coding_schemes.CodingSchemeIdentificationItem(
                    PRIVATE_SCHEME, name=PRIVATE_SCHEME_NAME, responsible_organization=NAME
                )
            ],
            **common_attributes(algorithm, created),
        )
        report.SeriesDescription = series_description(algorithm)
        copy_patient_and_study(answers[0].source, report)
    stamp(report, created)
    return report


def common_attributes(algorithm: Algorithm, created: datetime) -> dict[str, Any]:
    """What both objects say of the software and the time."""
    return {
        "manufacturer": NAME,
        "manufacturer_model_name": f"{NAME} classifier",
        "device_serial_number": algorithm.model_hash,
        "software_versions": algorithm.version,
        "content_qualification": "RESEARCH",  # (0018,9004), the attribute made for it
        "specific_character_set": UTF8,
        "content_date": created.date(),
        "content_time": created.time(),
    }


def stamp(data: Any, created: datetime) -> None:
    """One time for the whole object: highdicom writes several of its own."""
    data.InstanceCreationDate, data.InstanceCreationTime = data.ContentDate, data.ContentTime
    for equipment in data.get("ContributingEquipmentSequence") or []:
        equipment.ContributionDateTime = created.strftime("%Y%m%d%H%M%S.%f")


def series_description(algorithm: Algorithm) -> str:
    """What stands in the archive's list of series, at most 64 letters."""
    return f"RESEARCH USE ONLY: {NAME} {algorithm.words}".replace("\\", "/")[:64].strip()


def _content(hd: Any, answers: Sequence[Answer], algorithm: Algorithm) -> Any:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", algorithm.model_hash),
        name=NAME,
        manufacturer_name=NAME,
        model_name=f"{NAME} classifier: {algorithm.words}",
        serial_number=algorithm.model_hash,
    )
    observer = hd.sr.ObserverContext(
        observer_type=_code(hd, Term("121007", "DCM", "Device")), observer_identifying_attributes=device
    )
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_code(hd, CHEST_RADIOGRAPHY),
        imaging_measurements=[_group(hd, answer, algorithm) for answer in answers],
    )


def _group(hd: Any, answer: Answer, algorithm: Algorithm) -> Any:
    finding = _code(hd, finding_term(algorithm.finding))
    image = str(answer.source.SOPClassUID).strip(), str(answer.source.SOPInstanceUID).strip()
    parameters = [f"model SHA-256 {algorithm.model_hash}"]
    if algorithm.threshold is not None:
        parameters.append(f"operating point {percent(algorithm.threshold):.2f} % {algorithm.rule}".strip())
    values = {CERTAINTY: answer.probability, CALIBRATED: answer.calibrated, THRESHOLD: algorithm.threshold}
    present = algorithm.present(answer.probability)
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=derived_uid("tracking", image[1], algorithm.finding, algorithm.model_hash),
            identifier=f"{NAME} {algorithm.words}",
        ),
        finding_type=finding,
        algorithm_id=hd.sr.AlgorithmIdentification(NAME, algorithm.version, parameters=parameters, manufacturer=NAME),
        source_images=[hd.sr.SourceImageForMeasurementGroup(*image)],
        measurements=[
            hd.sr.Measurement(_code(hd, name), percent(value), _code(hd, PERCENT))
            for name, value in values.items()
            if value is not None
        ],
        # "Finding" alone would read as if it were there: this says whether.
        qualitative_evaluations=None
        if present is None
        else [hd.sr.QualitativeEvaluation(finding, _code(hd, PRESENT if present else ABSENT))],
    )
    text = f"{RESEARCH_ONLY}. {answer.sentence(algorithm)}" + (f". {answer.remark}" if answer.remark else "")
    group[0].ContentSequence.append(
        hd.sr.TextContentItem(_code(hd, COMMENT), text, hd.sr.RelationshipTypeValues.CONTAINS)
    )
    return group


def _code(hd: Any, term: Term) -> Any:
    return hd.sr.CodedConcept(*term)
