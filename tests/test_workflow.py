"""What the configs call before anything runs."""

import pytest
import yaml

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.workflow import check_version, find_radiographs, open_cohort, refuse_unknown_keys, yaml_words

CONFIG = {"learning_rate": 1, "optimizer": {"lr": "@learning_rate"}, "training": ["$@optimizer"], "train": {}}


def test_a_key_that_something_refers_to_is_known():
    refuse_unknown_keys(CONFIG)


def test_a_key_that_nothing_refers_to_is_an_error_with_the_nearest_name():
    with pytest.raises(CxrPairError, match=r"--learning_rat is not a setting .* did you mean learning_rate"):
        refuse_unknown_keys({**CONFIG, "learning_rat": 2})


def test_a_part_of_a_section_that_nothing_refers_to_is_an_error_too():
    config = {**CONFIG, "train": {"loader": {"x": "@learning_rate"}, "loder": {}}, "training": ["$@train#loader"]}
    config["optimizer"] = {}
    with pytest.raises(CxrPairError, match="--optimizer"):
        refuse_unknown_keys(config)
    del config["optimizer"]
    with pytest.raises(CxrPairError, match=r"--train#loder is not a setting .* did you mean train#loader"):
        refuse_unknown_keys(config)


def test_the_words_that_the_command_line_passes_as_text_get_their_meaning():
    config = {"resume": "false", "pairing": {"include_self": "True"}, "subset": "null", "name": "falsetto", "n": 1}
    assert yaml_words(config) == {"resume": False, "pairing#include_self": True, "subset": None}


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_the_bundles_own_configs_have_no_unknown_key(name, bundle):
    refuse_unknown_keys(yaml.safe_load((bundle / "configs" / f"{name}.yaml").read_text()))


def test_every_overlay_changes_only_keys_that_the_training_config_has(bundle):
    known = yaml.safe_load((bundle / "configs" / "train.yaml").read_text())
    overlays = [p for p in (bundle.parent / "configs").rglob("*.yaml") if p.parent.name != "experiments"]
    assert overlays
    for overlay in overlays:
        for key in yaml.safe_load(overlay.read_text()):
            assert key.split("#")[0].lstrip("+") in known, f"{overlay.name}: {key}"


def test_a_bundle_of_another_version_is_an_error():
    with pytest.raises(CxrPairError, match=r"needs monai-cxrpair 9\.9"):
        check_version("9.9")


def test_a_cohort_that_is_not_named_or_not_there_is_an_error():
    with pytest.raises(CxrPairError, match="cohort_file is not set"):
        open_cohort(None, root=None)
    with pytest.raises(CxrPairError, match=r"nowhere\.parquet"):
        open_cohort("nowhere.parquet", root=None)


def test_inference_reads_a_folder_or_a_cohort(tmp_path):
    import pandas as pd

    (tmp_path / "b.png").write_bytes(b"x")
    (tmp_path / "a.png").write_bytes(b"x")
    found = find_radiographs(cohort_file=None, dataset_dir=str(tmp_path), subset=None)
    assert [item["image_id"] for item in found] == ["a.png", "b.png"]
    table = pd.DataFrame({"image_id": ["one"], "patient_id": ["p"], "study_id": ["s"], "path": ["b.png"]})
    Cohort(table, root=tmp_path, findings=[], source="test").write(tmp_path / "c.parquet")
    found = find_radiographs(cohort_file=str(tmp_path / "c.parquet"), dataset_dir=None, subset=None)
    assert found == [{"image": str(tmp_path / "b.png"), "image_id": "one"}]
    with pytest.raises(CxrPairError, match="set cohort_file"):
        find_radiographs(cohort_file=None, dataset_dir=None, subset=None)
