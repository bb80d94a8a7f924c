"""Digests of patients: who was there is found, and nothing else is told."""

import base64
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_cxrpair.cohort.split.seen import patient_digests, seen_patients
from monai_cxrpair.errors import CxrPairError

IDS = st.lists(st.text(max_size=12), min_size=1, max_size=40)


def _cohort(ids: list[str], *, source: str = "chexpert") -> SimpleNamespace:
    return SimpleNamespace(table=pd.DataFrame({"patient_id": ids}, dtype="str"), source=source)


@given(IDS, IDS)
def test_exactly_those_who_were_there_are_found(there: list[str], asked: list[str]) -> None:
    assert seen_patients(patient_digests(_cohort(there)), asked) == set(there) & set(asked)
    assert seen_patients(patient_digests(_cohort(there), [0]), asked) == {there[0]} & set(asked)


@given(IDS, st.randoms())
def test_neither_order_nor_repetition_shows_and_no_id_stands_in_it(there: list[str], random) -> None:
    again = there * 2
    random.shuffle(again)
    said = patient_digests(_cohort(again))
    assert said == patient_digests(_cohort(there))
    raw = base64.b64decode(said)
    assert len(raw) == 8 * len(set(there))
    parts = [raw[start : start + 8] for start in range(0, len(raw), 8)]
    assert parts == sorted(parts)


def test_ids_that_a_hospital_kept_are_not_digested_as_they_could_be_found_by_trying() -> None:
    assert patient_digests(_cohort(["1234567", "1234568"], source="table")) is None
    assert patient_digests(_cohort(["0123456789abcdef", "1234568"], source="dicom")) is None
    hashed = _cohort(["0123456789abcdef", "123456789abcdef0"], source="dicom")
    assert seen_patients(patient_digests(hashed), ["0123456789abcdef", "x"]) == {"0123456789abcdef"}
    assert bytes.fromhex("0123456789abcdef") not in base64.b64decode(patient_digests(hashed))


@pytest.mark.parametrize("damaged", ["x", "AAAA", "\u00e9"])
def test_damaged_digests_are_an_error(damaged) -> None:
    with pytest.raises(CxrPairError, match="damaged"):
        seen_patients(damaged, ["p1"])
