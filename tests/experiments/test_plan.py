"""From rows and seeds to commands; what is done is known, and another run is never taken for it."""

import ast
import json

import fire
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.experiment import read_experiment
from monai_cxrpair.experiments.plan import (
    CHANGED,
    DONE,
    STOPPED,
    TO_DO,
    evaluation_jobs,
    hash_of,
    training_job,
    words,
)


def job_of(experiment, place, row=2, seed=1, **more):
    return training_job(
        experiment, experiment.rows[row], seed, cohort=place / "c.parquet", cohort_hash="h", out=place / "out", **more
    )


def settings_of(command):
    """What stands on a command line, by the reading of the library that reads it."""
    return fire.Fire(lambda **settings: settings, command=list(command)[list(command).index("--config_file") :])


def finish(job):
    job.folder.mkdir(parents=True, exist_ok=True)
    for name in job.products:
        (job.folder / name).touch()
    job.write_record(finished=True, seconds=5)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr("fire.core._PrintResult", lambda *_, **__: None)


def test_a_run_is_the_bundle_with_overlays_in_order_and_settings_that_win(experiment, place):
    job = job_of(experiment, place)
    assert job.command[1:5] == ("-m", "monai.bundle", "run", "training")
    found = settings_of(job.command)
    configs = place / "configs"
    assert found.pop("config_file") == [
        "configs/train.yaml", str(configs / "paper.yaml"), str(configs / "pairing" / "same.yaml")]  # fmt: skip
    assert found == {
        "cohort_file": str(place / "c.parquet"),
        "output_dir": str(place / "out" / "table1" / "same_study" / "seed1"),
        "cache_dir": str(place / "out" / "pixels"),
        "seed": 1,
        "image_size": 48,
        "pairing#include_self": True,
    }
    assert job.epochs == 4  # of paper.yaml, which comes after train.yaml


def test_what_is_asked_on_the_command_line_wins_over_the_row(file, place):
    experiment = read_experiment(file, asked={"pairing#include_self": False, "max_epochs": 9, "cache_dir": "/fast"})
    found = settings_of(job_of(experiment, place).command)
    assert (found["pairing#include_self"], found["max_epochs"], found["cache_dir"]) == (False, 9, "/fast")
    assert job_of(experiment, place).epochs == 9


def test_torchrun_adds_the_overlay_of_several_processes(experiment, place):
    job = job_of(experiment, place, processes=2)
    assert job.command[1:6] == ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
    assert settings_of(job.command)["config_file"][1] == "configs/multi_gpu_train.yaml"


def test_an_overlay_of_ones_own_stands_between_the_base_and_the_row(file, place):
    (place / "own.yaml").write_text(yaml.safe_dump({"max_epochs": 2}))
    experiment = read_experiment(file, overlays=[place / "own.yaml"])
    files = settings_of(job_of(experiment, place).command)["config_file"]
    assert [name.rpartition("/")[2] for name in files] == ["train.yaml", "paper.yaml", "own.yaml", "same.yaml"]
    assert job_of(experiment, place).epochs == 2


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(0, 1) | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc ,'", max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(plain_values)
def test_every_value_survives_the_command_line(value):
    """Read back by the library that MONAI reads it with."""
    (word,) = words({"key": value})[1:]
    if isinstance(value, str):
        assert fire.parser.DefaultParseValue(word) == value
    else:
        assert fire.parser.DefaultParseValue(word) == value
        assert ast.literal_eval(word) == value


def test_a_run_that_never_began_is_to_do(experiment, place):
    assert job_of(experiment, place).state() == TO_DO


def test_a_run_is_done_only_with_its_record_and_all_its_files(experiment, place):
    job = job_of(experiment, place)
    finish(job)
    assert job_of(experiment, place).state() == DONE
    (job.folder / "encoder.json").unlink()
    assert job.state() == STOPPED
    finish(job)
    job.write_record(finished=False, seconds=5)
    assert job.state() == STOPPED
    (job.folder / "sweep.json").write_text("{")
    assert job.state() == TO_DO  # started again, and the run itself goes on from its checkpoint


def test_more_epochs_go_on_and_fewer_are_another_run(file, place):
    four, six = (job_of(read_experiment(file, asked={"max_epochs": n}), place) for n in (4, 6))
    finish(four)
    assert six.state() == STOPPED
    finish(six)
    assert four.state() == CHANGED
    assert four.different() == "max_epochs was 6, is 4"


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"image_size": 64}, "image_size was 48, is 64"), ({"pairing#include_self": False}, "was True, is False")],
)
def test_other_settings_in_the_folder_are_another_run(experiment, file, place, asked, said):
    finish(job_of(experiment, place))
    other = job_of(read_experiment(file, asked=asked), place)
    assert other.state() == CHANGED
    assert said in other.different()


def test_a_changed_overlay_or_cohort_is_another_run_and_another_place_is_not(experiment, file, place):
    finish(job_of(experiment, place))
    assert job_of(read_experiment(file, asked={"num_workers": 3, "cache_dir": "/x"}), place).state() == DONE
    row = experiment.rows[2]
    other = training_job(experiment, row, 1, cohort=place / "c", cohort_hash="i", out=place / "out")
    assert other.state() == CHANGED
    (place / "configs" / "pairing" / "same.yaml").write_text("pairing: {study: any}")
    assert "pairing was {'study': 'same'}, is {'study': 'any'}" in job_of(experiment, place).different()


def test_one_evaluation_for_each_finding_and_size_with_all_encoders(change, place):
    evaluate = {"finding": ["edema", "effusion"], "label_fraction": 0.1, "label_studies": [50], "draws": 3}
    experiment = read_experiment(change(evaluate=evaluate))
    encoders = {"MoCo v2, with a comma": place / "a.pt", "same study": place / "b.pt"}
    jobs = evaluation_jobs(experiment, encoders, 2, cohort=place / "c", cohort_hash="h", out=place / "out")
    assert len({job.folder for job in jobs}) == 4
    found = [settings_of(job.command) for job in jobs]
    assert [(each["finding"], each.get("label_fraction"), each.get("label_studies")) for each in found] == [
        ("edema", 0.1, None), ("edema", None, 50), ("effusion", 0.1, None), ("effusion", None, 50)]  # fmt: skip
    for each in found:
        assert each["encoder_file"] == {name: str(path) for name, path in encoders.items()}
        assert each["draws"] == 3
        assert "seed" not in each  # the same draws for every pre-training seed


def test_evaluating_takes_overlays_which_the_record_knows_by_their_content(change, place):
    (place / "configs" / "evaluation").mkdir()
    (place / "configs" / "evaluation" / "paper.yaml").write_text("protocols: [linear, fine_tune]")
    experiment = read_experiment(change(evaluate={"overlays": ["evaluation/paper.yaml"], "label_fraction": None}))
    (job,) = evaluation_jobs(experiment, {}, 0, cohort=place / "c", cohort_hash="h", out=place / "out")
    overlay = str(place / "configs" / "evaluation" / "paper.yaml")
    assert settings_of(job.command)["config_file"] == ["configs/evaluate.yaml", overlay]
    assert job.asked["protocols"] == ["linear", "fine_tune"]
    assert settings_of(job.command)["label_fraction"] == 0.01  # evaluating's default, where nothing is named


def test_an_encoder_made_again_is_evaluated_again(experiment, place):
    encoder = place / "a.pt"
    encoder.write_bytes(b"1")

    def evaluation():
        (job,) = evaluation_jobs(
            experiment, {"MoCo v2": encoder}, 0, cohort=place / "c", cohort_hash="h", out=place / "out"
        )
        return job

    finish(evaluation())
    assert evaluation().state() == DONE
    encoder.write_bytes(b"22")
    assert evaluation().state() == TO_DO


def test_epochs_are_counted_from_the_history(experiment, place):
    job = job_of(experiment, place)
    assert job.epochs_done() == 0
    job.folder.mkdir(parents=True)
    (job.folder / "history.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    assert job.epochs_done() == 2
    (job.folder / "history.jsonl").write_text("")
    assert job.epochs_done() == 0


def test_the_record_is_json_that_says_what_was_asked(experiment, place):
    job = job_of(experiment, place)
    job.write_record(finished=False, seconds=3.14159)
    found = json.loads((job.folder / "sweep.json").read_text())
    assert (found["finished"], found["seconds"], found["asked"]["image_size"]) == (False, 3.1, 48)


def test_a_cohort_that_cannot_be_read_is_an_error_that_says_how_to_make_one(tmp_path):
    with pytest.raises(CxrPairError, match=r"cxrpair index SOURCE --out none\.parquet"):
        hash_of(tmp_path / "none.parquet")


def test_max_epochs_must_be_a_number(file, place):
    with pytest.raises(CxrPairError, match="max_epochs is 'many'"):
        job_of(read_experiment(file, asked={"max_epochs": "many"}), place)
