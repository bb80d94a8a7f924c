"""What is asked for: dates, filters, lists, date windows of servers that cap their answers."""

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.accessions import read_accessions
from monai_cxrpair.pacs.query import Query, Series, Study, date_range, is_uid
from monai_cxrpair.pacs.windows import Window, WindowSearch

FIRST = date(2024, 1, 1)
MOMENTS = st.lists(st.tuples(st.integers(0, 59), st.integers(0, 24 * 60 - 1)), max_size=400)


def _studies(moments: list[tuple[int, int]]) -> list[Study]:
    return [
        Study(f"1.{i}", f"{FIRST + timedelta(days=day):%Y%m%d}", f"{minute // 60:02d}{minute % 60:02d}30.5")
        for i, (day, minute) in enumerate(moments)
    ]


def _archive(studies: list[Study], cap: int):
    """An independent C-FIND: ranges as DICOM PS3.4 C.2.2.2.5 has them, compared as text."""

    def ask(window: Window) -> tuple[list[Study], bool]:
        asked.append(window)
        first, last = window.keys["StudyDate"].split("-")
        start, end = window.keys.get("StudyTime", "000000-235959").split("-")
        fitting = [each for each in studies if first <= each.date <= last and start <= each.time[:6] <= end]
        return fitting[:cap], False

    asked: list[Window] = []
    return ask, asked


@given(MOMENTS, st.integers(50, 300))
@settings(max_examples=60, deadline=None)
def test_all_studies_are_found_whatever_number_of_answers_the_server_stops_at(moments, cap):
    studies = _studies(moments)
    ask, _ = _archive(studies, cap)
    search = WindowSearch(ask)
    found = search.studies(Window.of(("20240101", "20240229")))
    # Only where some minutes hold as many studies as the cap may one be missing, and then it is said.
    assert set(found) == {study.uid for study in studies} or search.notes


def test_a_busy_month_behind_a_cap_of_100_is_found_whole_and_without_a_note():
    studies = _studies([(day, 480 + number) for day in range(31) for number in range(300)])
    ask, _ = _archive(studies, 100)
    search = WindowSearch(ask)
    assert len(search.studies(Window.of(("20240101", "20240131")))) == 31 * 300
    assert not search.notes


def test_a_server_without_a_cap_is_soon_believed():
    studies = _studies([(day, 480 + number) for day in range(31) for number in range(300)])
    ask, asked = _archive(studies, 10**6)
    assert len(WindowSearch(ask).studies(Window.of(("20240101", "20240131")))) == 31 * 300
    assert len(asked) < 40


def test_a_server_that_ignores_dates_is_asked_once_and_reported():
    studies = _studies([(day, 600) for day in range(60)] * 3)
    calls = []
    search = WindowSearch(lambda window: (calls.append(window), (studies, False))[1])
    found = search.studies(Window.of(("20240101", "20240110")))
    assert len(calls) == 1
    assert len(found) == 30
    assert "ignores dates" in search.notes[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240101-20240331", ("20240101", "20240331")),
        ("20240229", ("20240229", "20240229")),
        ("-20200101", ("19000101", "20200101")),
    ],
)
def test_dates_are_ranges_with_both_ends(text, expected):
    assert date_range(text) == expected


@pytest.mark.parametrize(
    "text", ["", "-", "2024", "20230229", "20240331-20240101", "2024-01-01", "20240101-2024033", "a-b"]
)
def test_what_is_no_range_of_dates_is_refused(text):
    with pytest.raises(CxrPairError, match="--dates"):
        date_range(text)


def test_a_query_without_limits_or_with_wildcards_is_refused():
    for settings_ in (
        {"dates": None, "accessions": ()},
        {"dates": None, "accessions": ("*",)},
        {"dates": None, "accessions": ("a?",)},
        {"dates": None, "accessions": ("1\\2",)},
        {"dates": ("20240101", "20240102"), "accessions": (), "modalities": ("*",)},
    ):
        with pytest.raises(CxrPairError):
            Query(**{"modalities": ("DX",), **settings_})


def test_series_are_wanted_by_modality_and_by_body_part_where_there_is_one():
    query = Query(dates=None, accessions=("1",), modalities=("DX", "CR"), body_parts=("CHEST", "THORAX"))
    wanted = {
        (m, b): query.wants_series(Series("1.2", m, b)) for m in ("DX", "cr ", "CT", "") for b in ("chest", "", "FOOT")
    }
    assert {key for key, value in wanted.items() if value} == {(m, b) for m in ("DX", "cr ") for b in ("chest", "")}


@pytest.mark.parametrize("text", ["../x", "a/b", ".hidden", "", "1" * 65, "1..2", "a\\b", "1.2\n", "CON:"])
def test_a_uid_that_could_lead_elsewhere_is_none(text):
    assert not is_uid(text)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "00123\n\n 7 \n00123\n"),
        ("a.lst", "AccessionNumber\n00123\n7\n"),
        ("a.csv", "id;Accession Number\n1;00123\n2;7\n3;\n"),
        ("a.csv", "00123\n7\n"),
    ],
)
def test_accession_numbers_are_read_as_they_are_written(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_accessions(tmp_path / name) == ("00123", "7")


def test_a_table_without_accession_numbers_is_refused_without_showing_its_first_line(tmp_path):
    (tmp_path / "a.csv").write_text("Doe^Jane,1\nx,2\n")
    with pytest.raises(CxrPairError, match="no column AccessionNumber") as error:
        read_accessions(tmp_path / "a.csv")
    assert "Doe" not in str(error.value)
