"""Refined schedules against closed forms, the bound that they minimise, and norms written out by hand."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch

from callbacks.checkpoint import Checkpoint
from callbacks.gradient_norms import GradientNorms
from compendium.build import build
from compendium.compose import compose
from compendium.errors import UserError
from compendium.run import Run
from modules.optimization.refined import Refined, recorded, refined, smoothed
from modules.optimization.schedules import linear
from tests.compendium.quick import CLASSIFIER
from tests.modules.optimization.test_schedules import rates

NORMS = "++callbacks.norms._target_=callbacks.gradient_norms.GradientNorms"


def left(path, norms):
    """A checkpoint with norms in it."""
    torch.save({"callbacks": {"GradientNorms": {"gradient_norms": torch.tensor(norms)}}}, path)
    return str(path)


@pytest.mark.parametrize("power", [1, 2])
def test_norms_that_do_not_change_make_the_linear_decay(power):
    expected = rates(linear, 50, warmup=0.0)[:-1]
    assert 2 * refined(np.full(50, 3.0), 50, power, 0.1) == pytest.approx(expected, rel=1e-12)


def test_norms_that_fall_make_a_warm_up():
    """G_t = 1/t: w_t = t^2 up to a factor, and w_t sum_{p>t} w_p = t^2 (S(T) - S(t)), S(t) = t (t+1) (2t+1) / 6."""
    steps = 100
    t = np.arange(1, steps + 1.0)
    sums = t * (t + 1) * (2 * t + 1) / 6
    expected = t**2 * (sums[-1] + steps**2 - sums)  # the last weight counts twice
    found = refined(1 / t, steps, 2, 0.0)
    assert found == pytest.approx(expected / expected.max(), rel=1e-12)
    assert 0 < found.argmax() < steps - 1


def test_the_weights_minimise_the_bound():
    """(D^2 + sum w^2 G^2) / (2 sum w) is least at w = D G^-2 / sqrt(sum G^-2), where it is D / sqrt(sum G^-2)."""
    draw, distance = np.random.default_rng(0), 1.7
    norms = draw.uniform(0.5, 3, 40)
    found = refined(norms, 40, 2, 0.0)
    # Undo the sums from the end: with the tail s_t = sum_{p>t} w_p, f_t = w_t s_t and s_{t-1} = w_t + s_t.
    weights, tail = np.zeros(40), 1.0
    for t in reversed(range(40)):
        weights[t] = found[t] / found[-1] / tail
        tail += weights[t]

    def bound(w):
        return (distance**2 + (w**2 * norms**2).sum()) / (2 * w.sum())

    best = weights * distance / math.sqrt((norms**-2.0).sum()) / (weights * norms**2)[0]
    assert bound(best) == pytest.approx(distance / math.sqrt((norms**-2.0).sum()), rel=1e-9)
    assert all(bound(best * np.exp(0.1 * draw.standard_normal(40))) > bound(best) for _ in range(100))


def test_the_last_iterate_keeps_the_bound():
    """f(x) = |x| (Euclidean) has gradients of norm 1: T steps of D / sqrt(T + 1) end within D / sqrt(T + 1)."""
    for steps in (1, 7, 100):
        x = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64)
        rate = float(x.norm()) / math.sqrt(steps + 1)
        for factor in refined(np.ones(steps), steps, 2, 0.1) * steps / (steps + 1):
            x = x - rate * factor * x / x.norm()
        assert float(x.norm()) <= 13 / math.sqrt(steps + 1)


@pytest.mark.parametrize(("count", "smoothing"), [(40, 0.1), (41, 0.37), (9, 1.0), (3, 0.1), (1, 1.0)])
def test_smoothing_is_the_running_median(count, smoothing):
    norms = np.random.default_rng(count).exponential(size=count)
    half = int(smoothing * count) // 2
    mirrored = [*[norms[0]] * count, *norms, *norms[-2::-1]]
    expected = [statistics.median(mirrored[count + t - half : count + t + half + 1]) for t in range(count)]
    assert smoothed(norms, smoothing) == pytest.approx(expected)


def test_one_outlier_changes_nothing():
    norms = np.full(100, 2.0)
    norms[60] = 1e6
    assert refined(norms, 100, 2, 0.1) == pytest.approx(refined(np.full(100, 2.0), 100, 2, 0.1))


def test_another_budget_stretches_the_norms():
    slow, fast = refined(np.linspace(1, 3, 2001), 500, 2, 0.0), refined(np.linspace(1, 3, 500), 500, 2, 0.0)
    assert slow == pytest.approx(fast, rel=1e-9)


@pytest.mark.parametrize(("optimizer", "norm", "power"), [(torch.optim.SGD, 1, 2), (torch.optim.Adam, 0, 1)])
def test_sgd_goes_by_euclidean_norms_and_adam_by_sums(optimizer, norm, power, tmp_path):
    norms = np.random.default_rng(1).uniform(1, 2, (30, 2)).astype("float32")
    path = left(tmp_path / "a.ckpt", norms)
    parameter = [torch.zeros(1, requires_grad=True)]
    found = Refined(optimizer(parameter, lr=1.0), 30, path).factors
    assert found == pytest.approx(refined(norms[:, norm].astype("float64"), 30, power, 0.1))
    forced = Refined(optimizer(parameter, lr=1.0), 30, path, norm="l1").factors
    assert forced == pytest.approx(refined(norms[:, 0].astype("float64"), 30, 1, 0.1))


def test_a_continued_schedule_goes_on_where_it_was_even_if_the_earlier_run_was_done_again(tmp_path):
    path = left(tmp_path / "a.ckpt", np.random.default_rng(2).uniform(1, 2, (20, 2)).astype("float32"))
    expected = rates(Refined, 20, norms=path)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    first = Refined(optimizer, 20, path)
    for _ in range(7):
        optimizer.step()
        first.step()
    torch.save([first.state_dict(), optimizer.state_dict()], tmp_path / "state")
    left(tmp_path / "a.ckpt", np.ones((20, 2), dtype="float32"))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    second = Refined(optimizer, 20, path)
    states = torch.load(tmp_path / "state", weights_only=True)
    second.load_state_dict(states[0])
    optimizer.load_state_dict(states[1])
    seen = []
    for _ in range(7, 21):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        second.step()
    assert seen == expected[7:]


def test_bad_input_is_one_line(tmp_path):
    parameter = [torch.zeros(1, requires_grad=True)]
    optimizer = torch.optim.SGD(parameter, lr=1.0)
    torch.save({"callbacks": {}}, tmp_path / "none.ckpt")
    with pytest.raises(UserError, match="recorded no gradient norms"):
        Refined(optimizer, 5, tmp_path / "none.ckpt")
    with pytest.raises(UserError, match="no checkpoint"):
        Refined(optimizer, 5, tmp_path / "nowhere.ckpt")
    with pytest.raises(UserError, match=r"schedule\.norm=l3"):
        Refined(optimizer, 5, tmp_path / "none.ckpt", norm="l3")
    for norms, smoothing, message in ((np.zeros(5), 0.1, "zero or not finite"), (np.ones(5), 2.0, "smoothing=2")):
        with pytest.raises(UserError, match=message):
            refined(norms, 5, 2, smoothing)


# The record


def run_of(tmp_path, *more):
    run = Run.plan(compose([*CLASSIFIER, "logger=none", f"runs={tmp_path}", *more]))
    run.freeze()
    return build(run)


def test_norms_are_of_the_mean_over_an_accumulation_and_before_clipping(tmp_path):
    """Two halves of a batch, or the batch at once: the first step has the same gradient; and it is clipped later."""
    found = {}
    for name, more in {
        "whole": (),
        "halves": ("datamodule.batch_size=8", "trainer.accumulate_grad_batches=2"),
        "clipped": ("trainer.gradient_clip_val=1e-4",),
    }.items():
        parts = run_of(tmp_path / name, NORMS, "trainer.max_steps=1", *more)
        parts.trainer.fit(parts.method, parts.data)
        found[name] = recorded(Checkpoint().path(parts.trainer, "last"))
    assert found["whole"].shape == (1, 2)
    assert found["halves"] == pytest.approx(found["whole"], rel=1e-5)
    assert found["clipped"] == pytest.approx(found["whole"], rel=1e-5)
    parts = run_of(tmp_path / "loss", "trainer.max_steps=1")
    batch = next(iter(parts.data.train_dataloader()))
    parts.method.loss(batch).backward()
    gradient = torch.cat([p.grad.flatten().double() for p in parts.method.parameters()])
    assert found["whole"][0] == pytest.approx([float(gradient.abs().sum()), float(gradient.norm())], rel=1e-5)


def test_players_in_turns_make_one_norm_a_round():
    callback = GradientNorms()
    one, two = (torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1) for _ in range(2))
    for optimizer, gradient in ((one, [3.0, -4.0]), (two, [12.0, 0.0])):
        hook = optimizer.register_step_pre_hook(callback.before_step)
        optimizer.param_groups[0]["params"][0].grad = torch.tensor(gradient)
        optimizer.step()
        hook.remove()
    callback.on_train_batch_end(None, None, None, None, 0)
    assert callback.state_dict()["gradient_norms"].tolist() == [[19.0, 13.0]]


def test_a_continued_record_is_the_whole_one():
    whole, half = GradientNorms(), GradientNorms()
    gradients = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([parameter], lr=0.1)

    def note(callback, rows):
        for row in rows:
            parameter.grad = row
            callback.take(optimizer)
            callback.on_train_batch_end(None, None, None, None, 0)

    note(whole, gradients)
    note(half, gradients[:5])
    again = GradientNorms()
    again.load_state_dict(half.state_dict())
    note(again, gradients[5:])
    assert torch.equal(again.state_dict()["gradient_norms"], whole.state_dict()["gradient_norms"])
    assert whole.state_dict()["gradient_norms"].tolist() == [
        pytest.approx([float(row.abs().sum()), float(row.norm())]) for row in gradients
    ]


def test_a_run_refines_the_schedule_of_another(tmp_path):
    """From the command line's own parts: the rate of each step is the factor times the optimizer's."""
    earlier = run_of(tmp_path / "a", NORMS, "schedule=linear")
    earlier.trainer.fit(earlier.method, earlier.data)
    path = Checkpoint().path(earlier.trainer, "last")
    parts = run_of(tmp_path / "b", "schedule=refined", f"schedule.norms={path}", "trainer.max_epochs=4")
    parts.trainer.fit(parts.method, parts.data)
    schedule = parts.trainer.lr_scheduler_configs[0].scheduler
    assert len(recorded(path)) == 14
    assert schedule.factors == pytest.approx(refined(recorded(path)[:, 0], 28, 1, 0.1))
    assert schedule.last_epoch == 28
