"""ZO2: MeZO for models that are larger than the device's memory, block by block."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from compendium.errors import UserError
from modules.networks.stages import staged
from modules.optimization.asking import differentiated, restore, states
from modules.optimization.mezo import MeZO, move, taken

STORES = ("memory", "disk")
PRECISIONS = {None: None, "bfloat16": torch.bfloat16, "float16": torch.float16}
IN_PARTS = "this method does not call its network as a whole: it cannot be streamed."
ALIGNED = 64
"""Bytes: where torch's own tensors begin, so that the same kernels give the same bits."""


class ZO2(MeZO):
    """MeZO, to the same bits, with few weights on the device at once. The blocks of the network, its stages
    (`modules.networks.stages`), lie in slow memory; at each step t every block comes to the device once:

        upload a block                          those after it are on their way
        make up for step t - 1                  the way back from theta - eps z, and -lr g z, whose g was not known then
        write it back
        theta + eps z                           the block's output for the input of the evaluation above
        theta - eps z                           the same for the one below

    and what the network gives for both evaluations is there when the second is asked for. What belongs to no block
    (embeddings, the last layer) stays on the device, twice: as it is above and as it is below. Whoever looks at the
    weights through a checkpoint, an evaluation or at the end of a training finds them after all steps, see `settle`.

    On a GPU the slow memory is the host's, pinned, and uploads have a stream of their own. On a CPU the device is a
    working memory of as many blocks; so are the accounts, whose largest sum, `peak`, stands in the parameter groups.

    Wang et al. 2025, "ZO2: Scalable Zeroth-Order Fine-Tuning for Extremely Large Language Models with Limited GPU
    Memory", as in the authors' code: dual forward passes per block, a deferred update, low precision on the way.

    Deviations: those of MeZO, by which there is no state of generators to manage; (3) a block is written back before it
    is evaluated and not after, so that several batches of a step may visit it; only uploads overlap with computation.
    (4) Lightning has the whole model on the device for a moment before training. (5) A weight that an embedding and the
    last layer share is evaluated as shared; the authors' nanoGPT has two.

    Args:
        params: as in any torch optimizer.
        lr: see `MeZO`, like the next three.
        eps: how far to go along z.
        weight_decay: decoupled.
        seed: of the directions.
        ahead: blocks on their way while one is evaluated; the device holds one more. 1 as in the authors' code.
        store: slow memory: `memory`, or `disk`, a file that is mapped and that nobody else sees.
        transfer: precision of blocks in slow memory and on their way: none, `bfloat16` or `float16`; with one, weights
            are rounded at each step. None as in the authors' code.
        deferred: whether an update waits for the next visit; False visits each block twice, for those who look at
            weights between steps. Where weights are averaged (callbacks.ema) none waits.

    Raises:
        UserError: a value out of range, a network that is not in blocks, or a method that does not call it as a whole.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        seed: int = 0,
        ahead: int = 1,
        store: str = "memory",
        transfer: str | None = None,
        deferred: bool = True,
    ) -> None:
        if ahead < 0:
            raise UserError(f"optimizer.ahead={ahead}: a number of blocks, at least 0.")
        if store not in STORES:
            raise UserError(f"optimizer.store={store} is unknown.", f"one of {', '.join(STORES)}")
        if transfer not in PRECISIONS:
            raise UserError(f"optimizer.transfer={transfer} is unknown.", "bfloat16, float16 or null")
        super().__init__(params, lr, eps, weight_decay, seed)
        for group in self.param_groups:
            group["peak"] = 0
        self.ahead, self.store, self.transfer = ahead, store, PRECISIONS[transfer]
        self.deferred = self.waits = deferred
        self.streams: list[Stream] = []
        self.passed: tuple[int, dict[int, dict[str, float]]] | None = None
        self.side = 0

    def watch(self, method: nn.Module) -> None:
        """Take the blocks of a method's networks to slow memory, and stand in for the networks' forward passes.

        Raises:
            UserError: no network in blocks, or weights that are in two of them.
        """
        places = {id(parameter): place for place, parameter, _ in self.placed()}
        self.streams = []
        for net in staged(method):
            blocks = [
                [(places.get(id(p)), p) for p in nn.ModuleList(modules).parameters()]
                for modules in net.stages()  # type: ignore[operator]
            ]
            if any(place is not None for block in blocks for place, _ in block):
                self.streams.append(Stream(net, blocks, self))
        callbacks = getattr(getattr(method, "_trainer", None), "callbacks", ())
        self.waits = self.deferred and not any(isinstance(callback, WeightAveraging) for callback in callbacks)
        kept = [id(p) for stream in self.streams for block in stream.blocks for p in block.parameters]
        if not kept:
            raise UserError(
                f"{type(method).__name__} has no network in blocks that are trained: there is nothing to stream.",
                "net=transformer, mlp, layered or cnn, or optimizer=mezo, which does the same at once",
            )
        outside = [id(p) for p in method.parameters() if id(p) not in kept]
        if len(set(kept)) < len(kept):
            raise UserError("a weight belongs to two blocks: they cannot be streamed.", "optimizer=mezo")
        self.staying = {place for place, p, _ in self.placed() if id(p) not in kept}
        self.fixed = sum(p.nbytes for p in method.parameters() if id(p) in outside)
        device = next(method.parameters()).device
        self.arena = Arena(device, self.ahead + 1, [block for stream in self.streams for block in stream.blocks])
        for stream in self.streams:
            stream.attach()
            for block in stream.blocks:
                block.store(self.store, self.transfer, pinned=device.type == "cuda")
        method.register_state_dict_pre_hook(lambda *_: self.settle())

    def descend(self, evaluate: Callable[[], Tensor]) -> Tensor:
        if not self.streams:
            raise UserError("ZO2 streams a method's networks.", "optimizer.watch(method)")
        step, eps = self.steps, self.eps
        # Asked for anew: a state that is loaded brings other groups, and what is trained may change.
        self.resident = [(place, parameter) for place, parameter, _ in self.placed() if place in self.staying]
        self.above, self.below = [], []
        for place, parameter in self.resident:
            z = self.direction(parameter, step, place)
            parameter.add_(z, alpha=eps)
            self.above.append(parameter.data)
            self.below.append(torch.add(parameter.data, z, alpha=-2 * eps))
        try:
            with self.evaluating(1):
                above = evaluate()
            with self.evaluating(-1):
                below = evaluate()
        finally:
            self.show(1)
            self.side = 0
        slope = self.slope(above, below)
        moves = {place: taken(group, slope) for place, _, group in self.placed()}
        for (place, parameter), low in zip(self.resident, self.below, strict=True):
            z = self.direction(parameter, step, place)
            parameter.copy_(low.add_(z, alpha=eps))
            move(parameter, z, **moves[place])
        low_bytes = sum(low.nbytes for low in self.below)
        self.param_groups[0]["peak"] = max(self.param_groups[0]["peak"], self.fixed + low_bytes + self.arena.most)
        self.above, self.below = [], []
        self.passed = step, moves
        for stream in self.streams:
            stream.behind()
        self.count()
        if not self.waits:
            self.settle()
        return above

    @contextmanager
    def evaluating(self, side: int) -> Iterator[None]:
        """An evaluation above (1) or below (-1)."""
        self.side = side
        for stream in self.streams:
            stream.calls = 0
        self.show(side)
        yield
        if not all(stream.calls for stream in self.streams):
            raise UserError(IN_PARTS, "optimizer=mezo")

    def show(self, side: int) -> None:
        """Let what stays on the device have its weights above (1) or below (-1)."""
        for (_, parameter), value in zip(self.resident, self.above if side > 0 else self.below, strict=True):
            parameter.data = value
        torch.clear_autocast_cache()

    def perturb(self, block: Block, far: float) -> None:
        """theta + far z of a block that is on the device."""
        for place, parameter in block.trained():
            if parameter.requires_grad:
                parameter.add_(self.direction(parameter, self.steps, place), alpha=far)
        torch.clear_autocast_cache()

    def make_up(self, block: Block) -> None:
        """Bring a block that is on the device up to date with the last step."""
        assert self.passed is not None
        step, moves = self.passed
        for place, parameter in block.trained():
            if place not in moves:  # it was not trained then
                continue
            z = self.direction(parameter, step, place)
            parameter.add_(z, alpha=self.eps).add_(z, alpha=-2 * self.eps).add_(z, alpha=self.eps)
            move(parameter, z, **moves[place])
        block.write_back()

    def visits(self, blocks: Sequence[Block]) -> Iterator[Block]:
        """Each block while it is on the device and up to date."""
        rest, there = iter(blocks), deque[Block]()
        try:
            for _ in blocks:
                for block in islice(rest, self.ahead + 1 - len(there)):
                    self.arena.upload(block)
                    there.append(block)
                self.arena.wait(there[0])
                if there[0].late:
                    self.make_up(there[0])
                yield there[0]
                self.arena.release(there.popleft())
        finally:
            for block in there:  # after an error
                self.arena.release(block)

    @torch.no_grad()
    def settle(self) -> None:
        """Bring all blocks up to date."""
        for stream in self.streams:
            for _ in self.visits([block for block in stream.blocks if block.late]):
                pass

    def state_dict(self) -> dict[str, Any]:
        """As torch's; there is no update that waits."""
        self.settle()
        return super().state_dict()


class Block:
    """The weights of one stage, in one flat piece of slow memory, or on the device.

    Args:
        members: (place in the optimizer or None, parameter) of each.
    """

    def __init__(self, members: Sequence[tuple[int | None, nn.Parameter]]) -> None:
        self.places = [place for place, _ in members]
        self.parameters = [parameter for _, parameter in members]
        dtypes = {parameter.dtype for parameter in self.parameters}
        if len(dtypes) > 1:
            raise UserError("a block with weights of several precisions cannot be streamed.", "optimizer=mezo")
        self.dtype = dtypes.pop() if dtypes else torch.float32
        self.sizes = [parameter.numel() for parameter in self.parameters]
        per = ALIGNED // self.dtype.itemsize
        self.starts = [0]
        for size in self.sizes:
            self.starts.append(self.starts[-1] + -(-size // per) * per)
        self.late = False
        self.slot: Tensor | None = None
        self.written: Any = None

    def trained(self) -> Iterator[tuple[int, nn.Parameter]]:
        """(place, parameter) of those that the optimizer moves."""
        return ((place, p) for place, p in zip(self.places, self.parameters, strict=True) if place is not None)

    def store(self, where: str, precision: torch.dtype | None, pinned: bool) -> None:
        """Move the weights to slow memory."""
        dtype, total = precision or self.dtype, self.starts[-1]
        if where == "disk":
            with tempfile.NamedTemporaryFile() as file:  # the mapping outlives its name
                file.truncate(max(total, 1) * dtype.itemsize)
                self.home = torch.from_file(file.name, shared=True, size=max(total, 1), dtype=dtype)[:total]
        else:
            self.home = torch.zeros(total, dtype=dtype, pin_memory=pinned)
        self.gather()

    def views(self, flat: Tensor) -> list[Tensor]:
        """The parts of a flat tensor that are the weights."""
        cut = zip(self.starts, self.sizes, self.parameters, strict=False)
        return [flat[start : start + size].view(parameter.shape) for start, size, parameter in cut]

    def gather(self) -> None:
        """Let slow memory have the weights that somebody else has put there: a checkpoint, or a move of the model."""
        for parameter, view in zip(self.parameters, self.views(self.home), strict=True):
            if parameter.data_ptr() != view.data_ptr():
                view.copy_(parameter.data)
                parameter.data = view

    def show(self, flat: Tensor) -> None:
        """Let the weights be those of a flat tensor."""
        for parameter, view in zip(self.parameters, self.views(flat), strict=True):
            parameter.data = view

    def write_back(self) -> None:
        """What is on the device -> slow memory."""
        assert self.slot is not None
        self.home.copy_(self.slot, non_blocking=True)
        if self.slot.is_cuda:
            self.written = torch.cuda.current_stream().record_event()
        if self.home.dtype != self.dtype:
            self.slot.copy_(self.home)  # rounded: what the next upload would bring
        self.late = False


class Arena:
    """The device's room for blocks, and an account of it.

    Args:
        device: where.
        slots: how many blocks.
        blocks: what is to fit.

    Attributes:
        most: bytes, all slots together.
    """

    def __init__(self, device: torch.device, slots: int, blocks: Sequence[Block]) -> None:
        self.device = device
        large = max((block.starts[-1] * block.dtype.itemsize for block in blocks), default=0)
        self.free = [torch.empty(large, dtype=torch.uint8, device=device) for _ in range(min(slots, len(blocks)))]
        self.most = sum(slot.nbytes for slot in self.free)
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.left: dict[int, Any] = {}
        self.raw: dict[Block, Tensor] = {}
        self.arrived: dict[Block, Any] = {}

    def upload(self, block: Block) -> None:
        """Begin to bring a block."""
        raw = self.free.pop()
        block.gather()
        slot = raw.view(block.dtype)[: block.starts[-1]]
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            for event in (self.left.pop(raw.data_ptr(), None), block.written):
                if event is not None:
                    self.stream.wait_event(event)  # type: ignore[union-attr]
            slot.copy_(block.home, non_blocking=True)
            if self.stream:
                self.arrived[block] = self.stream.record_event()
        self.raw[block], block.slot = raw, slot

    def wait(self, block: Block) -> None:
        """Let a block be used from here on."""
        if self.stream:
            torch.cuda.current_stream().wait_event(self.arrived.pop(block))
        block.show(block.slot)  # type: ignore[arg-type]

    def release(self, block: Block) -> None:
        """A block is in slow memory alone again."""
        raw = self.raw.pop(block)
        if self.stream:
            self.left[raw.data_ptr()] = torch.cuda.current_stream().record_event()
        block.show(block.home)
        block.slot = None
        self.free.append(raw)


class Stream:
    """A network whose blocks come and go.

    Args:
        net: a `Staged` network.
        blocks: (place or None, parameter) of each weight of each stage.
        optimizer: whose evaluations it serves.
    """

    def __init__(self, net: Any, blocks: Sequence[Sequence[tuple[int | None, nn.Parameter]]], optimizer: ZO2) -> None:
        self.net, self.optimizer = net, optimizer
        self.blocks = [Block(members) for members in blocks]
        self.calls = 0
        self.inside = False
        self.pending: list[tuple[Any, Tensor, list[Tensor]]] = []

    def attach(self) -> None:
        """Stand in for the network's forward pass, and bring blocks to whoever uses one by itself."""
        self.forward, self.net.forward = self.net.forward, self.pass_through
        for modules in self.net.stages():
            for module in modules:
                module.register_forward_pre_hook(self.bring)
                module.register_forward_hook(self.take, always_call=True)

    def behind(self) -> None:
        """A step was taken that no block knows of yet."""
        self.pending.clear()
        for block in self.blocks:
            block.late = True

    def pass_through(self, *inputs: Any, **named: Any) -> Tensor:
        """The network's output, in the evaluation that is under way."""
        self.calls += 1
        side = self.optimizer.side
        if not side:
            return self.forward(*inputs, **named)
        if differentiated():  # what is saved for the way back would be gone by then
            raise UserError(
                "this loss differentiates its network, or calls several as one: it cannot be streamed.",
                "optimizer=mezo",
            )
        if side > 0:
            return self.both(inputs, named)
        for place, (seen, output, drawn) in enumerate(self.pending):  # batches of a step come in any order
            if same(seen, (inputs, named)):
                del self.pending[place]
                restore(drawn)
                return output
        raise UserError("the network's inputs depend on its weights: they cannot be streamed.", "optimizer=mezo")

    def both(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
        """The network's output above; the one below is kept."""
        optimizer, net, eps = self.optimizer, self.net, self.optimizer.eps
        self.inside = True
        try:
            high, low = self.twice(lambda: net.enter(*inputs, **named), lambda: net.enter(*inputs, **named))
            for stage, block in enumerate(optimizer.visits(self.blocks)):
                drawn = states()
                optimizer.perturb(block, eps)
                high = net.through(stage, high)
                restore(drawn)
                optimizer.perturb(block, -2 * eps)
                low = net.through(stage, low)
            high, low = self.twice(lambda: net.leave(high), lambda: net.leave(low))
        finally:
            self.inside = False
        self.pending.append(((inputs, named), low, states()))
        return high

    def twice(self, above: Callable[[], Any], below: Callable[[], Any]) -> tuple[Any, Any]:
        """What stays on the device, with its weights above and below and the same random draws."""
        drawn = states()
        high = above()
        restore(drawn)
        self.optimizer.show(-1)
        low = below()
        self.optimizer.show(1)
        return high, low

    def bring(self, module: nn.Module, inputs: Any) -> None:
        """Before a module of a block that is used by itself."""
        if self.inside:
            return
        if self.optimizer.side:
            raise UserError(IN_PARTS, "optimizer=mezo")
        self.optimizer.settle()
        if self.optimizer.arena.stream or self.optimizer.transfer:
            self.homes = [(parameter, parameter.data) for parameter in module.parameters()]
            dtype = self.blocks[0].dtype
            for parameter, home in self.homes:
                parameter.data = home.to(self.optimizer.arena.device, dtype)

    def take(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """After it."""
        if not self.inside and (self.optimizer.arena.stream or self.optimizer.transfer):
            for parameter, home in self.homes:
                parameter.data = home


def same(one: Any, other: Any) -> bool:
    """Whether nested inputs are the same to the bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
