"""What methods have in common that learn from a diffusion model that is already there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Labelled, Unlabelled
from datamodules.spec import DataSpec
from modules.generative.analytic_diffusion import AnalyticDiffusion
from modules.generative.conditional_diffusion import ConditionalDiffusion
from modules.generative.diffusion import Diffusion
from modules.generative.gaussian.checkpoints import frozen
from modules.generative.gaussian.model import GaussianModel, Node
from modules.generative.guidance.base import Guidance
from modules.method import AlternatingMethod, Part

STEPPING: dict[str, Any] = {
    "sampler": {"_target_": "modules.generative.samplers.dpm_solver.DPMSolver"},
    "timesteps": {"_target_": "modules.generative.timesteps.grids.LogSNR", "steps": 20},
    "guidance": {"_target_": "modules.generative.guidance.base.Unguided"},
}
"""The axes that a teacher or a student needs to be a `GaussianModel`; no draw is made by them."""


def teacher_of(spec: DataSpec, path: Node, teacher: str | None, source: Node | None) -> GaussianModel:
    """The model to learn from, whose weights stay as they are.

    Args:
        spec: of the records.
        path: config of the path on which it was trained.
        teacher: its checkpoint; None: the exact field of the mixture that a source draws from.
        source: config of that source.

    Raises:
        UserError: no teacher at all, one for other records, or on another path.
    """
    if teacher is None:
        if source is None:
            raise UserError("model.teacher=null: there is nobody to learn from.", "give a checkpoint, or model.source")
        return AnalyticDiffusion(spec, law="exact", source=source, path=path, **STEPPING)
    model = frozen(teacher, instantiate(path, where="path"), "model.teacher")
    if model.spec.shape != spec.shape:
        raise UserError(f"model.teacher={teacher} is of records {model.spec.shape}, these are {spec.shape}.")
    return model


def conditional(model: GaussianModel) -> bool:
    """Whether a model's field depends on classes."""
    return model.batch_type is Labelled or getattr(model, "labels", None) is not None


def student_of(teacher: GaussianModel, path: Node, net: Part | None, data_std: float) -> Diffusion:
    """A network of E[x_0 | x_t] that may be trained: a copy of the teacher, or a new one where that has no network.

    Args:
        teacher: what it starts from, and whose classes it takes.
        path: config of the teacher's path.
        net: config of a new network, which predicts v.
        data_std: of the records, for a new network.
    """
    if isinstance(teacher, Diffusion):
        return deepcopy(teacher).requires_grad_(True)
    kind = ConditionalDiffusion if conditional(teacher) else Diffusion
    return kind(teacher.spec, data_std=data_std, net=net, path=path, **STEPPING)


def denoising(student: Diffusion, records: Tensor, y: Tensor | None) -> Tensor:
    """The loss of a network on records (B, ...) of classes y (B,), in its own weighting and law of times."""
    x, t, noise = student.noised(records)
    return student.error(student.predict(x, t, y), records, noise, t).mean()


class Distillation(AlternatingMethod, ABC):
    """Brings a law of records towards the one of a frozen diffusion model. A subclass says what moves, and how.

    Args:
        spec: images or vectors; what the teacher was trained on.
        path: config of the teacher's path.
        guidance: config of the guidance under which the teacher is followed.
        teacher: checkpoint of a Gaussian diffusion model; None: the exact field of `source`.
        source: config of a source whose law is a mixture of Gaussians; for an exact teacher alone.
        parts: the arguments of `Method`.

    Raises:
        UserError: no teacher, or one that does not fit.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        path: Node,
        guidance: Node,
        teacher: str | None = None,
        source: Node | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        self.teacher = teacher_of(self.spec, path, teacher, source)
        self.path = self.teacher.path
        self.guidance: Guidance = instantiate(guidance, where="guidance")
        self.classes = len(self.spec.classes) if conditional(self.teacher) else 0

    def guided(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        """The teacher's E[x_0 | x_t] (B, ...) under the guidance, of x (B, ...) at t (B,)."""
        return self.guidance.field(self.teacher, y).denoiser(x, t)

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...)."""

    def function_evaluations(self) -> float:
        """Evaluations of the network per draw."""
        return 1.0
