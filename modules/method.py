"""Method: the base of every method. `Method` descends a loss, `AlternatingMethod` several in turns, and `SolvedMethod`
accumulates and solves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.distributed
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from compendium.collectives import distributed, rows_of_all, sum_of_all
from compendium.config import instantiate, locate
from compendium.errors import UserError
from compendium.restore import read_checkpoint
from datamodules.datamodule import DataModule
from datamodules.fit import check_fit, check_net, check_shapes
from datamodules.spec import DataSpec
from modules.optimization.asking import Evaluations, StepLoss, asked

Part = nn.Module | Mapping[str, Any]


class Method(LightningModule):
    """A method that descends: `loss(batch)` is the one hook that most override.

    The base builds networks from config, configures optimizer and schedule, keeps every hyperparameter as plain
    values in the checkpoint (so that `load_from_checkpoint(path)` needs nothing else), and leaves logging, evaluation,
    averaging of weights and checkpoints to callbacks.

    Draw random numbers from torch's global state: it is re-seeded before each step, from the run's seed and the step.

    Args:
        spec: what is known of the data.
        net: config of the network (`_target_` and its arguments, or one such config per kind of data: `image`,
            `vector`, `text`), or a module. A module is not kept in checkpoints: `load_from_checkpoint` needs it again.
        optimizer: config of a `torch.optim.Optimizer` without `params`.
        schedule: config of a learning rate schedule with `optimizer` and `steps` still open, see
            `modules.optimization.schedules`; None keeps the rate constant.
    """

    batch_type: ClassVar[type]
    kinds: ClassVar[tuple[str, ...]] = ("image", "vector", "text")
    """What records it can learn from."""
    targets: ClassVar[tuple[str | None, ...]] = (None, "class", "real", "mask", "points")
    """What targets, None for no target."""
    net_kind: ClassVar[str | None] = None
    """What the network reads, where that is another kind than the records: `text`, if pictures become tokens."""
    otherwise: ClassVar[str] = ""
    """A way out for whoever has other data, such as the method that does take it."""
    papers: ClassVar[tuple[str, ...]] = ()
    """Keys of docs/papers.bib that the method stands on; each run writes them to citations.bib."""

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        *,
        net: Part | None = None,
        optimizer: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.spec = DataSpec.of(spec)
        self.check(self.spec)
        self.save_hyperparameters(ignore=["net"] if isinstance(net, nn.Module) else [])
        self.hparams["spec"] = self.spec.to_dict()
        self._net = net
        self._optimizer = optimizer
        self._schedule = schedule
        self.terms: dict[str, Tensor] = {}
        self.asking: StepLoss | Evaluations | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the running hook some forty times a step, and nn.Module looks at each as if it were a weight.
        if name == "_current_fx_name" or name == "terms":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    # What a method overrides

    @classmethod
    def check(cls, spec: DataSpec) -> None:
        """Refuse data that the method cannot learn from, beyond what its batch type already says.

        Raises:
            UserError: what the method needs, and which data would do.
        """
        check_fit(spec, cls.__name__, cls.kinds, cls.targets, cls.otherwise)

    def loss(self, batch: Any) -> Tensor | dict[str, Tensor]:
        """A batch of `batch_type` -> a scalar, or named scalars that are added up and logged one by one."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    # What a method uses

    def build(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], **arguments: Any) -> nn.Module:
        """The network that the config asks for, from `in_shape` to `out_shape` (both without the batch dimension).

        A network that begins with files says in `settled` what its config changes to, so that it can be built again
        without them: checkpoints keep that config.
        """
        net: Any = self._net
        kind = self.net_kind or self.spec.kind
        if isinstance(net, nn.Module):
            return net
        if net is None:
            raise UserError(f"{type(self).__name__} needs a network.", "choose one with net=...")
        if "_target_" not in net:
            if kind not in net:
                raise UserError(
                    f"this net has no network for {kind} data, only for {', '.join(net)}.",
                    "choose another with net=...",
                )
            net = net[kind]
        check_net(str(net["_target_"]), kind)
        check_shapes(locate(str(net["_target_"]), "net"), in_shape=tuple(in_shape), out_shape=tuple(out_shape))
        built = instantiate(net, where="net", in_shape=tuple(in_shape), out_shape=tuple(out_shape), **arguments)
        if hasattr(built, "settled"):  # a checkpoint opens without the files that the network began with
            own = dict(net) | built.settled
            self.hparams["net"] = own if "_target_" in self._net else {**self._net, kind: own}  # type: ignore[operator,dict-item]
        return built

    # What Lightning calls

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if isinstance(self.asking, Evaluations):
            value = self.asking.note(batch)
            self.asking.terms = self.terms
            return value
        if self.asking is not None:
            return self.asking.note(self.total_loss(batch))
        return self.total_loss(batch)

    def total_loss(self, batch: Any) -> Tensor:
        """The sum of the loss's terms, which are kept for the log."""
        value = self.loss(batch)
        if isinstance(value, dict):
            self.terms = {name: term.detach() for name, term in value.items()}
            value = total(value)
            self.terms["loss"] = value.detach()
        else:
            self.terms = {"loss": value.detach()}
        return value

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluation callbacks do the work."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluation callbacks do the work."""

    def predict_step(self, batch: Any, batch_idx: int) -> int:
        """The callback `Predictions` does the work; the number of records keeps Lightning from warning of nothing."""
        return len(batch[0])

    def configure_optimizers(self) -> Any:
        return self.descent(self.parameters())

    def descent(self, parameters: Iterable[nn.Parameter], **changes: Any) -> Any:
        """The configured optimizer of those parameters that are trained, and its schedule, as Lightning takes them.

        A network with an attribute `rate_scale` learns at so many times the rate.

        Args:
            parameters: what to optimize.
            changes: arguments of the optimizer that win over the config's.
        """
        if self._optimizer is None:
            raise UserError(f"{type(self).__name__} needs an optimizer.", "choose one with optimizer=...")
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        groups = self.rated(trained)
        given = trained if set(groups) <= {1.0} else [{"params": group} for group in groups.values()]
        optimizer = instantiate(self._optimizer, given, where="optimizer", **changes)
        if given is not trained:
            for scale, group in zip(groups, optimizer.param_groups, strict=True):
                group["lr"] *= scale
        self.answer(optimizer)
        if self._schedule is None or "_target_" not in self._schedule:
            return optimizer
        schedule = instantiate(self._schedule, where="schedule", optimizer=optimizer, steps=self.schedule_steps())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def schedule_steps(self) -> int:
        """How many optimizer steps a schedule goes over: all of the run's, unless a method begins anew in between."""
        return int(self.trainer.estimated_stepping_batches)

    def rated(self, parameters: Iterable[nn.Parameter]) -> dict[float, list[nn.Parameter]]:
        """Parameters by the factor on their rate: the `rate_scale` of the innermost module that has one, or 1."""
        scales: dict[int, float] = {}
        for module in self.modules():
            if hasattr(module, "rate_scale"):
                scales |= {id(parameter): float(module.rate_scale) for parameter in module.parameters()}  # type: ignore[arg-type]
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in parameters:
            groups.setdefault(scales.get(id(parameter), 1.0), []).append(parameter)
        return groups

    def answer(self, optimizer: Any) -> None:
        """Give an optimizer what it asks for beyond gradients, see `modules.optimization.asking`.

        Raises:
            UserError: a method or a trainer that cannot give it.
        """
        if hasattr(optimizer, "watch"):
            optimizer.watch(self)
        asks, name = asked(optimizer), type(optimizer).__name__
        if not self.automatic_optimization and asks != "gradients":
            what = "a closure" if asks == "closure" else asks
            raise UserError(
                f"{name} asks for {what}, and {type(self).__name__} steps by itself.",
                "choose another with optimizer=...",
            )
        if asks == "gradients":
            self.asking = None
            return
        context = self.trainer.precision_plugin.train_step_context
        self.asking = StepLoss() if asks == "loss" else Evaluations(self.total_loss, context)
        if self.trainer.precision == "16-mixed":
            raise UserError(f"{name} needs the loss as it is, not scaled for float16.", "trainer.precision=bf16-mixed")
        if asks == "evaluations":
            if self.trainer.gradient_clip_val:
                raise UserError(f"{name} has no gradient to clip.", "leave out trainer.gradient_clip_val")
            optimizer.evaluations = self.asking
        wrapper = self.trainer.strategy.model
        if isinstance(self.asking, Evaluations) and isinstance(wrapper, DistributedDataParallel):
            wrapper.require_backward_grad_sync = False  # no backward pass will come for its reducer to wait for

    def _on_before_batch_transfer(self, batch: Any, dataloader_idx: int = 0) -> Any:
        # Our DataModules yield batches that are where they belong; Lightning would look up three hooks per step for it.
        return batch if self._at_home(batch) else super()._on_before_batch_transfer(batch, dataloader_idx)

    def _apply_batch_transfer_handler(self, batch: Any, device: Any = None, dataloader_idx: int = 0) -> Any:
        return batch if self._at_home(batch) else super()._apply_batch_transfer_handler(batch, device, dataloader_idx)

    def _at_home(self, batch: Any) -> bool:
        return isinstance(getattr(self.trainer, "datamodule", None), DataModule) and batch[0].device == self._device

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        if isinstance(self.asking, StepLoss):
            optimizer_closure = self.asking.closure(optimizer_closure)
        if isinstance(self.asking, Evaluations) and not hasattr(optimizer, "evaluations"):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            optimizer_closure = self.asking.gradients(optimizer_closure, parameters)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if isinstance(self.asking, Evaluations):
            self.asking.clear()
            made = {name: torch.tensor(count) for name, count in getattr(optimizer, "effort", {}).items()}
            self.terms = self.asking.terms | made
        # Lightning would drop the gradients after the next forward pass, which then finds its memory taken.
        self.optimizer_zero_grad(epoch, batch_idx, optimizer)

    def on_train_end(self) -> None:
        for optimizer in self.trainer.optimizers:
            if hasattr(optimizer, "settle"):
                optimizer.settle()

    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        if not isinstance(self.asking, Evaluations):
            super().backward(loss, *arguments, **options)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def count_step(self) -> None:
        """Count one step of a method that steps by itself: Lightning counts the calls of its optimizers' wrappers."""
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["method"] = f"{type(self).__module__}.{type(self).__qualname__}"
        if "optimizer_states" not in checkpoint:  # weights alone: there is no training to continue
            checkpoint.pop("loops", None)

    @classmethod
    def load_from_checkpoint(cls, path: str | Path, map_location: Any = "cpu", **changes: Any) -> Self:  # type: ignore[override]
        """The method that a checkpoint holds, in evaluation mode; plain Python, no Hydra.

        Args:
            path: a `.ckpt` file. Called on `Method`, it gives whichever method the file holds.
            map_location: as in `torch.load`.
            changes: arguments of the constructor that win over the stored ones.

        Raises:
            UserError: no such file, truncated or corrupt, another model's, or weights that do not fit.
        """
        checkpoint = read_checkpoint(path, map_location)
        name = checkpoint.get("method")
        if name is None:
            raise UserError(f"{path} is no checkpoint of this project: it does not say which method it holds.")
        kind = locate(name, "checkpoint")
        if not issubclass(kind, cls):
            raise UserError(
                f"{path} holds a {kind.__name__}, not a {cls.__name__}.",
                f"load it with {kind.__name__} or with Method.",
            )
        method = kind(**{**checkpoint["hyper_parameters"], **changes})
        method.restore(checkpoint["state_dict"], path)
        return method.eval()

    def restore(self, state: Mapping[str, Tensor], path: str | Path) -> None:
        """Load the weights of a checkpoint.

        Raises:
            UserError: weights that are missing, unexpected, or of another shape.
        """
        self.fits(state, path)
        self.load_state_dict(state)

    def fits(self, state: Mapping[str, Tensor], path: str | Path) -> None:
        """Say in one line which weights of a checkpoint do not fit.

        Raises:
            UserError: weights that are missing, unexpected, or of another shape.
        """
        own = self.state_dict()
        wrong = [f"missing {name}" for name in own if name not in state]
        wrong += [f"unexpected {name}" for name in state if name not in own]
        wrong += [
            f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
            for name in own
            if name in state and own[name].shape != state[name].shape
        ]
        if wrong:
            raise UserError(
                f"{path} does not fit this model: {'; '.join(wrong[:3])}"
                + (f" and {len(wrong) - 3} more." if len(wrong) > 3 else "."),
                "Give the checkpoint of a run with the same model, net and data.",
            )


def method_of(
    path: str | Path, kind: type, where: str, lack: str, map_location: Any = "cpu", *, vocabulary: int | None = None
) -> Any:
    """The method that a checkpoint holds, if it is of a kind.

    Args:
        path: of the checkpoint.
        kind: a method, or a capability.
        where: who named the path, for the message: `model.model`.
        lack: what another method does not do, for the message: `which scores no answers`.
        map_location: as in `torch.load`.
        vocabulary: how many tokens it has to know; None: any number.

    Raises:
        UserError: it is of another kind or vocabulary, see `Method.load_from_checkpoint`.
    """
    found = Method.load_from_checkpoint(path, map_location)
    if not isinstance(found, kind):
        raise UserError(f"{where}={path} is a {type(found).__name__}, {lack}.")
    if vocabulary is not None and found.spec.vocabulary != vocabulary:
        raise UserError(
            f"{where}={path} has other tokens: it knows {found.spec.vocabulary} tokens, these records have "
            f"{vocabulary}.",
            "choose data= and datamodule.tokens= as it was trained",
        )
    return found


def total(loss: Tensor | Mapping[str, Tensor]) -> Tensor:
    """A loss, or its terms -> a scalar."""
    return torch.stack(tuple(loss.values())).sum() if isinstance(loss, Mapping) else loss


class AlternatingMethod(Method):
    """A method whose players descend losses of their own in turns: a game, whose solution is no minimum.

    A step is one round: each player in `turns` takes a step of its own optimizer on its own weights, with the gradient
    of the terms that `play` gives for it, and the next one sees what came of it. Over several processes gradients are
    averaged here, because DDP's averaging wants one backward pass that reaches every weight.
    """

    turns: ClassVar[tuple[str, ...]]
    """The players in the order in which they play: names of submodules, which share no weight."""

    def __init__(self, spec: DataSpec | Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.automatic_optimization = False

    def play(self, player: str, batch: Any) -> dict[str, Tensor]:
        """A batch of `batch_type` -> the terms of a player's loss, scalars that are added up."""
        raise NotImplementedError(f"{type(self).__name__} plays nothing")

    def changes(self, player: str) -> Mapping[str, Any]:
        """Arguments of the optimizer that differ for a player."""
        return {}

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """The terms of all players, where none has moved yet."""
        return {name: term for player in self.turns for name, term in self.play(player, batch).items()}

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        played: dict[str, Tensor] = {}
        for player, optimizer in zip(self.turns, self.trainer.optimizers, strict=True):
            terms = self.play(player, batch)
            weights = [weight for weight in getattr(self, player).parameters() if weight.requires_grad]
            gradients = torch.autograd.grad(torch.stack(tuple(terms.values())).sum(), weights)
            for weight, gradient in zip(weights, mean_of_all(gradients), strict=True):
                weight.grad = gradient
            optimizer.step()
            self.optimizer_zero_grad(0, batch_idx, optimizer)
            played |= {name: term.detach() for name, term in terms.items()}
        self.terms = played
        for config in self.trainer.lr_scheduler_configs:
            config.scheduler.step()  # type: ignore[call-arg]
        self.count_step()

    def configure_optimizers(self) -> list[Any]:
        if self.trainer.precision == "16-mixed":
            raise UserError(f"{type(self).__name__} scales no loss for float16.", "trainer.precision=bf16-mixed")
        return [self.descent(getattr(self, player).parameters(), **self.changes(player)) for player in self.turns]


def mean_of_all(gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Gradients of each process -> their mean over the processes."""
    if distributed():
        mean = sum_of_all(parameters_to_vector(gradients)) / torch.distributed.get_world_size()
        vector_to_parameters(mean, gradients)
    return gradients


class SolvedMethod(Method):
    """A method that solves: it accumulates statistics over the batches of one pass and solves at its end.

    State lives in buffers, so that checkpoints carry it and a run that was killed continues in the middle of the pass.
    Over several processes each record is seen exactly once; `rows_of_all` and `sum_of_all` join the shares.
    """

    def __init__(self, spec: DataSpec | Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.automatic_optimization = False
        self._solved_in: int | None = None

    def accumulate(self, batch: Any) -> None:
        """Take in one batch of `batch_type`; called without gradients. Processes get equally many batches."""
        raise NotImplementedError(f"{type(self).__name__} accumulates nothing")

    def solve(self) -> None:
        """Turn what was accumulated into the solution; called at the end of each pass."""

    def rows_of_all(self, rows: Tensor) -> Tensor:
        """Rows (n_p, D) of each process p -> the rows of all (sum n_p, D), in the order of the processes."""
        return rows_of_all(rows)

    def sum_of_all(self, value: Tensor) -> Tensor:
        """A statistic of each process -> its sum over the processes."""
        return sum_of_all(value)

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        with torch.no_grad():
            self.accumulate(batch)
        self.count_step()  # it makes no call of an optimizer: its step is its batch

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == self.trainer.num_training_batches:
            self._solve_once()  # and not at the end of the epoch, which comes after its validation

    def on_train_epoch_end(self) -> None:
        self._solve_once()  # of a pass that was cut short, or that a continued run finds at its end

    def _solve_once(self) -> None:
        """Solve, if this pass has not been."""
        if self._solved_in == self.current_epoch:
            return
        with torch.no_grad():
            self.solve()
        self._solved_in = self.current_epoch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["solved_in"] = self._solved_in

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._solved_in = checkpoint.get("solved_in")

    def configure_optimizers(self) -> None:
        return None
