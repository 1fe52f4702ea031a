"""Objectives against trl's on the same log probabilities, random and extreme, and against closed forms."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from torch.nn import functional as F

from compendium.errors import UserError
from modules.preference.objectives.base import Pairs
from modules.preference.objectives.referenced import BCO, DPO, IPO
from modules.preference.objectives.referenceless import CPO, ORPO, SimPO
from modules.preference.objectives.rpo import RPO

LENGTHS = torch.tensor([[1, 3], [4, 4], [2, 1], [5, 2], [3, 5], [1, 1]])


def tokens(scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """ln pi and ln pi_ref of the tokens of six pairs (6, 2, 5), 0 behind each answer's end, and which they are."""
    draw = torch.Generator().manual_seed(0)
    there = torch.arange(5) < LENGTHS[..., None]
    policy, reference = (-scale * torch.rand(6, 2, 5, generator=draw) - 1e-3 for _ in range(2))
    return policy * there, reference * there, there


def pairs(scale: float) -> Pairs:
    policy, reference, there = tokens(scale)
    lengths = there.sum(2).float()
    return Pairs(*policy.sum(2).unbind(1), *reference.sum(2).unbind(1), *lengths.unbind(1))


def of_dpo_trainer(scale: float, *loss_types: str, weights=(1.0,), **settings) -> float:
    """trl's DPO trainer on these log probabilities."""
    from trl.trainer.dpo_trainer import DPOTrainer

    policy, reference, there = tokens(scale)
    # trl's batches hold the chosen answers first, then the rejected; one token stands before each answer.
    rows = policy.transpose(0, 1).flatten(0, 1)
    mask = F.pad(there.transpose(0, 1).flatten(0, 1).long(), (1, 0))
    outputs = SimpleNamespace(
        log_probs=rows, entropy=rows, mean_logits=rows, is_top1=rows > -1, log_sum_sq_probs=rows, aux_loss=None
    )
    trainer = MagicMock()
    for name, value in {
        "accelerator": SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
        "aux_loss_enabled": False, "ld_alpha": None, "precompute_ref_logps": True, "f_divergence_type": "reverse_kl",
        "loss_types": loss_types, "loss_weights": weights, "label_smoothing": 0.0, "use_weighting": False,
        "_total_train_tokens": 0, "_tp_size": 1,
    }.items():  # fmt: skip
        setattr(trainer, name, settings.pop(name, value))
    for name, value in settings.items():
        setattr(trainer, name, value)
    chosen, rejected = reference.sum(2).unbind(1)
    inputs = {
        "input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask,
        "ref_chosen_logps": chosen, "ref_rejected_logps": rejected,
    }  # fmt: skip
    return float(DPOTrainer._compute_loss(trainer, lambda **given: outputs, inputs, False))


SCALES = [0.5, 5.0, 300.0]


@pytest.mark.parametrize("scale", SCALES)
def test_referenced_objectives_are_those_of_trl(scale):
    given = pairs(scale)
    ours = {
        "sigmoid": DPO(0.3)(given), "ipo": IPO(0.2)(given), "bco_pair": BCO(0.3, shift=False)(given),
    }  # fmt: skip
    theirs = {
        "sigmoid": of_dpo_trainer(scale, "sigmoid", beta=0.3), "ipo": of_dpo_trainer(scale, "ipo", beta=0.2),
        "bco_pair": of_dpo_trainer(scale, "bco_pair", beta=0.3),
    }  # fmt: skip
    for name, value in ours.items():
        assert float(value) == pytest.approx(theirs[name], rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize("scale", SCALES)
def test_objectives_without_a_reference_are_those_of_trl(scale):
    from trl.experimental.cpo.cpo_trainer import CPOTrainer
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    given = pairs(scale)
    device = SimpleNamespace(device="cpu")
    trainer = SimpleNamespace(alpha=0.0, beta=0.3, label_smoothing=0.0, accelerator=device, loss_type="sigmoid")
    theirs = CPOTrainer.cpo_loss(trainer, given.chosen, given.rejected)[0].mean()
    torch.testing.assert_close(CPO(0.3)(given)["preference"], theirs)
    means = given.chosen / given.chosen_length, given.rejected / given.rejected_length
    trainer = SimpleNamespace(
        alpha=0.0, beta=2.0, label_smoothing=0.0, accelerator=device, loss_type="simpo", simpo_gamma=0.7
    )
    torch.testing.assert_close(SimPO(2.0, 0.7)(given), CPOTrainer.cpo_loss(trainer, *means)[0].mean())
    trainer = SimpleNamespace(beta=0.4, accelerator=device)
    theirs = -ORPOTrainer.odds_ratio_loss(trainer, *means)[0].mean()
    torch.testing.assert_close(ORPO(0.4)(given)["odds"], theirs)


@pytest.mark.parametrize("scale", SCALES)
def test_rpo_is_dpo_and_likelihood(scale):
    given = pairs(scale)
    terms = RPO(eta=0.5, beta=0.3)(given)
    policy, _, there = tokens(scale)
    chosen_tokens = int(there[:, 0].sum())
    # trl has the likelihood per token of all chosen answers, which is another average of the same sum.
    theirs = of_dpo_trainer(scale, "sigmoid", "sft", weights=(1.0, 0.5 * 0.3 * chosen_tokens / 6), beta=0.3)
    assert float(terms["preference"] + terms["likelihood"]) == pytest.approx(theirs, rel=1e-6)
    assert float(RPO(eta=0.0, beta=0.3)(given)["likelihood"]) == 0
    assert float(policy[:, 0].sum()) == pytest.approx(float(given.chosen.sum()))


def test_the_optimum_of_dpo_without_noise_is_that_of_the_reward():
    """All pairs with their true probabilities: the gradient is 0 at pi ~ pi_ref exp(r / beta)."""
    draw = torch.Generator().manual_seed(0)
    reward, reference = torch.randn(2, 5, generator=draw, dtype=torch.float64)
    beta = 0.7
    logits = (reference.log_softmax(0) + reward / beta).requires_grad_()
    log_pi, log_reference = logits.log_softmax(0), reference.log_softmax(0)
    first, second = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    preferred = torch.sigmoid(reward[first] - reward[second])
    one = torch.ones(25, dtype=torch.float64)
    total = 0.0
    for weight, a, b in ((preferred, first, second), (1 - preferred, second, first)):
        given = Pairs(log_pi[a], log_pi[b], log_reference[a], log_reference[b], one, one)
        total = total + (weight * -F.logsigmoid(beta * given.margin)).mean()
    (gradient,) = torch.autograd.grad(total, logits)
    assert gradient.abs().max() < 1e-12


def test_conservative_dpo_has_its_optimum_at_the_share_of_wrong_labels():
    margin = torch.tensor([torch.logit(torch.tensor(0.9)) / 0.5], requires_grad=True)
    zero, one = torch.zeros(1), torch.ones(1)
    DPO(0.5, label_smoothing=0.1)(Pairs(margin, zero, zero, zero, one, one)).backward()
    assert float(margin.grad) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (DPO, {"beta": 0}), (DPO, {"label_smoothing": 0.5}), (IPO, {"beta": -1}), (BCO, {"beta": 0}),
        (CPO, {"weight": -1}), (SimPO, {"gamma": -1}), (ORPO, {"weight": -1}), (RPO, {"eta": -1}),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(kind, arguments):
    with pytest.raises(UserError, match=f"model.objective.{next(iter(arguments))}="):
        kind(**arguments)
