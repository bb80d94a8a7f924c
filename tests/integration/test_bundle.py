"""The bundle as its users run it: index -> training -> evaluating -> inference, and MONAI's own checks."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out

import monai_cxrpair
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import read_radiograph
from monai_cxrpair.phantom import write_phantom


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A phantom export, its cohort, two short training runs and their evaluation."""
    place = tmp_path_factory.mktemp("work")
    write_phantom(place / "pacs", patients=40, file_format="dicom", seed=3)
    key = place / "cohort.key"  # a given key, so that pseudonyms and with them the split are the same in every run
    key.write_text("5a" * 32)
    key.chmod(0o600)
    index_source(place / "pacs", out=place / "cohort.parquet", labels=place / "pacs" / "truth.csv")
    for name in ("no_metadata", "same_study"):
        train(place, name, overlay=f"pairing/{name}").run()
    encoders = {name: str(place / name / "encoder.pt") for name in ("no_metadata", "same_study")}
    run("evaluate", "evaluating", cohort_file=cohort(place), encoder_file=encoders, output_dir=str(place / "report"),
        label_fraction=0.5, draws=2, subgroups={"frontal": "laterality == 'frontal'"}).run()  # fmt: skip
    return place


def cohort(place):
    return str(place / "cohort.parquet")


@pytest.fixture(autouse=True)
def _keep_the_exception_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def run(config, run_id, *, overlay=None, **override):
    root = Path(__file__).resolve().parents[2]
    files = [str(root / "bundle" / "configs" / f"{config}.yaml")]
    files += [str(root / "configs" / f"{overlay}.yaml")] if overlay else []
    workflow = ConfigWorkflow(
        config_file=files, run_id=run_id, logging_file=False, bundle_root=str(root / "bundle"),
        workflow_type="train" if config == "train" else "infer", **override,
    )  # fmt: skip
    workflow.initialize()
    return workflow


def train(place, name, *, overlay=None, **override):
    settings = {"cohort_file": cohort(place), "output_dir": str(place / name), "image_size": 48, "max_epochs": 1,
                "batch_size": 16, **override}  # fmt: skip
    return run("train", "training", overlay=overlay, **settings)


def test_training_writes_the_encoder_its_card_and_a_checkpoint(workplace):
    for name in ("no_metadata", "same_study"):
        card = json.loads((workplace / name / "encoder.json").read_text())
        assert card["encoder"] == "resnet18"
        assert card["preprocessing"]["image_size"] == 48
        assert list((workplace / name / "checkpoints").glob("epoch_00001_batch_*.pt"))
        state = torch.load(workplace / name / "encoder.pt", weights_only=True)
        assert state["conv1.weight"].shape == (64, 1, 7, 7)
    rates = [json.loads((workplace / n / "encoder.json").read_text())["training"]["last_epoch"]["self_pair_rate"]
             for n in ("no_metadata", "same_study")]  # fmt: skip
    assert rates[0] == 1.0
    assert rates[1] < 0.9


def test_a_run_goes_on_from_its_checkpoint(workplace):
    train(workplace, "resumed").run()
    train(workplace, "resumed", max_epochs=2, resume=True).run()
    assert json.loads((workplace / "resumed" / "encoder.json").read_text())["training"]["epochs"] == 2
    assert len(list((workplace / "resumed" / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize(
    ("overlay", "override", "expected"),
    [
        ("pairing/same_study_random_crop", {}, {"augmentation": [0.95, 1.0], "pairing": "same"}),
        ("pairing/distinct_studies", {"subset": "laterality == 'frontal'"}, {"pairing": "distinct"}),
        ("paper", {"queue_size": 16}, {"pairing": "same", "include_self": True, "queue_size": 16}),
    ],
)
def test_overlays_change_what_they_say(workplace, overlay, override, expected):
    name = overlay.replace("/", "_")
    train(workplace, name, overlay=overlay, **override).run()
    card = json.loads((workplace / name / "encoder.json").read_text())
    assert card["pairing"]["study"] == expected["pairing"]
    assert card["pairing"].get("include_self", False) == expected.get("include_self", False)
    assert card["augmentation"]["crop_area"] == expected.get("augmentation", [1.0, 1.0])
    assert card["training"]["queue_size"] == expected.get("queue_size", card["training"]["queue_size"])


def test_workers_and_a_cache_that_is_cold_or_warm_change_no_bit_of_the_weights(workplace):
    weights = torch.load(workplace / "same_study" / "encoder.pt", weights_only=True)
    pixels = {"cache_dir": str(workplace / "determinism")}
    for number, settings in enumerate(({"num_workers": 2}, {"num_workers": 3, **pixels}, {"num_workers": 1, **pixels})):
        train(workplace, f"again{number}", overlay="pairing/same_study", **settings).run()
        found = torch.load(workplace / f"again{number}" / "encoder.pt", weights_only=True)
        assert list(found) == list(weights)
        assert all(torch.equal(found[name], weights[name]) for name in weights), settings


def test_the_in_batch_method_trains_resumes_and_has_no_queue(workplace):
    settings = {"overlay": "methods/in_batch", "pairing": {"study": "same"}, "affinity": {"kernel": "exponential"}}
    train(workplace, "in_batch", **settings).run()
    train(workplace, "in_batch", max_epochs=2, resume=True, **settings).run()
    card = json.loads((workplace / "in_batch" / "encoder.json").read_text())
    assert card["training"]["epochs"] == 2
    assert card["training"]["method"]["name"] == "InBatch"
    assert card["training"]["queue_size"] is None
    assert 0 < card["training"]["last_epoch"]["loss"] < 10
    with pytest.raises((RuntimeError, CxrPairError)) as caught:
        train(workplace, "in_batch_queue", queue_size=16, **settings).run()
    assert "has no queue: set queue_size null" in str(caught.value.__cause__ or caught.value)


def test_negatives_and_affinities_are_combined_with_pairs_trained_with_resumed_and_recorded(workplace):
    strategy = "synthetic"
    affinity = {"kernel": "exponential", "half_life_days": 30, "other_laterality": 0.8, "threshold": 0.1}
    settings = {"overlay": f"negatives/{strategy}", "affinity": affinity, "keys_per_query": 2}
    train(workplace, strategy, **settings).run()
    train(workplace, strategy, max_epochs=2, resume=True, **settings).run()
    card = json.loads((workplace / strategy / "encoder.json").read_text())
    assert card["training"]["epochs"] == 2
    assert card["pairing"]["study"] == "same"
    assert card["negatives"]["ignore"] == "patient"
    assert card["negatives"]["strategy"] == strategy
    assert card["negatives"]["property"] == "laterality"
    assert card["affinity"].items() >= affinity.items()
    assert card["training"]["last_epoch"]["positives"] > 2  # the queue's keys attract too
    with pytest.raises((RuntimeError, CxrPairError)) as caught:
        train(workplace, strategy, max_epochs=3, resume=True, **{**settings, "affinity": None}).run()
    cause = caught.value
    while not isinstance(cause, CxrPairError):
        cause = cause.__cause__
    assert "affinity#kernel was exponential, is None" in str(cause)


def test_evaluating_writes_the_results_of_the_contract(workplace):
    results = json.loads((workplace / "report" / "results.json").read_text())
    assert results["finding"] == "pleural_effusion"
    assert list(results["encoders"]) == ["random weights", "no_metadata", "same_study"]
    for entry in results["encoders"].values():
        linear = entry["linear"]
        assert linear["auc_mean"] == pytest.approx(sum(linear["auc_draws"]) / 2)
        assert linear["ci95"][0] <= linear["auc_mean"] <= linear["ci95"][1]
        assert "frontal" in linear["subgroups"]
        assert entry["gives_away"].keys() == {"reidentification", "view", "site"}
    assert {(c["a"], c["b"]) for c in results["comparisons"]} >= {("same_study", "random weights")}
    assert results["not_run"] == {"ImageNet weights": "no file was given (imagenet_weights)"}
    page = (workplace / "report" / "report.html").read_text(encoding="utf-8")
    assert "same_study" in page
    with (workplace / "report" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == results["cohort"]["test"]["labelled"]
    assert 0 <= float(rows[0]["same_study"]) <= 1


def test_evaluating_again_runs_no_encoder_and_finds_the_same(workplace, monkeypatch):
    settings = {"cohort_file": cohort(workplace), "encoder_file": str(workplace / "same_study" / "encoder.pt"),
                "label_fraction": 0.5, "draws": 2, "cache_dir": str(workplace / "cache")}  # fmt: skip
    once, again = workplace / "once", workplace / "again"
    run("evaluate", "evaluating", output_dir=str(once), **settings).run()
    monkeypatch.setattr("monai_cxrpair.evaluation.embedding_store.embed", None)
    run("evaluate", "evaluating", output_dir=str(again), **settings).run()
    for name in ("results.json", "predictions.csv", "report.html"):
        assert (again / name).read_bytes() == (once / name).read_bytes()


def test_a_file_of_imagenet_weights_gives_that_baseline_a_row(workplace):
    from monai_cxrpair.contrast import build_encoder

    state = build_encoder("resnet18", in_channels=3).state_dict()  # torchvision's keys and shapes
    torch.save({**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, workplace / "imagenet.pt")
    run("evaluate", "evaluating", cohort_file=cohort(workplace), output_dir=str(workplace / "with_imagenet"),
        encoder_file=str(workplace / "same_study" / "encoder.pt"), imagenet_weights=str(workplace / "imagenet.pt"),
        label_fraction=0.5, draws=1, subset="laterality == 'frontal'").run()  # fmt: skip
    results = json.loads((workplace / "with_imagenet" / "results.json").read_text())
    assert list(results["encoders"]) == ["random weights", "ImageNet weights", "same_study"]
    assert results["not_run"] == {}
    assert results["protocol"]["subset"] == "laterality == 'frontal'"
    assert results["cohort"]["laterality"]["lateral"] == 0


def test_inference_gives_the_probability_of_the_probe_on_cached_embeddings(workplace):
    """Inference reads DICOM through MONAI's transforms, evaluating from its 8-bit cache: the results are the same."""
    from monai.transforms import Compose
    from sklearn.metrics import roc_auc_score

    from monai_cxrpair.cohort import Cohort
    from monai_cxrpair.evaluation import classifier_network, load_classifier, read_classifier_card
    from monai_cxrpair.imaging import LoadRadiographd, RadiographCacheDataset, ResizeShorterSided

    model = workplace / "report" / "model.pt"
    run("inference", "inference", model_file=str(model), cohort_file=cohort(workplace),
        output_dir=str(workplace / "out")).run()  # fmt: skip
    with (workplace / "out" / "predictions.csv").open() as stream:
        found = {row["image_id"]: float(row["probability"]) for row in csv.DictReader(stream)}

    card = read_classifier_card(model)
    size, mean, std = (card["preprocessing"][name] for name in ("image_size", "mean", "std"))
    steps = Compose([LoadRadiographd(keys="image"), ResizeShorterSided(keys="image", size=size)])
    data = RadiographCacheDataset(Cohort.read(cohort(workplace)), transform=steps, image_size=size)
    views = torch.from_numpy(data.__getitems__(range(len(data)))["image"]) / 255
    network = load_classifier(classifier_network(model), model)
    with torch.inference_mode():
        cached = network((views - mean) / std).sigmoid()[:, 0].numpy()
    probability = dict(zip(data.cohort.table["image_id"], cached, strict=True))
    assert found == pytest.approx(probability, abs=0.02)  # 8 bits against float

    with (workplace / "report" / "predictions.csv").open() as stream:
        truth = {row["image_id"]: int(row["pleural_effusion"]) for row in csv.DictReader(stream)}
    measured = roc_auc_score(list(truth.values()), [probability[i] for i in truth])
    assert measured == pytest.approx(card["test_auc"], abs=0.005)


def test_a_folder_with_foreign_files_is_predicted_and_each_of_them_gets_its_reason(workplace, tmp_path):
    import shutil

    chest = next((workplace / "pacs").rglob("*.dcm"))
    shutil.copy(chest, tmp_path / "chest.dcm")
    (tmp_path / "notes.txt").write_text("not a radiograph")
    settings = {"model_file": str(workplace / "report" / "model.pt"), "output_dir": str(workplace / "mixed")}
    run("inference", "inference", dataset_dir=str(tmp_path), **settings).run()
    written = workplace / "mixed" / "predictions.csv"
    assert written.stat().st_mode & 0o077 == 0
    with written.open() as stream:
        rows = {row["image_id"]: row for row in csv.DictReader(stream)}
    assert 0 <= float(rows["chest.dcm"]["probability"]) <= 1
    assert rows["chest.dcm"]["error"] == ""
    assert rows["notes.txt"]["probability"] == ""
    assert "not a DICOM radiograph" in rows["notes.txt"]["error"]
    assert str(tmp_path) not in written.read_text()
    (tmp_path / "chest.dcm").unlink()
    with pytest.raises(RuntimeError, match=r"Failed to evaluate") as caught:
        run("inference", "inference", dataset_dir=str(tmp_path), **settings).run()
    assert "none of 1 files" in str(caught.value.__cause__)


def test_no_identifier_of_the_export_stands_in_anything_that_was_written(workplace):
    import pandas as pd
    import pydicom

    truth = pd.read_csv(workplace / "pacs" / "truth.csv", dtype=str)
    header = pydicom.dcmread(workplace / "pacs" / truth["path"][0], stop_before_pixels=True)
    secrets = [truth["image_id"][0], truth["study_id"][0], truth["patient_id"][0], str(header.PatientName),
               str(header.PatientBirthDate), str(header.AccessionNumber)]  # fmt: skip
    for file in [p for folder in ("same_study", "report") for p in (workplace / folder).rglob("*") if p.is_file()]:
        content = file.read_bytes()
        for secret in filter(None, secrets):
            assert secret.encode() not in content, f"{file.name} holds {secret}"


def mistake(workplace, **override):
    """The one line a user sees; MONAI wraps it."""
    settings = {"cohort_file": cohort(workplace), "encoder_file": str(workplace / "same_study" / "encoder.pt"),
                "output_dir": str(workplace / "mistake"), "label_fraction": 0.5, **override}  # fmt: skip
    with pytest.raises((RuntimeError, CxrPairError)) as caught:
        run("evaluate", "evaluating", **settings).run()
    cause = caught.value
    while not isinstance(cause, CxrPairError):
        cause = cause.__cause__
    return str(cause)


def test_evaluating_refuses_an_encoder_that_saw_test_patients(workplace):
    assert "test patients were seen" in mistake(workplace, split_seed=7)


def test_training_and_evaluating_with_a_split_file(workplace):
    """Nobody of its validation and test side is seen in pre-training, its test side is scored, its draws are used."""
    from monai_cxrpair.cohort import Cohort

    table = Cohort.read(cohort(workplace)).table
    file = workplace / "split.json"
    subprocess.run(
        [sys.executable, "-m", "monai_cxrpair.cli", "split", cohort(workplace), "--out", str(file), "--test", "0.3",
         "--validation", "4", "--finding", "pleural_effusion", "--label-fraction", "0.6", "--draws", "2"], check=True,
    )  # fmt: skip
    saved = json.loads(file.read_text())
    train(workplace, "by_file", split_file=str(file), overlay="pairing/same_study").run()
    card = json.loads((workplace / "by_file" / "encoder.json").read_text())
    assert card["cohort"]["split_file"] == saved["hash"]
    training = table["patient_id"].isin(saved["patients"]["train"])
    assert card["cohort"]["radiographs"] == training.sum()
    assert saved["counts"]["validation"]["patients"] == 4

    settings = {"encoder_file": str(workplace / "by_file" / "encoder.pt"), "label_fraction": 0.6, "draws": 2}
    run("evaluate", "evaluating", cohort_file=cohort(workplace), split_file=str(file),
        output_dir=str(workplace / "file_report"), **settings).run()  # fmt: skip
    results = json.loads((workplace / "file_report" / "results.json").read_text())
    assert results["protocol"]["draws_from"] == "split file"
    assert results["protocol"]["split_file"] == saved["hash"]
    with (workplace / "file_report" / "predictions.csv").open() as stream:
        scored = {row["patient_id"] for row in csv.DictReader(stream)}
    assert scored <= set(saved["patients"]["test"])
    labelled = table["image_id"][table["pleural_effusion"].isin([0, 1])]
    sizes = [len(set(labelled) & set(drawn)) for drawn in saved["label_draws"][0]["image_ids"]]
    assert results["protocol"]["radiographs_per_draw"] == [min(sizes), max(sizes)]
    # Without the file, or with another encoder, test patients may have been seen.
    assert "test patients were seen" in mistake(workplace, **settings)
    assert "test patients were seen" in mistake(workplace, split_file=str(file))


def test_a_finding_that_is_not_there_is_an_error_that_names_those_that_are(workplace):
    line = mistake(workplace, finding="edema")
    assert "edema" in line
    assert "pleural_effusion" in line


def test_too_few_labels_are_an_error_that_names_the_setting(workplace):
    assert "label_fraction" in mistake(workplace, label_fraction=0.01)


@pytest.mark.parametrize(
    ("config", "main"), [("train", "training"), ("evaluate", "evaluating"), ("inference", "inference")]
)
def test_run_is_another_name_for_the_main_job_of_each_config(bundle, config, main):
    """MONAI Label always asks for `run`."""
    from monai.bundle import ConfigParser

    parser = ConfigParser.load_config_file(bundle / "configs" / f"{config}.yaml")
    assert parser["run"] == f"%{main}"
    assert parser[main]


def test_every_config_has_the_properties_that_monai_asks_for(workplace):
    assert train(workplace, "unused").check_properties() == []
    encoder = str(workplace / "same_study" / "encoder.pt")
    assert run("evaluate", "evaluating", cohort_file=cohort(workplace), encoder_file=encoder).check_properties() == []
    model = str(workplace / "report" / "model.pt")
    assert run("inference", "inference", model_file=model, dataset_dir=str(workplace)).check_properties() == []


def test_monais_own_checks_pass_on_the_inference_config(workplace, bundle, tmp_path):
    configs = {
        "meta_file": str(bundle / "configs/metadata.json"),
        "config_file": str(bundle / "configs/inference.yaml"),
    }
    verify_net_in_out("network_def", **configs)
    ckpt_export(
        "network_def", filepath=str(tmp_path / "model.ts"), ckpt_file=str(workplace / "report" / "model.pt"), **configs
    )
    exported = torch.jit.load(tmp_path / "model.ts")
    image = torch.from_numpy(read_radiograph(next((workplace / "pacs").rglob("*.dcm"))))[None]
    assert exported(image).shape == (1, 1)


def test_a_mistake_on_the_command_line_is_one_line_and_exit_1(bundle, workplace):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training", "--config_file", "configs/train.yaml",
         "--cohort_file", cohort(workplace), "--learning_rat", "0.1"],
        cwd=bundle, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: --learning_rat is not a setting")
    assert "Traceback" not in done.stderr


def test_the_bundle_is_complete_and_of_the_packages_version(bundle):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    for key in ("version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
                "description", "authors", "copyright", "network_data_format", "changelog"):  # fmt: skip
        assert metadata[key], key
    version = monai_cxrpair.__version__
    assert metadata["version"] == metadata["required_packages_version"]["monai-cxrpair"] == version
    assert version in metadata["changelog"]
    pins = dict(line.split("==") for line in (bundle.parent / "constraints.txt").read_text().split() if "==" in line)
    for name, wanted in metadata["required_packages_version"].items():
        assert name == "monai-cxrpair" or pins[name] == wanted, name
    for file in ("LICENSE", "docs/README.md", "configs/logging.conf"):
        assert (bundle / file).is_file()
