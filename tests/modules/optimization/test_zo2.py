"""ZO2 against MeZO, to the bit, in every way that a training may go; its account of memory against sizes known."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.networks.cnn import CNN
from modules.networks.layered import Layered
from modules.networks.mlp import MLP
from modules.networks.transformer import Transformer
from modules.optimization.mezo import MeZO
from modules.optimization.zo2 import ZO2
from tests.modules.test_contract import planned, trained

NETS = {
    "transformer": lambda: Transformer((8,), (11,), width=12, depth=4, heads=2, dropout=0.2, bias=True),
    "mlp": lambda: MLP((6,), (3,), width=10, depth=4, time=True),
    "layered": lambda: Layered((6,), (3,), width=10, depth=3),
    "cnn": lambda: CNN((1, 4, 4), (3,), channels=(8, 16)),
}


def inputs_of(name: str):
    draw = torch.Generator().manual_seed(3)
    if name == "transformer":
        return (torch.randint(11, (4, 8), generator=draw),)
    if name == "cnn":
        return (torch.randn(4, 1, 4, 4, generator=draw),)
    x = torch.randn(4, 6, generator=draw)
    return (x, torch.rand(4, generator=draw)) if name == "mlp" else (x,)


def descended(name: str, kind, steps: int = 6, prepare=lambda net: None, after=lambda net: None, **arguments):
    """(network, optimizer, losses) after some steps at a falling rate, with the same draws at each evaluation."""
    torch.manual_seed(0)
    net = NETS[name]()
    prepare(net)
    optimizer = kind([p for p in net.parameters() if p.requires_grad], lr=0.05, weight_decay=0.1, **arguments)
    if kind is ZO2:
        optimizer.watch(net)
    inputs, losses = inputs_of(name), []
    for step in range(steps):

        def evaluate(step: int = step):
            torch.manual_seed(100 + step)
            output = net(*inputs)
            return F.cross_entropy(output.flatten(0, -2), torch.arange(output[..., 0].numel()) % 3)

        losses.append(float(optimizer.step(evaluate)))
        optimizer.param_groups[0]["lr"] *= 0.9
        after(net)
    return net, optimizer, losses


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("more", [{}, {"ahead": 0, "store": "disk"}, {"ahead": 9, "deferred": False}])
def test_has_the_weights_and_losses_of_mezo_to_the_bit(name, more):
    plain, _, expected = descended(name, MeZO)
    streamed, _, losses = descended(name, ZO2, **more)
    assert losses == expected
    assert equal(streamed, plain)


def test_weights_that_are_not_trained_stay():
    def freeze(net):
        net.token.requires_grad_(False)
        net.blocks[1].attention.requires_grad_(False)
        net.blocks[2].requires_grad_(False)

    start = NETS["transformer"]
    torch.manual_seed(0)
    begun = start()
    plain, _, _ = descended("transformer", MeZO, prepare=freeze)
    streamed, _, _ = descended("transformer", ZO2, prepare=freeze)
    assert equal(streamed, plain)
    assert equal(streamed.blocks[2], begun.blocks[2])
    assert not equal(streamed.blocks[0], begun.blocks[0])


def test_looking_at_weights_between_steps_changes_nothing():
    """Evaluations settle the update that waits; so does a checkpoint, and what it loads is heeded."""

    def look(net):
        with torch.no_grad():
            net.eval()
            net(*inputs_of("transformer"))
            net.blocks[0](torch.zeros(1, 8, 12))
            net.train()
        net.load_state_dict({name: value.clone() for name, value in net.state_dict().items()})

    plain, _, expected = descended("transformer", MeZO)
    streamed, _, losses = descended("transformer", ZO2, after=look)
    assert losses == expected
    assert equal(streamed, plain)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_the_account_is_the_sum_of_what_is_there(ahead):
    """Blocks are padded to 64 bytes a tensor: twice what stays, and ahead + 1 blocks."""
    net, optimizer, _ = descended("transformer", ZO2, steps=1, ahead=ahead)
    pad = lambda p: -(-p.numel() // 16) * 64  # noqa: E731
    block = sum(pad(p) for p in net.blocks[0].parameters())
    stays = sum(p.nbytes for name, p in net.named_parameters() if not name.startswith("blocks"))
    assert optimizer.param_groups[0]["peak"] == 2 * stays + (ahead + 1) * block


def test_while_a_block_is_evaluated_no_more_than_its_slots_are_in_use():
    where: list[int] = []

    def spy(net):
        homes = lambda: sum(  # noqa: E731
            p.data_ptr() == view.data_ptr()
            for stream in optimizers[0].streams
            for block in stream.blocks
            for p, view in zip(block.parameters, block.views(block.home), strict=True)
        )
        for block in net.blocks:
            block.register_forward_hook(lambda *_: where.append(homes()))

    optimizers = []

    class Spied(ZO2):
        def watch(self, method):
            super().watch(method)
            optimizers.append(self)
            spy(method)

    torch.manual_seed(0)
    net = NETS["transformer"]()
    optimizer = Spied(net.parameters())
    optimizer.watch(net)
    optimizer.step(lambda: net(*inputs_of("transformer")).square().mean())
    each = len(list(net.blocks[0].parameters()))
    assert where == [3 * each] * 8, "one of four blocks is used, twice each"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_on_the_way_is_rounding_at_each_step(precision):
    dtype = getattr(torch, precision)

    @torch.no_grad()
    def rounded(net):
        for parameter in net.blocks.parameters():
            parameter.copy_(parameter.to(dtype))

    plain, _, expected = descended("transformer", MeZO, prepare=rounded, after=rounded)
    streamed, _, losses = descended("transformer", ZO2, transfer=precision)
    assert losses == expected
    assert all(p.dtype == dtype for p in streamed.blocks.parameters())
    for name, value in streamed.state_dict().items():
        assert torch.equal(value.float(), plain.state_dict()[name]), name


@pytest.mark.parametrize(
    "more", [[], ["trainer.accumulate_grad_batches=2"], ["trainer.precision=bf16-mixed", "net.dropout=0.1"]]
)
def test_in_a_trainer_it_ends_where_mezo_ends(more, tmp_path):
    few = ["net.width=16", "net.depth=3", "net.heads=2", "datamodule.batch_size=4", "trainer.limit_train_batches=4"]
    states = []
    for name in ("mezo", "zo2"):
        run = planned("language/language_model", tmp_path, *few, *more, f"optimizer={name}", "optimizer.lr=0.01")
        parts = trained(run)
        states.append({key: value.detach().clone() for key, value in parts.method.named_parameters()})
        saved = torch.load(run.checkpoints / "last.ckpt", weights_only=True)
        assert all(torch.equal(saved["state_dict"][key], value) for key, value in states[-1].items())
        taken = 2 if "trainer.accumulate_grad_batches=2" in more else 4
        assert saved["optimizer_states"][0]["state"] == {0: {"step": taken}}
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


class Parted(nn.Module):
    """Uses a network's layers one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.net = NETS["layered"]()

    def forward(self, x):
        return self.net.last(self.net.embed(x))


class Looped(nn.Module):
    """Feeds a network with what it has given."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Layered((3,), (3,), width=4, depth=2)

    def forward(self, x):
        return self.net(self.net(x[:, :3]))


class Sloped(nn.Module):
    """The slope of a network in its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Layered((6,), (3,), width=4, depth=2)

    def forward(self, x):
        with torch.enable_grad():
            x = x.requires_grad_()
            return torch.autograd.grad(self.net(x).sum(), x)[0]


class Many(Sloped):
    """Several networks as one."""

    def forward(self, x):
        weights = {name: torch.stack([value, 2 * value]) for name, value in self.net.named_parameters()}
        return torch.func.vmap(lambda own: torch.func.functional_call(self.net, own, (x,)))(weights)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(6, 3), "nothing to stream"),
        (Sloped(), "differentiates its network"),
        (Many(), "several as one"),
        (Parted(), "as a whole"),
        (Looped(), "inputs depend on its weights"),
    ],
)
def test_what_cannot_be_streamed_is_said(module, message):
    def step():
        optimizer.watch(module)
        optimizer.step(lambda: module(torch.ones(2, 6)).square().mean())

    optimizer = ZO2(module.parameters())
    with pytest.raises(UserError, match=message):
        step()


def test_averages_of_weights_are_those_of_mezo(tmp_path):
    """They are taken after each step, and no update waits for them."""
    saved = []
    few = ["data=wine", "net=mlp", "net.width=8", "trainer.limit_train_batches=4"]
    for name in ("mezo", "zo2"):
        ema = "++callbacks.ema={_target_:callbacks.ema.EMA,decay:0.5}"
        run = planned("supervised/classifier", tmp_path, *few, ema, f"optimizer={name}", "optimizer.lr=0.05")
        trained(run)
        saved.append(torch.load(run.checkpoints / "last.ckpt", weights_only=True))
    for key, value in saved[0]["state_dict"].items():
        assert torch.equal(value, saved[1]["state_dict"][key]), key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"ahead": -1}, "ahead=-1"), ({"store": "tape"}, "store=tape"), ({"transfer": "int4"}, "transfer=int4")],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        ZO2([nn.Parameter(torch.zeros(2))], **arguments)
