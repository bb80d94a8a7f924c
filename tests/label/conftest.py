import pytest
from reading_room import OWN, make_studies, write_model

from monai_cxrpair.label.answers import Answers
from monai_cxrpair.label.reader_model import ReaderModel


@pytest.fixture(scope="session")
def hospital(tmp_path_factory):
    return make_studies(tmp_path_factory.mktemp("hospital"))


@pytest.fixture
def open_model(tmp_path, hospital):
    def open_it(studies=None, folder=None, **settings):
        folder = folder or tmp_path / "model"
        if not (folder / "model.pt").exists():
            write_model(folder)
        cache = settings.pop("cache_folder", tmp_path / "cache")
        return ReaderModel(folder, studies or hospital[0], cache_folder=cache, own_encoder=OWN, **settings)

    return open_it


@pytest.fixture
def answers(tmp_path):
    return Answers(tmp_path / "answers.jsonl")
