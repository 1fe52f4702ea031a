"""Table 1 of the paper, its theorems, its examples by hand, and the margin against a support vector machine."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.svm import SVC

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.networks.linear import Linear
from modules.optimization.linear_separator import LinearSeparator, pushes, separating_margin

torch.manual_seed(0)
WORST = (torch.tensor([[0.5, -1.0]] + [[-0.5, -1.0]] * 999).double(), torch.tensor([1] + [0] * 999))
EXAMPLE = (torch.tensor([[1.0, -1.0], [-1.0, -4.0]]).double(), torch.tensor([1, 0]))


def method(shape, n, rule, **arguments):
    spec = DataSpec("pair", "vector", shape, target="class", classes=("a", "b"), sizes={"train": n})
    return LinearSeparator(spec, net=Linear(shape, (1,), bias=False), rule=rule, **arguments).double()


def descend(records, rule, rate, steps):
    """Plain SGD by autograd, as a trainer would do it -> the method, and its weights from 0 to the last."""
    x, y = records
    one = method(tuple(x.shape[1:]), len(x), rule, stop=False, optimizer={"lr": rate})
    optimizer = torch.optim.SGD(one.parameters(), rate)
    path = [torch.zeros(x.shape[1]).double()]
    while len(path) <= steps and one.apart < 0:
        loss = one.loss(Labelled(x, y))
        one.count(Labelled(x, y), loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        path.append(one.net.last.weight.detach().clone()[0])
    return one, torch.stack(path)


@pytest.fixture(autouse=True)
def untrained(monkeypatch):
    """A method without a trainer has nothing to stop."""
    monkeypatch.setattr(LinearSeparator, "trainer", type("Trainer", (), {"should_stop": False})(), raising=False)


def drawn(n=40, d=5):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return x, (x @ torch.arange(1.0, d + 1).double() > 0).long()


@pytest.mark.parametrize(
    ("rule", "rate", "steps"),
    [
        ("normalized_logistic", 100.0, 2),
        ("normalized_logistic", 10.0, 2),
        ("normalized_logistic", 1.0, 16),
        ("normalized_logistic", 0.1, 157),
        ("logistic", 100.0, 308),
    ],
)
def test_the_paper_s_table_1(rule, rate, steps):
    """Its "worst-case" rows; it does not print the number of records, which is 1000."""
    one, _ = descend(WORST, rule, rate, 400)
    assert one.separation(*WORST)["steps"] == steps


def test_the_loss_is_the_logistic_one_and_its_gradient_the_rule_s():
    x, y = drawn()
    for rule in ("logistic", "normalized_logistic", "perceptron", "normalized_perceptron"):
        one = method((5,), 40, rule)
        torch.nn.init.normal_(one.net.last.weight)
        theta = one.net.last.weight.detach()[0]
        sign = 2 * y - 1
        loss = one.loss(Labelled(x, y))
        loss.backward()
        assert float(loss.detach()) == pytest.approx(float(torch.log1p((-sign * (x @ theta)).exp()).mean()), rel=1e-12)
        weight = 1 / (1 + (sign * (x @ theta)).exp())
        wrong = (sign * (x @ theta) <= 0).double()
        expected = {
            "logistic": (weight * sign) @ x / 40,
            "normalized_logistic": (weight * sign) @ x / weight.sum(),
            "perceptron": (wrong * sign) @ x / 40,
            "normalized_perceptron": (wrong * sign) @ x / wrong.sum(),
        }[rule]
        torch.testing.assert_close(one.net.last.weight.grad[0], -expected, rtol=1e-12, atol=1e-14)


def test_theorem_4_1_by_hand():
    """theta_1 = gamma (2/4, 3/4), whose loss is that of one wrong record; theta_2 = gamma (1, 1/4) solves it."""
    rate = 400.0
    one, path = descend(EXAMPLE, "logistic", rate, 3)
    torch.testing.assert_close(path[1] / rate, torch.tensor([0.5, 0.75]).double())
    torch.testing.assert_close(path[2] / rate, torch.tensor([1.0, 0.25]).double(), rtol=0, atol=1e-12)
    figures = one.separation(*EXAMPLE)
    assert (figures["separated"], figures["steps"]) == (1.0, 2.0)
    assert figures["peak_loss"] == pytest.approx(0.5 * rate / 4, rel=1e-6)


def test_gradient_descent_over_its_rate_tends_to_the_perceptron():
    """Theorem 3.2: the distance vanishes as the rate grows, and with normalization likewise."""
    records = drawn()
    for rule, limit in (("logistic", "perceptron"), ("normalized_logistic", "normalized_perceptron")):
        far = []
        for rate in (1e2, 1e4, 1e7):
            one, path = descend(records, rule, rate, 5)
            _, of_perceptron = descend(records, limit, 1.0, len(path) - 1)
            far.append(float((path[-1] / rate - of_perceptron[-1]).norm()))
            assert one.separation(*records)["perceptron_distance"] == pytest.approx(
                far[-1] / float(of_perceptron[-1].norm()), rel=1e-6, abs=1e-14
            )
        assert max(far[1:]) < 1e-12
        assert rule != "logistic" or far[0] > 1e-3


def test_the_first_step_of_the_batch_perceptron_is_half():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, -1.0]]).double()
    one = method((2,), 3, "perceptron")
    torch.testing.assert_close(one.perceptron(z, 1), z.mean(0) / 2)
    # theta_1 = (1/3, 1/6): all right after it
    torch.testing.assert_close(one.perceptron(z, 9), z.mean(0) / 2)


@pytest.mark.parametrize("rule", ["perceptron", "normalized_perceptron", "normalized_logistic"])
def test_no_run_takes_more_steps_than_its_theorem_allows(rule):
    records = drawn(200, 4)
    figures = descend(records, rule, 3.0, 3000)[0].separation(*records)
    assert figures["separated"] == 1
    x, y = records
    machine = SVC(kernel="linear", C=1e10, tol=1e-10)
    pairs = torch.cat([x, -x]), torch.cat([y, 1 - y])  # symmetric, so that its intercept is 0
    width = 1 / math.sqrt((machine.fit(*pairs).coef_ ** 2).sum())
    assert figures["margin"] == pytest.approx(width, rel=1e-4)
    radius = float(x.norm(dim=1).max())
    n = {"perceptron": 200}.get(rule, 1)
    more = 2 * math.log(399) / 3.0 if rule == "normalized_logistic" else 0
    bound = (n * radius**2 + more) / width**2
    assert figures["bound_ratio"] == pytest.approx(figures["steps"] / bound, rel=1e-3)
    assert figures["bound_ratio"] <= 1


def test_records_that_no_weights_separate_have_no_margin():
    assert separating_margin(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == 0
    assert separating_margin(torch.zeros(2, 2)) == 0
    assert separating_margin(torch.tensor([[2.0, 0.0], [0.0, 2.0]])) == pytest.approx(math.sqrt(2))


def test_far_from_the_boundary_normalized_pushes_stay_finite():
    for sign in (1, -1):
        push = pushes(sign * torch.tensor([300.0, 400.0]), "normalized_logistic")
        torch.testing.assert_close(push.sum(), torch.tensor(2.0))
    assert pushes(torch.ones(3), "normalized_perceptron").tolist() == [0, 0, 0]


def test_a_pass_without_a_mistake_ends_training_on_smaller_batches():
    one = method((1,), 4, "perceptron")
    one.net.last.weight.data.fill_(1.0)
    right, wrong = torch.tensor([[1.0], [2.0]]).double(), torch.tensor([[1.0], [-2.0]]).double()
    y, nought = torch.tensor([1, 1]), torch.tensor(0.0)
    for x in (right, wrong, right, right):
        assert one.apart < 0
        one.count(Labelled(x, y), nought)
    assert int(one.apart) == 3
    assert int(one.made) == 4


def test_bad_input_is_refused():
    with pytest.raises(UserError, match=r"model\.rule=logistics"):
        method((2,), 3, "logistics")
    with pytest.raises(UserError, match="two classes"):
        LinearSeparator(DataSpec("three", "vector", (2,), target="class", classes=("a", "b", "c")))
