import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.app import start


@pytest.mark.parametrize(
    ("conf", "said"),
    [({"modle": "x"}, "there is no such setting"), ({"burned_in": "yes"}, "use true or false")],
)
def test_a_mistyped_setting_is_an_error_and_not_passed_over(conf: dict[str, str], said: str) -> None:
    with pytest.raises(CxrPairError, match=said):
        start.check_conf(conf)


def test_a_whole_archive_of_another_machine_is_not_fetched_unasked(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(start, "pull", lambda *given, **more: asked.append(given))
    with pytest.raises(CxrPairError, match="say which studies"):
        start._fetch("https://pacs.example/dicom-web", tmp_path, {})
    assert not asked


def test_without_a_classifier_the_start_says_where_it_should_be(tmp_path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(CxrPairError, match="one classifier is expected"):
        start.open_desk(tmp_path, str(tmp_path), {})
