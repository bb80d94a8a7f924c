"""The items of CLAIM 2024 and of TRIPOD+AI in words of our own, and what of a run bears on each.

An item is its number, what it asks, the fact of `checklist.py` that bears on it ("" where a run cannot know), and
whether that fact answers it whole. Who labelled, and why, no run knows: such items are never answered whole.
"""

from typing import NamedTuple


class Item(NamedTuple):
    """One line of a checklist."""

    number: str
    asks: str
    fact: str = ""
    whole: bool = False


CHECKLISTS: dict[str, tuple[Item, ...]] = {
    # Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300
    "CLAIM 2024": (
        Item("1", "Title or abstract say that this is AI, and which kind", "technique"),
        Item("2", "Abstract with design, methods, results and conclusions"),
        Item("3", "Background, and what the model is meant for"),
        Item("4", "Aims and hypotheses"),
        Item("5", "Prospective or retrospective"),
        Item("6", "Goal of the study", "goal"),
        Item("7", "Where the data come from", "counts"),
        Item("8", "Who was included and who was not", "flow"),
        Item("9", "How images were prepared", "preparation", True),
        Item("10", "Which subsets were chosen", "subset", True),
        Item("11", "How data were de-identified"),
        Item("12", "What was done about missing data", "missing", True),
        Item("13", "How images were acquired", "views"),
        Item("14", "How the reference standard was obtained", "labels"),
        Item("15", "Why this reference standard"),
        Item("16", "Who made the reference labels"),
        Item("17", "How the test set was labelled"),
        Item("18", "Agreement between and within readers"),
        Item("19", "How data were assigned to the sides", "split", True),
        Item("20", "On which level the sides are disjoint", "disjoint", True),
        Item("21", "Planned number of cases, and why", "tested"),
        Item("22", "The model in detail", "model"),
        Item("23", "Software and its versions", "software", True),
        Item("24", "Where the weights start", "start", True),
        Item("25", "How it was trained", "training"),
        Item("26", "How the final model was chosen", "chosen", True),
        Item("27", "Ensembles", "ensemble"),
        Item("28", "Measures of performance", "measures", True),
        Item("29", "Intervals and tests", "uncertainty", True),
        Item("30", "Robustness", "robustness"),
        Item("31", "What the model looks at, and was that checked", "saliency"),
        Item("32", "Test on internal data", "internal", True),
        Item("33", "Test on external data"),
        Item("34", "Trial registration"),
        Item("35", "Numbers included and excluded", "flow"),
        Item("36", "Who is on each side: demographics and findings", "sides"),
        Item("37", "Performance with its uncertainty", "performance", True),
        Item("38", "Diagnostic accuracy with its precision", "accuracy", True),
        Item("39", "What the wrong cases are", "failures"),
        Item("40", "Limitations", "limitations"),
        Item("41", "What it means for practice"),
        Item("42", "Where the protocol is", "settings"),
        Item("43", "Availability of software, model and data", "files"),
        Item("44", "Funding and the funders' role"),
    ),
    # Collins et al., BMJ 2024;385:e078378
    "TRIPOD+AI": (
        Item("1", "Title names a prediction model, population and outcome", "goal"),
        Item("2", "Abstract as TRIPOD+AI for abstracts asks"),
        Item("3a", "Clinical setting and why a model"),
        Item("3b", "For whom, where in the pathway, who uses it"),
        Item("3c", "Known inequalities in health"),
        Item("4", "Objectives: development, evaluation or both", "goal"),
        Item("5a", "Sources of the data for each part", "counts"),
        Item("5b", "Dates of the data"),
        Item("6a", "Setting and number of centres"),
        Item("6b", "Who was eligible", "flow"),
        Item("6c", "Treatments"),
        Item("7", "Preparation and quality checks of the data", "preparation"),
        Item("8a", "The outcome, how and when it was assessed", "labels"),
        Item("8b", "Who assessed the outcome"),
        Item("8c", "Blinding of the assessment"),
        Item("9a", "Why these predictors", "input"),
        Item("9b", "The predictors, how and when measured", "input"),
        Item("9c", "Who measured the predictors, where that needs judgement"),
        Item("10", "How the study size came about", "tested"),
        Item("11", "What was done about missing data", "missing", True),
        Item("12a", "Which data for development, which for evaluation", "split", True),
        Item("12b", "How predictors entered the model", "preparation"),
        Item("12c", "Kind of model, steps of building, internal validation", "model_building", True),
        Item("12d", "Differences between clusters such as hospitals", "clusters"),
        Item("12e", "Measures and plots of performance", "measures", True),
        Item("12f", "Recalibration or other updating", "updating", True),
        Item("12g", "How predictions were computed", "files"),
        Item("13", "Class imbalance", "imbalance", True),
        Item("14", "Fairness", "subgroups"),
        Item("15", "What the model gives out, and its thresholds", "output", True),
        Item("16", "How development and evaluation data differ", "sides"),
        Item("17", "Ethics approval and consent"),
        Item("18a", "Funding"),
        Item("18b", "Conflicts of interest"),
        Item("18c", "Where the protocol is", "settings"),
        Item("18d", "Registration"),
        Item("18e", "Sharing of data"),
        Item("18f", "Sharing of code", "software"),
        Item("19", "Part of patients and the public"),
        Item("20a", "Flow of participants", "flow"),
        Item("20b", "Characteristics of participants", "sides"),
        Item("20c", "Development against evaluation data", "sides"),
        Item("21", "Participants and outcomes in each analysis", "outcomes", True),
        Item("22", "The full model", "files"),
        Item("23a", "Performance with intervals, subgroups too", "performance", True),
        Item("23b", "Performance in different clusters", "clusters"),
        Item("24", "Results of updating", "updating", True),
        Item("25", "Interpretation, fairness among it"),
        Item("26", "Limitations", "limitations"),
        Item("27a", "Poor or missing input in use"),
        Item("27b", "What users must know or do"),
        Item("27c", "Next steps"),
    ),
}
