"""Jumps beside the flow of a Gaussian, which is known in closed form, and beside the samplers that they generalise."""

from __future__ import annotations

import pytest
import torch

from compendium.compose import compose
from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from modules.generative.consistency_trajectory import ConsistencyTrajectory
from modules.generative.gaussian.paths import along
from modules.generative.samplers.ddim import moved
from modules.generative.samplers.heun import Heun
from tests.modules.generative.particles import MEAN, SPEC, STD, arguments

PATHS = {
    "edm": "modules.generative.gaussian.paths.NoiseLevel",
    "vp": "modules.generative.gaussian.paths.VariancePreserving",
}


def made(path="edm", **changes):
    net = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 2}
    node = {"_target_": PATHS[path]}
    return ConsistencyTrajectory(**arguments("consistency_trajectory", net=net, path=node, **changes)).double()


def flow(path, x, t, s):
    """The probability flow of N(MEAN, STD^2 I) from t to s: (x - alpha m) / sqrt(alpha^2 STD^2 + sigma^2) stays."""
    mean = torch.tensor(MEAN).double()
    size = lambda time: (path.alpha(time).square() * STD**2 + path.sigma(time).square()).sqrt()  # noqa: E731
    return along(path.alpha(s), x) * mean + along(size(s) / size(t), x) * (x - along(path.alpha(t), x) * mean)


def exact(method):
    """Gives the method the true flow, in the place of both networks and of the solver."""
    method.jump = lambda model, x, t, s: flow(method.path, x, t, s)
    method.heun = lambda x, t, u: flow(method.path, x, t, u)
    return method


def times(method, n, *shares):
    grid = method.path.start + (method.path.end - method.path.start) * torch.tensor(shares).double()
    return [time.expand(n).clone() for time in grid]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("ends", ["any", "data"])
def test_the_true_flow_has_no_loss_along_the_trajectory_and_another_has(path, ends):
    method, x = exact(made(path, ends=ends)), torch.randn(50, 2).double()
    assert method.inconsistency(x) < 1e-20
    right = method.jump
    method.jump = lambda model, x, t, s: right(model, x, t, s) + 0.1 * along(t - s, x)
    assert method.inconsistency(x) > 1e-4


@pytest.mark.parametrize("path", PATHS)
def test_a_jump_nowhere_stays_and_there_the_network_denoises(path):
    method, x = made(path), torch.randn(5, 2).double()
    torch.nn.init.normal_(method.student.net.condition.horizon.layers[-1].weight)
    t, s = times(method, 5, 0.4, 0.1)
    torch.testing.assert_close(method.jump(method.student, x, t, t), x)
    torch.testing.assert_close(method.clean(method.student, x, t, t), method.student.denoise(x, t))
    assert (method.clean(method.student, x, t, s) - method.student.denoise(x, t)).abs().max() > 1e-3


def test_on_edms_path_a_jump_is_a_share_of_the_record_and_the_rest_of_g():
    method, x = made(), torch.randn(5, 2).double()
    t, s = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5]).double(), torch.tensor([1.0, 0.002, 0.5, 0.9, 0.1]).double()
    share = (s / t)[:, None]
    expected = share * x + (1 - share) * method.clean(method.student, x, t, s)
    torch.testing.assert_close(method.jump(method.student, x, t, s), expected)


def test_it_begins_as_the_steps_of_ddim_of_a_teacher_with_a_network(tmp_path):
    values = compose(["model=generative/diffusion", "net=mlp", "net.width=8", "path=edm"]).values
    teacher = instantiate(values["model"], SPEC, net=values["net"])
    checkpoint = {"state_dict": teacher.state_dict(), "hyper_parameters": dict(teacher.hparams)}
    teacher.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "teacher.ckpt")
    method, teacher = made(teacher=str(tmp_path / "teacher.ckpt"), source=None), teacher.double()
    x, t, s = torch.randn(5, 2).double(), torch.tensor(7.0).double(), torch.tensor(0.3).double()
    field = teacher.field()
    expected = moved(field, field.data(x, t), x, t, s)
    torch.testing.assert_close(method.jump(method.student, x, t.expand(5), s.expand(5)), expected)
    assert not any(p.requires_grad for p in (*method.target.parameters(), *method.teacher.parameters()))


@pytest.mark.parametrize("path", PATHS)
def test_the_teachers_step_is_that_of_the_sampler(path):
    method, x = made(path), torch.randn(5, 2).double()
    t, s = times(method, 5, 0.3, 0.2)
    expected = Heun().step(method.teacher.field(), x, t[0], s[0], {})
    torch.testing.assert_close(method.heun(x, t, s), expected)


def test_places_lie_on_the_grid_in_order_and_reach_all_of_it():
    method, n = made(levels=6, most=3), 4000
    seen = set()
    for _ in range(30):
        first, steps, last = method.places(n, torch.empty(0))
        assert 1 <= steps <= 3
        assert first.min() == 0
        assert first.max() == 5 - steps
        assert bool((last >= first + steps).all())
        assert last.max() == 5
        assert bool((last[first == 0].unique() == torch.arange(steps, 6)).all())
        seen.add(steps)
    assert seen == {1, 2, 3}


def test_with_ends_at_the_data_it_is_consistency_distillation():
    """|f(x_t, t) - f'(x_u, u)|^2 with f(x, t) = G(x, t, start), of neighbours on the grid."""
    method, x = made(ends="data", most=1, dsm=0.0, gan=0.0), torch.randn(20, 2).double()
    for weight in method.target.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    torch.manual_seed(3)
    ours = method.play("student", Unlabelled(x))
    torch.manual_seed(3)
    first, steps, _ = method.places(20, x)
    t, u = method.grid[first], method.grid[first + 1]
    noisy = x + t[:, None] * torch.randn_like(x)
    solved = torch.stack([Heun().step(method.teacher.field(), noisy[i : i + 1], t[i], u[i], {})[0] for i in range(20)])
    start = torch.full((20,), 0.002).double()
    off = method.jump(method.student, noisy, t, start) - method.jump(method.target, solved, u, start)
    assert steps == 1
    assert set(ours) == {"trajectory"}
    torch.testing.assert_close(ours["trajectory"], off.square().mean())
    assert not hasattr(method, "discriminator")


def test_jumps_along_the_true_flow_end_where_one_does():
    draws = []
    for jumps in (1, 5):
        method = exact(made(jumps=jumps))
        torch.manual_seed(1)
        draws.append(method.sample(50))
        assert method.function_evaluations() == jumps
    torch.testing.assert_close(*draws)
    torch.manual_seed(1)
    t, s = torch.full((50,), 80.0).double(), torch.full((50,), 0.002).double()
    torch.testing.assert_close(draws[0], flow(method.path, 80 * torch.randn(50, 2, dtype=torch.float64), t, s))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_with_noise_in_between_the_law_is_the_datas(path, gamma):
    torch.manual_seed(0)
    draws = exact(made(path, jumps=4, gamma=gamma)).sample(40_000)
    torch.testing.assert_close(draws.mean(0), torch.tensor(MEAN).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.full((2,), STD).double(), atol=0.015, rtol=0)


def test_noise_in_between_leads_back_to_the_grid():
    for path in PATHS:
        method = made(path, gamma=0.6)
        u = torch.tensor(0.5).double()
        ratio = method.path.noise_ratio(method.before(u)) / method.path.noise_ratio(u)
        torch.testing.assert_close(ratio, torch.tensor(0.8).double())


def test_the_terms_of_both_players_and_the_moving_average():
    method, x = made(gan=0.5, dsm=2.0, decay=0.75), torch.randn(6, 2).double()
    method.judged = lambda x: x.sum(1)
    method.drawn_from = lambda data: torch.tensor([[0.5, 0.0], [-3.0, 0.0]]).double()
    terms = method.play("student", Unlabelled(x))
    assert float(terms["adversarial"]) == pytest.approx(0.5 * 1.25)
    real = torch.tensor([[2.0, 0.0], [0.0, 0.25]]).double()
    hinge = method.play("discriminator", Unlabelled(real))["discriminator"]
    assert float(hinge) == pytest.approx((0 + 0.75 + 1.5 + 0) / 2)
    before = [weight.clone() for weight in method.target.parameters()]
    for weight in method.student.parameters():
        weight.data.add_(1.0)
    method.follow()
    for weight, old in zip(method.target.parameters(), before, strict=True):
        torch.testing.assert_close(weight, old + 0.25)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"most": 18}, r"model\.most=18 model\.levels=18"),
        ({"ends": "noise"}, r"model\.ends=noise is unknown"),
        ({"gan": -1.0}, r"model\.gan=-1"),
        ({"jumps": 0}, r"model\.jumps=0"),
        ({"gamma": 1.5}, r"model\.gamma=1\.5"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, said):
    with pytest.raises(UserError, match=said):
        made(**changes)
