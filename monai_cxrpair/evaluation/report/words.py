"""The words of the report: what was found in sentences, keys and values as people write them."""

from collections.abc import Iterator, Mapping
from typing import Any

from monai_cxrpair.evaluation.cards import HELD_OUT, SEEN
from monai_cxrpair.evaluation.report import results as fmt

# What holds patients as `cohort/split/seen.py` writes them: not for reading.
DIGESTS = ("patients_seen", "patients_tested")
# Keys of cards and protocols that read badly when only the underscores are taken out.
_LABELS = {
    "auc": "AUC",
    "ci95": "95 % CI",
    "max_epochs": "epochs",
    "self_pair_rate": "queries paired with themselves",
    "redrawn": "draws thrown away for want of a class",
    "replicates": "bootstrap replicates",
    "replicates_dropped": "replicates without both classes, dropped",
    "radiographs_per_draw": "labelled radiographs in a draw, least and most",
    "studies_per_draw": "labelled studies in a draw",
    "tested": "tested radiographs or studies",
    "calibrate": "temperature scaling",
    "level": "tested per",
    "knn": "kNN",
    "fine_tune": "fine-tuning",
    "linear": "linear probe",
    "c": "inverse penalty",
    "labelled_studies": "labelled studies to draw from",
    "sha256": "SHA-256",
}


def verdict(results: Mapping[str, Any]) -> list[str]:
    """What was found, in plain words: each encoder against the reference, then the best against the rest.

    Args:
        results: the layout of `results.json`.

    Returns:
        Sentences. One says so for every difference whose CI includes 0.
    """
    figures = {name: entry["linear"] for name, entry in results["encoders"].items()}
    best = max(figures, key=lambda name: figures[name]["auc_mean"])
    reference = results.get("reference") or fmt.reference_encoder(figures)
    finding = human(results["finding"])
    seen = [
        f"{name} has seen test patients in pre-training: its AUC is too high and must not be reported as a result."
        for name in results["encoders"]
        if str(results["encoders"][name].get("card", {}).get("test_patients")).startswith(SEEN)
    ]
    if len(figures) == 1:
        return [
            *seen,
            f"{best} reaches an AUC of {fmt.number(figures[best]['auc_mean'])} for {finding} "
            f"(95 % CI {fmt.interval(figures[best])}). Nothing was there to compare it with.",
        ]
    sentences = [
        *seen,
        f"Highest mean AUC for {finding}: {best}, {fmt.number(figures[best]['auc_mean'])} "
        f"(95 % CI {fmt.interval(figures[best])}).",
    ]
    pairs = [(name, reference) for name in figures if name != reference]
    pairs += [(best, name) for name in figures if name not in (best, reference)] if best != reference else []
    for a, b in dict.fromkeys(pairs):
        found = _difference(compared(results, "linear"), a, b)
        if found is not None:
            sentences.append(_sentence(a, b, *found))
    return sentences


def unit(results: Mapping[str, Any]) -> str:
    """What is tested, `radiograph` or `study`."""
    return "radiograph" if results.get("protocol", {}).get("level", "image") == "image" else "study"


def patient(results: Mapping[str, Any]) -> str:
    """What is resampled and split by: `patient`, or `image` where the source has no patient ids."""
    return "patient" if results.get("cohort", {}).get("patients_known", True) else "image"


def resampled(results: Mapping[str, Any]) -> str:
    """What the bootstrap of the intervals draws; a single label draw cannot be resampled."""
    who = f"test {patient(results)}s"
    return f"{who} alone" if _one_draw(results) else f"{who} and label draws together"


def oracles(results: Mapping[str, Any]) -> dict[str, str]:
    """Encoder -> the finding whose labels its pairing rule read in pre-training; the others are absent."""
    rules = {name: entry.get("card", {}).get("pairing") or {} for name, entry in results["encoders"].items()}
    return {name: rule["oracle_same_finding"] for name, rule in rules.items() if rule.get("oracle_same_finding")}


def not_held_out(results: Mapping[str, Any]) -> list[str]:
    """The pre-trained encoders of which nobody knows whether they have seen test patients."""
    cards = {name: entry.get("card", {}) for name, entry in results["encoders"].items()}
    return [name for name, card in cards.items() if "format" in card and card.get("test_patients") != HELD_OUT]


def learned_from(protocol: Mapping[str, Any], *, patients: str = "patients") -> str:
    """What the probe learned from, in words.

    Args:
        protocol: of `results.json`, that of the first size.
        patients: what is drawn whole.
    """
    of = "radiographs" if protocol.get("draw_by") == "radiograph" else "studies"
    if protocol.get("label_fraction") is not None:
        text = f"{value(100 * protocol['label_fraction'])} % of the labelled {of} of the training side"
    elif protocol.get("draws_from") == "files":
        low, high = protocol["radiographs_per_draw"]
        text = f"{value(low)}{f' to {value(high)}' if high > low else ''} labelled radiographs"
    else:
        text = f"{value(protocol['studies_per_draw'])} labelled studies"
    draws = f"{value(protocol['draws'])} draw{'s' if protocol['draws'] != 1 else ''}"
    if protocol.get("draws_from") == "files":
        return f"{text}, in {draws} that the user gave"
    return f"{text}, in {draws} of {'single radiographs' if of == 'radiographs' else f'whole {patients}'}"


def limitations(results: Mapping[str, Any]) -> list[str]:
    """What these figures cannot tell; only what holds for this run."""
    encoders = results["encoders"]
    said = ["Research use only. Not a medical device; not validated for diagnosis."]
    if patient(results) == "image":
        said.append(
            "Patients are not known: one person may be on both sides, so the AUCs may be too high, and the intervals, "
            "which count each image as a patient of its own, are too narrow."
        )
    for name in not_held_out(results):
        said.append(
            f"It cannot be ruled out that {name} has seen test patients in pre-training, which would make its AUC too "
            "high: only of the probe is it known that it is tested on others than it learned from."
        )
    for name, finding in oracles(results).items():
        said.append(
            f"{name} was paired by the labels of {human(finding)} of its whole pre-training side: an upper bound, not "
            "self-supervised. It has seen more labels than the label fraction says."
        )
    if _one_draw(results):
        said.append("One label draw: how much depends on which labels were drawn is not in these intervals.")
    if any("format" in entry.get("card", {}) for entry in encoders.values()):
        said.append(
            "Each encoder file is one pre-training run: how much another seed would change is not in these intervals."
        )
    if any(entry["linear"].get("subgroups") for entry in encoders.values()):
        said.append(
            "Subgroup figures are many and small: a difference between two of them is a question, not a finding."
        )
    said.append("The intervals describe patients like those of this cohort, not other hospitals, scanners or labels.")
    if len(encoders) > 1:
        said.append("The highest of several AUCs is a little too high, because it was chosen for being the highest.")
    return said


def compared(results: Mapping[str, Any], protocol: str) -> list[Any]:
    """The comparisons of one protocol: each is a table that Holm's correction holds for."""
    return [pair for pair in results.get("comparisons", ()) if pair.get("protocol", "linear") == protocol]


def forecast(found: Mapping[str, Any]) -> str:
    """How many labelled studies until the AUC asked for, in words, with the interval over the label draws.

    Args:
        found: of `learning_curve`, with `points`, `fit` and `forecast`.
    """
    said, most = found["forecast"], found["points"][-1]["studies"]
    if said["labels"] is None:
        return f"not reachable by this fit, which levels off at {fmt.number(found['fit']['a'])}."
    low, high = (value(round(end)) if end is not None else "not reachable" for end in said["ci95"])
    where = "inside what was measured" if said["labels"] <= most else "a forecast, beyond what was measured"
    return f"about {value(round(said['labels']))} labelled studies (95 % CI {low} to {high}), {where}."


def _one_draw(results: Mapping[str, Any]) -> bool:
    return bool(results.get("protocol", {}).get("draws") == 1)


def _difference(comparisons: Any, a: str, b: str) -> tuple[float, float, float, float | None] | None:
    """Difference a - b with its CI and corrected p, whichever way round it was stored."""
    for pair in comparisons:
        low, high = pair["ci95"]
        if (pair["a"], pair["b"]) == (a, b):
            return pair["difference"], low, high, pair.get("p_holm")
        if (pair["a"], pair["b"]) == (b, a):
            return -pair["difference"], -high, -low, pair.get("p_holm")
    return None


def _sentence(a: str, b: str, difference: float, low: float, high: float, corrected: float | None) -> str:
    if (low > 0 or high < 0) and corrected is not None and corrected >= fmt.LEVEL:
        return (
            f"A difference between {a} and {b} is NOT established among so many comparisons: {difference:+.3f} AUC "
            f"(95 % CI {low:+.3f} to {high:+.3f}), but p is {fmt.p_value(corrected)} after Holm's correction."
        )
    if low > 0:
        return f"{a} beats {b} by {difference:.3f} AUC (95 % CI {low:.3f} to {high:.3f})."
    if high < 0:
        return f"{a} is worse than {b} by {-difference:.3f} AUC (95 % CI {-high:.3f} to {-low:.3f})."
    return (
        f"A difference between {a} and {b} is NOT established: {difference:+.3f} AUC, "
        f"and the 95 % CI ({low:+.3f} to {high:+.3f}) includes 0."
    )


def pretraining(card: Mapping[str, Any]) -> str:
    """How an encoder was pre-trained, in one line.

    Args:
        card: of the encoder; a baseline's has no `training`.
    """
    training, rule = card.get("training"), card.get("pairing")
    if not training:
        return "none"
    pairs = ", ".join(f"{label(key)} {value(item)}" for key, item in rule.items()) if rule else "no metadata"
    method = (training.get("method") or {}).get("name")
    known = {"epochs": training.get("epochs"), "seed": training.get("seed"), "queue": training.get("queue_size")}
    return "; ".join(
        [*([method] if method else []), pairs, *(f"{k} {value(v)}" for k, v in known.items() if v is not None)]
    )


def facts(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Label and value of each entry of a card; nested cards as `outer: inner`, empty entries left out."""
    for key, item in entries.items():
        if isinstance(item, Mapping):
            yield from facts(item, f"{prefix}{label(key)}: ")
        elif key in DIGESTS and item:
            yield prefix + label(key), "as keyed digests, in results.json"
        elif item is not None and item != "" and item != []:
            yield prefix + label(key), value(item)


def label(key: str) -> str:
    """A key in words."""
    return _LABELS.get(key, " ".join("AUC" if word == "auc" else word for word in key.split("_")))


def unbroken(sentence: str) -> str:
    """No line break inside `95 % CI`."""
    return sentence.replace("95 % CI", "95\u00a0%\u00a0CI")


def human(finding: str) -> str:
    """`pleural_effusion` -> `pleural effusion`."""
    return finding.replace("_", " ")


def value(item: Any) -> str:
    """A value of a card: yes/no, four significant digits, lists with commas."""
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item:,}" if abs(item) >= 10_000 else str(item)
    if isinstance(item, float):
        return f"{item:.4g}"
    if isinstance(item, list):
        return ", ".join(value(part) for part in item)
    return "–" if item is None else str(item)
