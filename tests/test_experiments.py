"""The paper's tables as lists of runs: every file they name is there, and every row is a run of its own."""

from pathlib import Path

import pytest
import yaml
from monai.bundle import ConfigParser

from monai_cxrpair.experiments.experiment import read_experiment
from monai_cxrpair.pairing import PairCriterion

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TABLES = [f"table{n}" for n in range(1, 8)]
ROWS = {"table1": 10, "table2": 2, "table3": 2, "table4": 3, "table5": 2, "table6": 5, "table7": 10}


def read(table):
    return yaml.safe_load((CONFIGS / "experiments" / f"{table}.yaml").read_text())


def merged(bundle, table, row):
    """The config of one row, put together by MONAI as on the command line."""
    files = [CONFIGS / name for name in (*table["base"], *row["overlays"])]
    config = ConfigParser.load_config_files([str(bundle / "configs" / "train.yaml"), *map(str, files)])
    parser = ConfigParser(config)
    for key, value in row.get("overrides", {}).items():
        parser[key] = value
    return parser.get()


def test_there_is_a_list_for_every_table_of_the_paper():
    assert sorted(path.stem for path in (CONFIGS / "experiments").glob("*.yaml")) == ["phantom", *TABLES]


@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_a_run_with_a_rule_and_the_papers_figures(table, bundle):
    listed = read(table)
    assert listed.keys() == {"name", "source", "base", "evaluate", "compare_with", "rows"}
    experiment = read_experiment(CONFIGS / "experiments" / f"{table}.yaml")  # every name and setting in it is known
    assert [row.name for row in experiment.rows] == [row["name"] for row in listed["rows"]]
    assert listed["name"] == table
    names = [row["name"] for row in listed["rows"]]
    assert len(set(names)) == len(names) == ROWS[table]
    known = yaml.safe_load((bundle / "configs" / "train.yaml").read_text())
    seen = []
    for row in listed["rows"]:
        assert row.keys() <= {"name", "baseline", "overlays", "overrides", "paper"}
        assert ("baseline" in row) != ("overlays" in row)
        if "overlays" in row:
            config = merged(bundle, listed, row)
            assert config.keys() <= known.keys()
            PairCriterion.from_config(config["pairing"])
            assert config["batch_size"] == 16  # configs/paper.yaml is the base
            assert config["negatives"]["ignore"] == "none"
            seen.append(str({name: config[name] for name in ("pairing", "negatives", "augmentation")}))
        assert ("paper" in row) == (row["name"] != "random weights")
        for figures in row.get("paper", {}).values():
            for mean, *_ in figures.values() if isinstance(figures, dict) else [figures]:
                assert 0.6 < mean < 0.95
    assert len(set(seen)) == len(seen)  # no two rows are the same run


def test_where_the_papers_code_includes_the_query_so_do_the_lists(bundle):
    """In the release x is in S_c(x) except under `distinct` rules; Table 3 uses pairs of different images only."""
    for table in ("table1", "table2", "table4", "table6", "table7"):
        listed = read(table)
        for row in listed["rows"]:
            pairing = merged(bundle, listed, row)["pairing"] if "overlays" in row else None
            if pairing is not None:
                assert pairing.get("include_self", False) == (
                    "distinct" not in (pairing["study"], pairing["laterality"])
                )
    for row in read("table3")["rows"]:
        pairing = merged(bundle, read("table3"), row)["pairing"]
        assert pairing["require_partner"]
        assert "include_self" not in pairing


def test_the_headline_of_the_paper_can_be_read_from_the_lists():
    rows = {row["name"]: row["paper"]["linear"][0] for row in read("table1")["rows"] if "paper" in row}
    assert rows["same study"] / rows["ImageNet"] - 1 == pytest.approx(0.144, abs=5e-4)


def test_the_phantom_study_has_the_rules_of_table_1_and_the_oracle_with_the_papers_figures(bundle):
    """Its rows may differ from the tables' in what they share (views, sizes), never in the rule or the figures."""
    study, rules, figures = read("phantom"), {}, {}
    for name in ("table1", "table2"):
        listed = read(name)
        for row in listed["rows"]:
            if "overlays" in row:
                rules[row["name"]] = merged(bundle, listed, row)["pairing"]
                figures[row["name"]] = row["paper"]["linear"]
    own = {row["name"]: row for row in study["rows"] if "overlays" in row}
    assert own.keys() - rules.keys() == {"several positives, decayed"}
    assert rules.keys() == own.keys() - {"several positives, decayed"}
    for name in rules:
        assert merged(bundle, study, own[name])["pairing"] == rules[name]
        assert own[name]["paper"]["linear"] == figures[name]
    for row in own.values():
        config = merged(bundle, study, row)
        assert config["max_epochs"] >= 100
        cropped = config["augmentation"]["crop_area"] != [1.0, 1.0]
        assert cropped == ("random crop" in row["name"])
        assert config["negatives"]["ignore"] == ("patient" if config["affinity"] else "none")


@pytest.mark.parametrize("overlay", sorted((CONFIGS / "pairing").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_pairing_overlay_is_a_rule_and_says_what_it_is(overlay):
    text = overlay.read_text()
    assert text.startswith("# Paper, Table") or text.startswith("# Not in the paper")
    PairCriterion.from_config(yaml.safe_load(text)["pairing"])
