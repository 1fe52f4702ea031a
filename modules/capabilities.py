"""What a method can do, as Protocols. Evaluations ask for these and for a batch type, never for a class.

Everything is batched: B records, `...` the shape of one record as `DataSpec.shape` says.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, distributions

from datamodules.batches import SelectionTask


@runtime_checkable
class Classifier(Protocol):
    """Class probabilities."""

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> natural log of the class probabilities (B, classes), float."""
        ...


@runtime_checkable
class Regressor(Protocol):
    """A predictive law of a real target."""

    def predict_distribution(self, x: Tensor) -> distributions.Distribution:
        """x (B, ...) -> distribution over y with batch shape (B,), in the target's own units."""
        ...


@runtime_checkable
class Density(Protocol):
    """A density of `x`."""

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, ...) -> natural log of the density of `x` as the method receives it, summed over components (B,)."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Draws of `x`."""

    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), in the range in which the method receives data, from torch's global random state."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """A representation of `x`."""

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> features (B, D)."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """A clean record from a noisy one."""

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, ...) at time t (B,) -> expectation of the data at t = 1 given x (B, ...)."""
        ...


@runtime_checkable
class LanguageModel(Protocol):
    """Next-token probabilities."""

    def next_token_log_probs(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T) -> natural log of the next token's probabilities (B, T, vocabulary)."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Actions from observations."""

    def act(self, observation: Tensor) -> Tensor:
        """observation (B, ...) -> action (B, ...)."""
        ...


@runtime_checkable
class Selector(Protocol):
    """A choice from a pool, of records whose target lies above a threshold."""

    def select(self, task: SelectionTask) -> Tensor:
        """B problems -> which records of each pool are chosen, bool (B, m). `task.pool_y` is NaN."""
        ...
