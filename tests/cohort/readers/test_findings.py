import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from monai_cxrpair.cohort.readers.findings import indicators, names_in, shared_name

NAMES = ("pleural effusion", "pericardial effusion", "mass", "No Finding", "pulmonary edema")


@given(st.lists(st.none() | st.lists(st.sampled_from(NAMES), max_size=4), min_size=1, max_size=6))
def test_a_list_of_python_and_names_between_bars_say_the_same_whatever_the_cells(cells: list) -> None:
    bars = indicators(pd.Series(["|".join(cell or []) for cell in cells], dtype="str"))
    lists = indicators(pd.Series(["" if cell is None else repr(cell) for cell in cells], dtype="str"))
    pd.testing.assert_frame_equal(bars, lists)
    for row, cell in enumerate(cells):
        for name in bars:
            value = bars[name][row]
            named = name in {part.lower().replace(" ", "_") for part in cell or []}
            assert (value == named) if cell else pd.isna(value)


def test_a_list_that_is_none_has_no_names_and_nothing_in_it_is_run() -> None:
    for text in ("['mass'", "[open('x')]", "[nan]", "[" * 5000, "[]", "['mass', 7]"):
        assert names_in(text) in ([], ["mass"])
    assert names_in("[nan]") == []


def test_shared_names_join_the_same_finding_and_no_other() -> None:
    assert shared_name("Pulmonary Edema") == "edema"
    assert shared_name("normal") == "no_finding"
    assert shared_name("effusion") == "pleural_effusion"
    for text in ("pericardial effusion", "loculated pleural effusion", "subcutaneous emphysema"):
        assert shared_name(text) == text.replace(" ", "_")


def test_a_name_that_is_passed_over_says_nothing_on_its_own() -> None:
    cells = pd.Series(["exclude", "exclude|mass", "nodule"], dtype="str")
    table = indicators(cells, name=lambda text: text.removeprefix("exclude"))
    assert table["mass"].fillna(-9).tolist() == [-9, 1, 0]
