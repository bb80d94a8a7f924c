"""The report, read with plain pydicom: highdicom made it, so it is no witness."""

import json
import shutil
import subprocess
import warnings
from datetime import datetime
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.reporting import Algorithm, Answer, build_report, check_object, read_algorithm, save_object
from monai_cxrpair.reporting.codes import finding_term

CREATED = datetime(2026, 3, 4, 5, 6, 7)


def _written(report: Any, folder: Any) -> pydicom.Dataset:
    return pydicom.dcmread(save_object(report, folder))


def _groups(data: pydicom.Dataset) -> list[dict[str, list[Any]]]:
    """Of each measurement group: code of a concept -> what is said of it."""
    root = {item.ConceptNameCodeSequence[0].CodeValue: item for item in data.ContentSequence}
    groups = []
    for group in root["126010"].ContentSequence:  # Imaging Measurements
        said: dict[str, list[Any]] = {}
        for item in group.ContentSequence:
            code = item.ConceptNameCodeSequence[0].CodeValue
            if item.ValueType == "NUM":
                value = item.MeasuredValueSequence[0]
                said.setdefault(code, []).append(
                    (float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue)
                )
            elif item.ValueType == "CODE":
                concept = item.ConceptCodeSequence[0]
                said.setdefault(code, []).append(
                    (concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning)
                )
            elif item.ValueType == "IMAGE":
                said.setdefault("image", []).append(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            else:
                said.setdefault(code, []).append(item.get("TextValue") or item.get("UID"))
        groups.append(said)
    return groups


def test_a_report_says_what_how_sure_by_whom_and_of_which_image(answer, algorithm, tmp_path):
    data = _written(build_report([answer(remark="unlike the training")], algorithm, created=CREATED), tmp_path)
    (said,) = _groups(data)
    assert said["121071"] == [("60046008", "SCT", "Pleural effusion")]
    assert said["111012"] == [(73.0, "%")]
    assert said["THRESHOLD"] == [(54.0, "%")]
    assert said["60046008"] == [("52101004", "SCT", "Present")]
    assert said["111001"] == ["CXR-Pair"]
    assert said["111002"] == ["model SHA-256 " + "ab" * 32, "operating point 54.00 % youden"]
    assert said["image"] == ["1.2.3.4"]
    assert said["121106"][0].startswith("RESEARCH USE ONLY")
    assert "unlike the training" in said["121106"][0]
    assert (data.SOPClassUID.name, data.Modality) == ("Comprehensive SR Storage", "SR")
    assert (data.PreliminaryFlag, data.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert "RESEARCH USE ONLY" in data.SeriesDescription
    series = data.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert (series.SeriesInstanceUID, series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) == ("1.2.3", "1.2.3.4")
    assert (data.ContentDate, data.InstanceCreationDate) == ("20260304", "20260304")


def test_patient_and_study_are_the_hospitals_own_even_where_they_break_rules(answer, algorithm, tmp_path):
    own = {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎",
        "PatientID": " 00 42/Ä".replace("Ä", "A"),
        "PatientSex": "X",
        "AccessionNumber": "2024-0105-0000000000042",
        "PatientBirthDate": "1952.06.03",
        "StudyTime": "10:15",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of the broken rules
        given_ = answer(**own)
    path = save_object(build_report([given_], algorithm), tmp_path)
    data = pydicom.dcmread(path)
    data.decode()
    for keyword, value in own.items():
        if keyword != "SpecificCharacterSet":
            assert str(data[keyword].value).strip() == value.strip(), keyword
    assert data.StudyInstanceUID == "1.2"
    assert data.StudyDescription == "XR CHEST"
    assert data.PatientName.ideographic == "山田^太郎"
    assert check_object(path, sources=[given_.source], tools=False) == "report"


def test_what_the_radiograph_does_not_say_the_report_leaves_empty(answer, algorithm, tmp_path):
    bare = dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyID"), None)
    path = save_object(build_report([answer(**bare)], algorithm), tmp_path)
    data = pydicom.dcmread(path)
    assert [str(data[name].value or "") for name in bare] == [""] * len(bare)
    assert check_object(path) == "report"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(probability=st.floats(0, 1), threshold=st.none() | st.floats(0, 1))
def test_the_decision_is_that_of_the_exact_numbers_whatever_they_are(answer, tmp_path, probability, threshold):
    said_by = Algorithm(finding="pleural_effusion", model_hash="00", threshold=threshold)
    path = save_object(build_report([answer(probability=probability)], said_by), tmp_path)
    (said,) = _groups(pydicom.dcmread(path))
    decision = [each[2] for each in said.get("60046008", [])]
    assert decision == ([] if threshold is None else ["Present" if probability >= threshold else "Absent"])
    assert abs(said["111012"][0][0] - 100 * probability) <= 0.005 + 1e-9
    assert check_object(path, tools=False) == "report"


def test_a_study_has_a_group_for_each_radiograph_and_the_same_report_in_any_order(answer, algorithm, tmp_path):
    answers = [answer("1.2.3.4", probability=0.9), answer("1.2.3.5", probability=0.1)]
    one = build_report(answers, algorithm, created=CREATED)
    path = save_object(one, tmp_path)
    assert [group["image"] for group in _groups(pydicom.dcmread(path))] == [["1.2.3.4"], ["1.2.3.5"]]
    other = build_report(answers[::-1], algorithm, created=CREATED)
    assert save_object(other, tmp_path / "again").read_bytes() == path.read_bytes()
    assert check_object(path, sources=[each.source for each in answers]) == "report"


def test_whatever_says_something_else_has_another_uid_and_the_time_has_no_part_in_it(answer, algorithm):
    def uid(**changes: Any) -> str:
        of_answer = {key: changes.pop(key) for key in ("probability", "remark") if key in changes}
        by = Algorithm(**(algorithm.__dict__ | changes))
        return str(build_report([answer(**of_answer)], by, created=CREATED).SOPInstanceUID)

    first = uid()
    assert str(build_report([answer()], algorithm).SOPInstanceUID) == first
    changed = [
        uid(probability=0.74),
        uid(remark="a"),
        uid(model_hash="cd" * 32),
        uid(threshold=0.55),
        uid(finding="edema"),
        uid(version="9"),
    ]
    assert len({first, *changed}) == 7
    assert all(each.startswith("2.25.") and len(each) <= 64 for each in changed)


def test_answers_of_two_studies_are_no_report(answer, algorithm):
    with pytest.raises(CxrPairError, match="several studies"):
        build_report([answer("1.2.3.4"), answer("1.2.3.5", StudyInstanceUID="1.9")], algorithm)
    with pytest.raises(CxrPairError, match="at least one"):
        build_report([], algorithm)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_no_answer(answer, probability):
    with pytest.raises(CxrPairError, match="between 0 and 1"):
        answer(probability=probability)


def test_a_finding_without_a_standard_code_gets_a_private_one_that_says_so(answer, tmp_path):
    term = finding_term("pleural_other")
    assert term == ("PLEURAL_OTHER", "99CXRPAIR", "pleural other (private code)")
    long = [finding_term(f"a finding with a very long name, number {number}") for number in (1, 2)]
    assert long[0].value != long[1].value
    assert all(len(each.value) <= 16 and len(each.meaning) <= 64 for each in [*long, finding_term("ö" * 99)])
    path = save_object(build_report([answer()], Algorithm(finding="pleural_other", model_hash="0")), tmp_path)
    data = pydicom.dcmread(path)
    assert data.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99CXRPAIR"
    assert _groups(data)[0]["121071"] == [tuple(term)]
    assert check_object(path) == "report"


def test_every_standard_finding_code_of_the_dictionary_is_the_one_of_pydicom():
    """pydicom has DICOM's own lists of codes; not all findings are in them."""
    from pydicom.sr.codedict import codes

    for name, keyword in [
        ("pleural_effusion", "PleuralEffusion"),
        ("pneumothorax", "Pneumothorax"),
        ("edema", "PulmonaryEdema"),
    ]:
        assert finding_term(name).value == getattr(codes.SCT, keyword).value


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="no dsrdump here (Debian: apt-get install dcmtk)")
def test_dcmtk_reads_the_report(answer, algorithm, tmp_path):
    path = save_object(build_report([answer()], algorithm), tmp_path)
    done = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=True)
    assert '"Certainty of Finding")="73.0" (%,UCUM' in done.stdout
    assert "Fairholm^Dorothea (F, 1952-06-03, #0042)" in done.stdout


def test_the_hash_is_of_weights_and_card(tmp_path):
    model = tmp_path / "model.pt"
    card = {
        "format": "cxrpair-classifier/1",
        "finding": "edema",
        "operating_point": {"threshold": 0.2, "rule": "youden"},
    }
    hashes = set()
    for weights, point in [(b"a", 0.2), (b"b", 0.2), (b"a", 0.3)]:
        model.write_bytes(weights)
        card["operating_point"]["threshold"] = point
        model.with_suffix(".json").write_text(json.dumps(card))
        found = read_algorithm(model)
        assert (found.finding, found.threshold, found.rule) == ("edema", point, "youden")
        hashes.add(found.model_hash)
    assert len(hashes) == 3
    model.with_suffix(".json").write_text("{}")
    with pytest.raises(CxrPairError, match="not a card"):
        read_algorithm(model)
    model.unlink()
    with pytest.raises(CxrPairError, match="cannot be read"):
        read_algorithm(model)


def test_without_highdicom_the_error_names_the_extra(answer, algorithm, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "highdicom.sr", None)
    with pytest.raises(CxrPairError, match=r'pip install "monai-cxrpair\[reporting\]"'):
        build_report([Answer(source=answer().source, probability=0.5)], algorithm)
