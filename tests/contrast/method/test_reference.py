"""Ten steps of the trainer against a MoCo v2 in plain PyTorch that is written here and shares no code with it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from monai_cxrpair.contrast import ContrastiveTrainer, MoCo
from monai_cxrpair.imaging import as_tensors
from monai_cxrpair.pairing.codes import CODES

QUEUE, DIM, MOMENTUM, TEMPERATURE, RATE, DECAY, MEAN, SD = 14, 5, 0.9, 0.2, 3e-3, 1e-4, 0.4, 0.25


class Pairs(Dataset):
    """Twenty radiographs of ten patients; the partner is the patient's other one. No augmentation."""

    seed = 0

    def __init__(self):
        self.images = np.random.default_rng(0).integers(0, 256, (20, 1, 64, 64)).astype(np.uint8)

    def __len__(self):
        return len(self.images)

    def set_epoch(self, epoch):
        pass

    def __getitems__(self, rows):
        rows = np.asarray(rows)
        pair = np.stack([rows, rows ^ 1], axis=1)
        codes = np.full((len(rows), 2, len(CODES)), -1)
        codes[..., 0], codes[..., 1] = pair // 2, pair
        return {
            "query": self.images[rows], "key": self.images[rows ^ 1][:, None], "row": rows, "key_row": pair[:, 1:],
            "affinity": np.ones((len(rows), 1), np.float32), "codes": codes,
        }  # fmt: skip


def encoder():
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=4, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )


def plain_network(weights, side):
    """Encoder and head as one plain module, with the starting weights of one side of ours."""
    network = nn.Sequential(encoder(), nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, DIM))).double()
    network[0].load_state_dict({k.partition(".")[2]: v for k, v in weights.items() if k.startswith(f"{side}_encoder.")})
    network[1].load_state_dict({k.partition(".")[2]: v for k, v in weights.items() if k.startswith(f"{side}_head.")})
    return network


def plain_moco(weights, batches):
    """MoCo v2: algorithm 1 of He et al. 2020, the keys of the query's own patient left out of the negatives."""
    query, key = plain_network(weights, "query"), plain_network(weights, "key")
    optimizer = torch.optim.Adam(query.parameters(), lr=RATE, weight_decay=DECAY)
    queue, patients, losses = torch.zeros(0, DIM).double(), torch.zeros(0).long(), []
    for batch in batches:
        x, y = ((batch[name].double() / 255 - MEAN) / SD for name in ("query", "key"))
        q = F.normalize(query(x), dim=1)
        with torch.no_grad():
            for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
                slow.copy_(MOMENTUM * slow + (1 - MOMENTUM) * fast)
            k = F.normalize(key(y[:, 0]), dim=1)
        mine = batch["codes"][:, 0, 0]
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], dim=1) / TEMPERATURE
        same = torch.cat([torch.zeros(len(q), 1).bool(), mine[:, None] == patients[None]], dim=1)
        loss = F.cross_entropy(logits.masked_fill(same, -torch.inf), torch.zeros(len(q)).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        queue, patients = torch.cat([queue, k])[-QUEUE:], torch.cat([patients, batch["codes"][:, 1, 0]])[-QUEUE:]
        losses.append(loss.item())
    return query, key, queue, losses


def test_ten_steps_of_the_trainer_equal_a_plain_moco():
    torch.manual_seed(0)
    data = Pairs()
    network = MoCo(
        encoder=encoder(), queue_size=QUEUE, dim=DIM, momentum=MOMENTUM, temperature=TEMPERATURE, bn_groups=1
    ).double()  # fmt: skip
    start = {name: value.clone() for name, value in network.state_dict().items()}
    loader = DataLoader(data, batch_size=4, shuffle=True, drop_last=True, collate_fn=as_tensors)
    trainer = ContrastiveTrainer(
        device="cpu", max_epochs=2, train_data_loader=loader, network=network, normalisation=(MEAN, SD),
        precision="fp32", optimizer=torch.optim.Adam(
            [p for p in network.parameters() if p.requires_grad], lr=RATE, weight_decay=DECAY
        ),
    )  # fmt: skip
    batches, losses = [], []

    @trainer.on("ITERATION_COMPLETED")
    def _record(engine):
        batches.append({name: value.clone() for name, value in engine.state.batch.items()})
        losses.append(float(engine.state.output["loss"]))

    trainer.run()
    query, key, queue, expected = plain_moco(start, batches)
    assert len(losses) == 10
    assert losses == pytest.approx(expected, abs=1e-8)
    for side, plain in (("query", query), ("key", key)):
        for part, module in (("encoder", plain[0]), ("head", plain[1])):
            ours = getattr(network, f"{side}_{part}").state_dict()
            assert ours.keys() == module.state_dict().keys()
            for name, value in module.state_dict().items():
                torch.testing.assert_close(ours[name], value, atol=1e-8, rtol=0)
    pointer = int(network.queue.pointer)
    oldest_first = torch.cat([network.queue.keys[pointer:], network.queue.keys[:pointer]])
    torch.testing.assert_close(oldest_first, queue, atol=1e-8, rtol=0)
    moved = network.state_dict()["query_encoder.0.weight"] - start["query_encoder.0.weight"]
    assert moved.abs().mean() > 1e-3  # ten steps went somewhere
