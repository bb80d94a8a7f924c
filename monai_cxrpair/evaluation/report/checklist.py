"""CLAIM 2024 and TRIPOD+AI, filled in as far as the run knows; the rest is for the authors."""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai_cxrpair.evaluation.report import results as fmt
from monai_cxrpair.evaluation.report.checklist_items import CHECKLISTS
from monai_cxrpair.evaluation.report.words import (
    human,
    learned_from,
    not_held_out,
    oracles,
    patient,
    resampled,
    unit,
    value,
)

ANSWERED, PARTLY, OPEN = "answered by this run", "partly", "for the authors to write"
COLUMNS = ("checklist", "item", "asks", "status", "answer", "section", "authors")
# Fact -> what is known, and the section of the page that shows more of it.
Facts = dict[str, tuple[str, str]]


def make_checklist(results: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the checklists from the results; nothing is claimed that is not in them.

    Args:
        results: the layout of `results.json`, with `panels`.

    Returns:
        `items`: a line each with `checklist`, `item`, `asks`, `status`, `answer` and `section` (None where open), and
        `counts`: checklist -> status -> how many.
    """
    known = _facts(results)
    items = []
    for checklist, lines in CHECKLISTS.items():
        for line in lines:
            answer, section = known.get(line.fact, (None, None))
            status = OPEN if answer is None else ANSWERED if line.whole else PARTLY
            items.append(
                {
                    "checklist": checklist,
                    "item": line.number,
                    "asks": line.asks,
                    "status": status,
                    "answer": answer,
                    "section": section,
                }
            )
    counts = {
        checklist: {
            status: sum(item["checklist"] == checklist and item["status"] == status for item in items)
            for status in (ANSWERED, PARTLY, OPEN)
        }
        for checklist in CHECKLISTS
    }
    return {"items": items, "counts": counts}


def write_checklist(checklist: Mapping[str, Any], path: Path) -> None:
    """Write the items as CSV, with an empty column `authors` for what the run cannot know."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(checklist["items"])
    fmt.write_text(stream.getvalue(), path)


def _facts(results: Mapping[str, Any]) -> Facts:
    """What this run knows; a fact that it does not know is absent."""
    found: Facts = {}
    for part in (_of_the_data, _of_the_encoders, _of_the_tests, _of_the_figures, _of_the_panels):
        found |= part(results, results.get("protocol", {}))
    return found


def _of_the_data(results: Mapping[str, Any], protocol: Mapping[str, Any]) -> Facts:
    place, finding = "Radiographs", human(results["finding"])
    train, test = (results["cohort"][side] for side in ("train", "test"))
    found: Facts = {
        "goal": (f"compares encoders by how well {finding} can be learned from few labels", "How to read this"),
        "input": ("the pixels of a radiograph; nothing else is given to the model", "Protocol and cohort"),
    }
    if not {"radiographs", "patients", "studies", "present", "absent", "uncertain", "missing"} <= train.keys():
        return found
    known = patient(results) == "patient"
    sides = [f"{name} {value(side['radiographs'])}" for name, side in (("train", train), ("test", test))]
    found["counts"] = (f"radiographs: {', '.join(sides)}; their source is not in the run", place)
    said = [
        f"{name}: {value(side['present'])} with and {value(side['absent'])} without {finding}"
        + (f" among {value(side['patients'])} patients" if known else ", patients not known")
        for name, side in (("train", train), ("test", test))
    ]
    found["outcomes"] = found["sides"] = ("; ".join(said), place)
    found["labels"] = (f"column {results['finding']} of the cohort; who labelled, and how, is not in the run", place)
    if "subset" in protocol:
        text = f"only {protocol['subset']}" if protocol["subset"] else "none: every radiograph with a label"
        found["subset"] = (text, "Protocol and cohort")
    laterality = results["cohort"].get("laterality")
    if isinstance(laterality, Mapping):
        text = ", ".join(f"{name} {value(count)}" for name, count in laterality.items())
        found["views"] = (f"radiographs by laterality: {text}", "Protocol and cohort")
    if "split_hash" in protocol:
        how = "a split file" if protocol.get("split_file") else f"test share {value(protocol['test_fraction'])}"
        level = "by patient" if known else "by image, for the patients are not known"
        found["split"] = (f"{level}, {how}; hash of the split {protocol['split_hash']}", "Protocol and cohort")
    if known:
        text = "what the probe learns from and is tested on, by patient: nobody is on both sides, none of their studies"
        if seen := not_held_out(results):
            text += f"; not known of the pre-training of {', '.join(seen)}"
        found["disjoint"] = (text, place)
    return found


def _of_the_encoders(results: Mapping[str, Any], protocol: Mapping[str, Any]) -> Facts:
    place = "Encoders"
    cards = {name: entry.get("card", {}) for name, entry in results["encoders"].items()}
    trained = {name: card for name, card in cards.items() if "format" in card}
    found: Facts = {}
    if protocol.get("image_size"):
        text = f"grey, shorter side {value(protocol['image_size'])} pixels, normalised as in pre-training"
        found["preparation"] = (text, "Protocol and cohort")
    if versions := results.get("versions"):
        found["software"] = (", ".join(f"{name} {text}" for name, text in versions.items()), "Versions")
    if not trained:
        return found
    networks = "; ".join(f"{name}: {_network(card)}" for name, card in trained.items())
    supervised = [f"{name}: paired by the labels of {human(finding)}" for name, finding in oracles(results).items()]
    kind = "self-supervised contrastive" if len(supervised) < len(trained) else "contrastive"
    text = f"; not self-supervised: {', '.join(supervised)}" if supervised else ""
    found["technique"] = (f"{kind} pre-training of an encoder, then a linear probe{text}", place)
    found["model"] = (f"{networks}; a linear layer on its embedding", place)
    training = {name: card["training"] for name, card in trained.items() if isinstance(card.get("training"), Mapping)}
    for fact, key in (("start", "started_from"), ("chosen", "chosen_by")):
        if training and all(settings.get(key) for settings in training.values()):
            found[fact] = ("; ".join(f"{name}: {settings[key]}" for name, settings in training.items()), place)
    if training and all("epochs" in settings for settings in training.values()):
        text = "; ".join(f"{name}: {value(settings['epochs'])} epochs" for name, settings in training.items())
        found["training"] = (f"{text}; all settings are in the encoders' cards", place)
    if protocol.get("draws") and "labelled_studies" in protocol:
        text = learned_from(protocol, patients=f"{patient(results)}s")
        found["model_building"] = (f"a linear probe on embeddings, from {text}", "How to read this")
    return found


def _of_the_tests(results: Mapping[str, Any], protocol: Mapping[str, Any]) -> Facts:
    found: Facts = {"measures": ("area under the ROC curve", "Area under the ROC curve")}
    first = next(iter(results["encoders"].values()))["linear"]
    if "pr_auc" in first:
        text = "ROC and PR areas, Brier score, calibration error and slope, decision curve, operating points"
        found["measures"] = (text, "Precision and calibration")
        found["ensemble"] = (_ensemble(results, protocol), "How to read this")
        found["imbalance"] = ("the linear probe neither weights nor resamples the classes", "How to read this")
        kept = (results.get("classifier") or {}).get("calibration")
        text = "fitted for the classifier, out of fold; not applied in the figures" if kept else "none"
        found["updating"] = (text, "Classifier" if kept else "Precision and calibration")
    scaled = first.get("calibrated", {})
    if "temperatures" in scaled:
        text = "temperature scaling, fitted inside each draw"
        found["updating"] = (f"{text}; beside the unscaled probabilities", "Precision and calibration")
    if "replicates" in protocol:
        text = f"95 % CI of {value(protocol['replicates'])} bootstrap replicates over {resampled(results)}"
        found["uncertainty"] = (f"{text}; paired tests, Holm's correction, DeLong", "Paired comparisons")
        if patient(results) == "patient":
            text = "by patient only: bootstrap and DeLong are clustered by patient"
            found["clusters"] = (text, "Paired comparisons")
    if "tested" in protocol:
        tested = f"{value(protocol['tested'])} labelled {'studies' if unit(results) == 'study' else 'radiographs'}"
        found["tested"] = (f"{tested} on the test side; no size was planned by the run", "Radiographs")
    if protocol.get("draws", 1) > 1:
        found["robustness"] = (f"{value(protocol['draws'])} draws of the labels", "Encoders")
    if protocol.get("seed") is not None:
        text = f"every setting stands in results.json; seed {value(protocol['seed'])}"
        found["settings"] = (text, "Protocol and cohort")
    return found


def _of_the_figures(results: Mapping[str, Any], protocol: Mapping[str, Any]) -> Facts:
    aucs = {name: entry["linear"] for name, entry in results["encoders"].items()}
    text = "; ".join(f"{name}: AUC {fmt.number(f['auc_mean'])} ({fmt.interval(f)})" for name, f in aucs.items())
    found: Facts = {
        "internal": (f"{patient(results)}s held out of the same cohort: {text}", "Area under the ROC curve"),
        "performance": (text, "Area under the ROC curve"),
        "limitations": ("those that follow from how it was measured", "Limitations"),
    }
    first = next(iter(aucs.values()))
    measured = [name for name, f in first.get("subgroups", {}).items() if "auc_mean" in f]
    if measured:
        found["subgroups"] = (f"AUC in {', '.join(measured)}", "Subgroups")
    if first.get("operating_points"):
        rules = " and ".join(first["operating_points"])
        found["accuracy"] = (f"sensitivity, specificity, PPV and NPV with 95 % CI at {rules}", "Operating points")
    classifier = results.get("classifier") or {}
    if classifier:
        found["files"] = ("model.pt, model.json and predictions.csv beside the report", "Classifier")
    if point := classifier.get("operating_point"):
        found["output"] = (
            f"probability of {human(results['finding'])}; threshold {value(point['threshold'])}, rule: {point['rule']}",
            "Classifier",
        )
    return found


# Panel -> the facts it shows, the answer, and its heading.
_PANELS = {
    "cohort_flow": ("flow", "numbers at each step from the cohort to the test side", "Radiographs"),
    "grad_cam": ("saliency", "Grad-CAM, with randomised weights as a check", "Where the classifier looks"),
    "gallery": ("failures", "the most confident wrong ones", "Where it fails"),
}


def _of_the_panels(results: Mapping[str, Any], protocol: Mapping[str, Any]) -> Facts:
    made = {name: figures for name, figures in results.get("panels", {}).items() if "not_made" not in figures}
    found = {fact: (answer, title) for name, (fact, answer, title) in _PANELS.items() if name in made}
    if sides := made.get("cohort_flow", {}).get("sides"):
        found["missing"] = (_left_out(sides, protocol), "Radiographs")
    return found


def _left_out(sides: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    """Counted by the flow alone: radiographs without a label are gone before the evaluation starts."""

    def each(count: Callable[[Mapping[str, Any]], int]) -> str:
        return ", ".join(f"{name} {value(count(side))}" for name, side in sides.items())

    without = each(lambda side: side["left_out"]["no_label"] + side["labels"]["missing"])
    uncertain = each(lambda side: side["labels"]["uncertain"])
    policies = "".join(f"; {word} labels: {protocol[word]}" for word in ("uncertain", "blank") if word in protocol)
    return f"radiographs left out, without a label: {without}; with an uncertain one: {uncertain}{policies}"


def _ensemble(results: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    """The figures are of one probe each; what shows single radiographs has the mean of the draws' scores."""
    draws = protocol.get("draws", 1)
    if draws == 1:
        return "none: one encoder and one probe"
    made = "not_made" not in results.get("panels", {}).get("gallery", {"not_made": ""})
    places = "predictions.csv and Where it fails" if made else "predictions.csv"
    text = f"the score is the mean of the probes of {value(draws)} draws"
    return f"AUCs and other figures: means over those of single probes; {places}: {text}"


def _network(card: Mapping[str, Any]) -> str:
    return (
        f"{value(card['encoder'])}, {value(card['in_channels'])} input channel{'s' if card['in_channels'] > 1 else ''}"
    )
