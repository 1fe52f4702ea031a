"""The log ratio beside exact densities, and the loss beside its values by hand."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from compendium.compose import compose
from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.sources.densities import GaussianMixture
from datamodules.spec import DataSpec
from modules.generative.direct_discriminative import DirectDiscriminative
from modules.method import Method
from tests.modules.generative.exact import Known

SPEC = DataSpec(name="plane", kind="vector", shape=(2,))
NET = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 2}


@cache
def values(name, path="vp"):
    node = compose([f"model=generative/{name}", f"path={path}"]).values["model"]
    return {key: value for key, value in node.items() if key != "_target_"}


def made(**changes):
    return DirectDiscriminative(**{**values("direct_discriminative"), "spec": SPEC, "net": NET, **changes})


def saved(method, path):
    checkpoint = {"state_dict": method.state_dict(), "hyper_parameters": dict(method.hparams)}
    method.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


def test_between_exact_models_the_mean_log_ratio_is_the_divergence_in_nats():
    """E_p ln p / q of two Gaussians; what neither model sees, beyond the ends of the path, is below the tolerance."""
    torch.manual_seed(0)
    method = made().double()
    p, q = (GaussianMixture(torch.tensor([mean]), std) for mean, std in (([0.5, 0.0], 0.8), ([-0.3, 0.4], 1.1)))
    for part, law in ((method.inner, p), (method.reference, q)):
        model = Known(method.path, law)
        part.predict = lambda x, t, model=model: model.denoise(x, t)
        part.target, part.weighting, part.times = "data", "likelihood", "uniform"
    exact = 2 * (math.log(1.1 / 0.8) + (0.8**2 / 1.1**2 - 1) / 2) + (0.8**2 + 0.4**2) / (2 * 1.1**2)
    found = torch.cat([method.log_ratio(p.sample(100_000).double()) for _ in range(4)])
    error = float(found.std()) / len(found) ** 0.5
    assert error < 0.02
    assert float(found.mean()) == pytest.approx(exact, abs=4 * error)
    assert float(method.log_ratio(q.sample(100_000).double()).mean()) < 0  # where the reference is the likelier


def test_at_first_the_ratio_is_zero_and_the_gradient_pulls_up_data_and_pushes_down_draws():
    """With r = 0 the loss is (1 + alpha) ln 2, its gradient -beta / 2 (mean of dr(data) - alpha mean of dr(draws))."""
    torch.manual_seed(0)
    method = made(alpha=3.0, beta=0.5).double()
    x, fakes = torch.randn(4, 2).double(), torch.randn(1, 2).double()
    method.fakes = fakes
    torch.manual_seed(1)
    terms = method.loss(Unlabelled(x))
    assert terms["real"].item() == pytest.approx(math.log(2))
    assert terms["fake"].item() == pytest.approx(3 * math.log(2))
    weights = list(method.inner.parameters())
    ours = torch.autograd.grad(sum(terms.values()), weights)
    torch.manual_seed(1)
    torch.randint(1, (4,))
    ratio = method.log_ratio(torch.cat([x, fakes.expand(4, 2)]))
    expected = torch.autograd.grad(-0.25 * (ratio[:4].mean() - 3 * ratio[4:].mean()), weights)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert max(float(one.abs().max()) for one in ours) > 1e-4


def test_the_loss_of_given_ratios_is_the_cross_entropy_of_a_classifier():
    method = made(alpha=2.0, beta=0.5)
    method.fakes = torch.zeros(3, 2)
    ratios = torch.tensor([1.0, -2.0, 0.5, 3.0])
    method.log_ratio = lambda x: ratios
    terms = method.loss(Unlabelled(torch.randn(2, 2)))
    sigmoid = [1 / (1 + math.exp(-0.5 * float(r))) for r in ratios]
    assert float(terms["real"]) == pytest.approx(-(math.log(sigmoid[0]) + math.log(sigmoid[1])) / 2)
    assert float(terms["fake"]) == pytest.approx(-(math.log(1 - sigmoid[2]) + math.log(1 - sigmoid[3])))


def test_rounds_go_on_from_the_one_before_which_stays_as_it_is(tmp_path):
    diffusion = instantiate({**compose(["model=generative/diffusion", "path=vp"]).values["model"]}, SPEC, net=NET)
    first = made(model=saved(diffusion, tmp_path / "start.ckpt"))
    for weight in first.inner.parameters():
        weight.data.add_(0.1)
    second = made(model=saved(first, tmp_path / "first.ckpt"))
    for one, other in zip(second.reference.parameters(), first.inner.parameters(), strict=True):
        assert torch.equal(one, other)
        assert not one.requires_grad
    assert all(weight.requires_grad for weight in second.inner.parameters())
    assert second.inner.training
    x, t = torch.randn(3, 2), torch.full((3,), 0.4)
    torch.testing.assert_close(first.reference.denoise(x, t), diffusion.denoise(x, t))
    torch.testing.assert_close(second.denoise(x, t), first.inner.denoise(x, t))
    again = Method.load_from_checkpoint(saved(second, tmp_path / "second.ckpt"))
    torch.testing.assert_close(again.denoise(x, t), second.denoise(x, t))


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"model\.alpha=0"):
        made(alpha=0.0)
    with pytest.raises(UserError, match=r"model\.beta=-1"):
        made(beta=-1.0)
    kind = compose(["model=generative/diffusion", "path=cosine"]).values["model"]
    path = saved(instantiate(kind, SPEC, net=NET), tmp_path / "cosine.ckpt")
    with pytest.raises(UserError, match="another path"):
        made(model=path)
    solid = DataSpec(name="solid", kind="vector", shape=(3,))
    other = saved(instantiate(kind, solid, net=NET), tmp_path / "solid.ckpt")
    with pytest.raises(UserError, match=r"is of records \(3,\), these are \(2,\)"):
        made(model=other, **{"path": values("direct_discriminative", "cosine")["path"]})
    analytic = compose(["model=generative/analytic_diffusion", "path=vp"]).values["model"]
    with pytest.raises(UserError, match="holds a AnalyticDiffusion"):
        made(model=saved(instantiate(analytic, SPEC), tmp_path / "exact.ckpt"))
