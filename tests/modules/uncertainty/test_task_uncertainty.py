"""Learned variances of tasks: the likelihoods they come from, their optimum, and what a change of units does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.uncertainty.task_uncertainty import UncertaintyWeightedSurvey
from tests.modules.supervised.test_surveyor import batch

SPEC = DataSpec("masks", "image", (6, 4, 5), target="mask", classes=("background", "left", "right"))


def survey(**arguments):
    return UncertaintyWeightedSurvey(SPEC, net=nn.Identity(), **arguments).double()


def losses(*values):
    return dict(zip(("semantic", "offset", "depth"), torch.tensor(values, dtype=torch.float64), strict=True))


def at(method, variances):
    with torch.no_grad():
        method.log_variances.values.copy_(torch.tensor(variances, dtype=torch.float64).log())
    return method


def test_a_number_is_weighed_as_by_the_likelihood_of_a_normal_law():
    error, variance = 1.7, 0.4
    terms = at(survey(), [1.0, variance, 1.0]).weighed(losses(0.0, error**2, 0.0))
    expected = -Normal(0.0, math.sqrt(variance)).log_prob(torch.tensor(error)).item() - math.log(2 * math.pi) / 2
    assert (terms["offset"] + terms["offset_ln_sigma"]).item() == pytest.approx(expected, rel=1e-6)


def test_a_class_is_weighed_by_the_inverse_of_its_temperature():
    terms = at(survey(), [0.25, 1.0, 1.0]).weighed(losses(0.9, 0.0, 0.0))
    assert terms["semantic"].item() == pytest.approx(4 * 0.9)
    assert terms["semantic_ln_sigma"].item() == pytest.approx(math.log(0.5))


def test_the_optimum_is_known_and_forgets_the_units():
    values = (0.3, 2.0, 40.0)
    method = at(survey(), [2 * values[0], values[1], values[2]])
    sum(method.weighed(losses(*values)).values()).backward()
    torch.testing.assert_close(method.log_variances.values.grad, torch.zeros(3, dtype=torch.float64))
    # There, the pull of each task is that of (ln L) / 2.
    given = {task: value.requires_grad_() for task, value in losses(*values).items()}
    pull = torch.autograd.grad(sum(method.weighed(given).values()), list(given.values()))
    torch.testing.assert_close(torch.stack(pull), 0.5 / torch.tensor(values, dtype=torch.float64))


def test_at_first_it_has_the_weights_one_and_a_half():
    given = batch()
    method = survey().float()
    plain = method.losses(given)
    assert sum(method.loss(given).values()).item() == pytest.approx(
        (plain["semantic"] + plain["offset"] / 2 + plain["depth"] / 2).item(), rel=1e-6
    )


def test_variances_learn_at_a_rate_of_their_own():
    method = survey(rate_scale=7.0)
    groups = method.rated(method.parameters())
    assert [len(groups[7.0]), groups[7.0][0] is method.log_variances.values] == [1, True]


def test_a_rate_that_is_not_positive_is_refused():
    with pytest.raises(UserError, match="rate_scale"):
        survey(rate_scale=0.0)
