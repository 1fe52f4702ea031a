"""A classifier that goes on from a checkpoint, with few weights."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.supervised.adapted_classifier import AdaptedClassifier
from tests.modules.test_contract import planned, trained

PLAIN = ("data=wine", "net=mlp", "net.width=8")
LORA = {"_target_": "modules.networks.adapters.low_rank.LowRank", "rank": 2}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    parts = trained(planned("supervised/classifier", tmp_path_factory.mktemp("plain"), *PLAIN))
    return parts.method, f"{parts.trainer.default_root_dir}/checkpoints/last.ckpt"


def test_it_begins_as_the_checkpoint_and_moves_the_adapter_alone(checkpoint, tmp_path):
    origin, path = checkpoint
    run = planned("supervised/adapted_classifier", tmp_path, *PLAIN, f"model.model={path}")
    before = AdaptedClassifier(origin.spec, LORA, model=path, **{"net": origin.hparams["net"]})
    x = torch.randn(4, *origin.spec.shape)
    torch.testing.assert_close(before.eval().predict_log_proba(x), origin.eval().predict_log_proba(x))
    method = trained(run).method
    rank, layers = 4, [(8, 13), (8, 8), (8, 8), (3, 8)]
    assert method.trained_weights() == sum(min(rank, *sides) * sum(sides) for sides in layers)
    frozen = dict(method.net.named_parameters())
    for name, value in origin.net.named_parameters():
        kept = frozen.get(name)
        kept = frozen[name.replace("weight", "parametrizations.weight.original")] if kept is None else kept
        assert torch.equal(kept, value), name


def test_a_checkpoint_of_other_records_is_refused(checkpoint):
    origin, path = checkpoint
    other = origin.spec.but(classes=("a", "b", "c"))
    with pytest.raises(UserError, match="has the classes"):
        AdaptedClassifier(other, LORA, model=path, **{"net": origin.hparams["net"]})
