"""The four strategies against a derivation that builds every key as a vector, and where they cannot apply."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from monai_cxrpair.contrast import Negatives, contrastive_loss
from monai_cxrpair.contrast.method.negatives import draw_like, draw_mixes
from monai_cxrpair.contrast.method.queue import KeyQueue
from monai_cxrpair.contrast.method.relatives import Relatives, find_relatives
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import Affinity
from monai_cxrpair.pairing.codes import CODES
from monai_cxrpair.pairing.properties import PROPERTIES

T = 0.2
STRATEGIES = ["same", "reweighted", "appended", "synthetic"]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Case:
    """A batch of 6 and a queue of 40 with random codes, of which `filled` are there; -1 is an unknown property."""

    def __init__(self, seed=0, *, filled=40, property_="laterality", values=(-1, 3), column=None):
        rng = np.random.default_rng(seed)
        self.column = CODES.index(property_)
        self.queue = KeyQueue(size=40, dim=5).double()
        self.q, self.k, keys = (unit(rng.normal(size=(n, 5))) for n in (6, 6, filled))
        self.codes, key_codes = (self.random_codes(rng, n, values) for n in (6, filled))
        if column is not None:
            self.codes[:, self.column], key_codes[:, self.column] = column
        self.queue.enqueue(torch.from_numpy(keys), torch.from_numpy(key_codes))
        self.keys, self.key_codes = self.queue.keys.numpy(), self.queue.codes.numpy()

    def random_codes(self, rng, n, values):
        codes = np.full((n, len(CODES)), -1)
        codes[:, 0], codes[:, 3] = rng.integers(0, 8, n), rng.integers(0, 3, n)
        codes[:, 1] = codes[:, 0] * 3 + codes[:, 3]
        codes[:, self.column] = rng.integers(*values, n)
        return codes

    def ours(self, rule, q=None, affinity=None, seed=3):
        q = torch.from_numpy(self.q) if q is None else q
        codes = torch.from_numpy(self.codes)
        own = find_relatives(codes, self.queue.codes, ~self.queue.filled[None], ignore=rule.ignore, affinity=affinity)
        torch.manual_seed(seed)
        terms = rule.terms(q @ self.queue.keys.T, own, self.queue.keys, codes, self.queue.codes)
        positive = (q * torch.from_numpy(self.k)).sum(1, keepdim=True)
        return contrastive_loss(
            positive, torch.ones(6, 1).double(), terms.similarity, terms.ignored, temperature=T,
            log_weight=terms.log_weight,
        )  # fmt: skip

    def draws(self, rule, seed=3):
        """A and the mixes of each property value among the queries, as numbers of keys."""
        torch.manual_seed(seed)
        kinds = torch.from_numpy(self.codes[:, self.column]).unique()
        chosen, usable = draw_like(kinds, self.queue.codes[:, self.column], self.queue.filled, share=rule.share)
        one, other, u = draw_mixes(chosen, usable, torch.float64)
        return {
            int(kind): (chosen[v][usable[v]].numpy(),
                        [x[v][usable[v]].numpy() for x in (one, other, u)]) for v, kind in enumerate(kinds)
        }  # fmt: skip

    def by_hand(self, rule, attracted=lambda x, key: False):
        """-log( e^pos / (e^pos + G) ) with G as the paper writes it, over explicit vectors."""
        losses = []
        draws = self.draws(rule) if rule.strategy in ("appended", "synthetic") else {}
        for i, x in enumerate(self.codes):
            there = [k for k in range(40) if self.key_codes[k, 0] != -1]
            own = {"patient": 0, "study": 1}.get(rule.ignore)
            near = [k for k in there if attracted(x, self.key_codes[k])]
            ignored = [k for k in there if own is not None and self.key_codes[k, own] == x[own] and k not in near]
            Q = [k for k in there if k not in ignored and k not in near]  # noqa: N806 - the paper's letters
            value = x[self.column]
            S = [k for k in Q if value != -1 and self.key_codes[k, self.column] == value]  # noqa: N806

            def e(vector, i=i):
                return np.exp(self.q[i] @ vector / T)

            G = sum(e(self.keys[k]) for k in Q)  # noqa: N806
            if rule.strategy == "same" and S:
                G = sum(e(self.keys[k]) for k in S)  # noqa: N806
            if rule.strategy == "reweighted" and 0 < len(S) < len(Q):
                r = len(S) / len(Q)
                G = sum((rule.target / r if k in S else (1 - rule.target) / (1 - r)) * e(self.keys[k]) for k in Q)  # noqa: N806
            if rule.strategy in ("appended", "synthetic"):
                A, (one, other, u) = draws[int(value)]  # noqa: N806
                G += sum(e(self.keys[k]) for k in A if k in Q)  # noqa: N806
                if rule.strategy == "synthetic":
                    mixes = unit(u[:, None] * self.keys[one] + (1 - u)[:, None] * self.keys[other])
                    G += sum(e(h) for h, a, b in zip(mixes, one, other, strict=True) if a in Q and b in Q)  # noqa: N806
            G += sum(e(self.keys[k]) for k in near)  # noqa: N806
            positive = e(self.k[i])
            losses.append(-np.log(positive / (positive + G)))
        return np.mean(losses)


@pytest.mark.parametrize("strategy", ["none", *STRATEGIES])
@pytest.mark.parametrize("ignore", ["none", "study", "patient"])
@pytest.mark.parametrize("filled", [40, 17, 1])
def test_every_strategy_equals_the_papers_formula_on_explicit_vectors(strategy, ignore, filled):
    for seed in range(6):
        case = Case(seed, filled=filled)
        rule = Negatives(strategy=strategy, ignore=ignore, target=0.7, share=0.25)
        assert case.ours(rule).item() == pytest.approx(case.by_hand(rule), abs=1e-10)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("property_", PROPERTIES)
def test_every_property_can_be_chosen(strategy, property_):
    case = Case(1, property_=property_)
    rule = Negatives(strategy=strategy, property=property_, share=0.25)
    assert case.ours(rule).item() == pytest.approx(case.by_hand(rule), abs=1e-10)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_attracted_keys_are_no_hard_negatives(strategy):
    case, rule = Case(2), Negatives(strategy=strategy, share=0.5)
    same_study = Affinity(kernel="step", cutoff_studies=0)
    expected = case.by_hand(rule, attracted=lambda x, key: key[1] == x[1])
    assert case.ours(rule, affinity=same_study).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_gradient_is_right(strategy):
    case, rule = Case(3), Negatives(strategy=strategy, share=0.25)
    q = torch.from_numpy(case.q).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: case.ours(rule, x), q)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("queries", "keys"), [(-1, 0), (1, 0), (0, -1), (-1, -1)], ids=["unknown", "absent", "unknown keys", "all unknown"]
)
def test_where_nothing_in_the_queue_is_like_x_it_has_the_default_negatives(strategy, queries, keys):
    case = Case(4, column=(queries, keys))
    default = case.ours(Negatives()).item()
    assert default > 0.1
    assert case.ours(Negatives(strategy=strategy, share=0.25)).item() == pytest.approx(default, abs=1e-12)


@pytest.mark.parametrize("strategy", ["same", "reweighted"])
def test_where_everything_in_the_queue_is_like_x_it_has_the_default_negatives(strategy):
    case = Case(4, column=(0, 0))
    assert case.ours(Negatives(strategy=strategy)).item() == pytest.approx(case.ours(Negatives()).item(), abs=1e-12)


@pytest.mark.parametrize("strategy", ["none", *STRATEGIES])
def test_an_empty_queue_gives_loss_0_and_no_gradient_and_one_key_is_enough(strategy):
    rule = Negatives(strategy=strategy, share=0.5, ignore="none")
    empty, one = Case(5, filled=0), Case(5, filled=1)
    q = torch.from_numpy(empty.q).requires_grad_()
    loss = empty.ours(rule, q)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert q.grad.abs().max() == 0
    assert one.ours(rule).item() > 0.01


def test_reweighting_keeps_the_sum_of_weights_and_puts_the_target_on_keys_like_x():
    case, rule = Case(6, values=(0, 2)), Negatives(strategy="reweighted", ignore="none", target=0.9)
    zeros = torch.zeros(6, 40, dtype=torch.float64)
    nothing = Relatives(*torch.zeros(2, 6, 40, dtype=torch.bool))
    codes = torch.from_numpy(case.codes)
    terms = rule.terms(zeros, nothing, case.queue.keys, codes, case.queue.codes)
    weight = terms.log_weight.exp()
    hard = codes[:, case.column, None] == case.queue.codes[:, case.column]
    torch.testing.assert_close(weight.sum(1), torch.full((6,), 40.0, dtype=torch.float64))
    torch.testing.assert_close((weight * hard).sum(1), torch.full((6,), 36.0, dtype=torch.float64))


def test_appended_keys_are_of_the_kind_all_different_as_many_as_said_and_evenly_drawn():
    values = torch.tensor([0, 1] * 50 + [2, 2, -1, 0])
    filled = torch.arange(104) < 103
    kinds = torch.tensor([-1, 0, 1, 2])
    counts = torch.zeros(104)
    torch.manual_seed(0)
    for _ in range(400):
        chosen, usable = draw_like(kinds, values, filled, share=0.1)
        assert chosen.shape == (4, 10)
        assert usable.sum(1).tolist() == [0, 10, 10, 2]
        for kind, row, used in zip(kinds, chosen, usable, strict=True):
            assert (values[row[used]] == kind).all()
            assert len(row[used].unique()) == used.sum()
        counts += torch.bincount(chosen[1][usable[1]], minlength=104)
    assert counts[103] == 0  # an empty place
    expected = 400 * 10 / 50
    chi_square = ((counts[:100:2] - expected) ** 2 / expected).sum()
    assert chi_square < 85.35  # 99.9 % point of chi-square with 49 degrees of freedom; the draw is without replacement


def test_mixes_are_of_two_different_keys_of_the_sample_where_there_are_two():
    chosen = torch.arange(30).reshape(3, 10)
    usable = torch.arange(10) < torch.tensor([[10], [1], [0]])
    torch.manual_seed(0)
    seen = set()
    for _ in range(100):
        one, other, u = draw_mixes(chosen, usable, torch.float64)
        assert (one[0] != other[0]).all()
        assert set(one[0].tolist()) | set(other[0].tolist()) <= set(range(10))
        assert one[1, 0] == other[1, 0] == 10
        assert ((u >= 0) & (u < 1)).all()
        seen |= set(zip(one[0].tolist(), other[0].tolist(), strict=True))
    assert len(seen) == 90


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"ignore": "all"}, "negatives#ignore is 'all': use none, study, patient"),
        ({"strategy": "hard"}, "negatives#strategy is 'hard'"),
        ({"strategy": "same", "property": "height"}, "negatives#property is 'height': use laterality, view_position"),
        ({"strategy": "reweighted", "target": 1.0}, "negatives#target is 1.0"),
        ({"strategy": "reweighted", "target": "0.9"}, "negatives#target is '0.9'"),
        ({"strategy": "appended", "share": 0}, "negatives#share is 0"),
        ({"strategy": "same", "target": 0.9}, "negatives#target needs negatives#strategy reweighted; it is same"),
        ({"property": "sex"}, "negatives#property needs negatives#strategy same or reweighted"),
        ({"strategi": "same"}, "negatives#strategi is unknown"),
        ("same", "negatives is 'same'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(settings, named):
    with pytest.raises(CxrPairError, match=named) as caught:
        Negatives.from_config(settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{"ignore": "patient"}, {"ignore": "none", "strategy": "reweighted", "property": "sex", "target": 0.8},
     {"ignore": "study", "strategy": "synthetic", "property": "laterality", "share": 0.1}],
)  # fmt: skip
def test_the_card_holds_the_settings_that_matter_and_can_be_read_back(settings):
    assert Negatives.from_config(settings).as_dict() == settings
    assert Negatives.from_config(None) == Negatives()


@pytest.mark.parametrize("overlay", sorted((Path(__file__).parents[3] / "configs" / "negatives").glob("*.yaml")))
def test_the_overlays_are_settings_of_a_strategy_and_leave_what_is_ignored_as_it_was(overlay):
    settings = yaml.safe_load(overlay.read_text(encoding="utf-8"))
    settings = {name.removeprefix("negatives#"): value for name, value in settings.items()}
    assert "ignore" not in settings
    assert settings["strategy"] in STRATEGIES
    assert Negatives.from_config(settings).as_dict() == {"ignore": "patient", **settings}
