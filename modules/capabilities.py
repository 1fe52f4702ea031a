"""What a method can do, as Protocols. Evaluations ask for these and for a batch type, never for a class.

Everything is batched: B records, `...` the shape of one record as `DataSpec.shape` says.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, distributions

from datamodules.batches import SelectionTask
from datamodules.source import Truth


@runtime_checkable
class Classifier(Protocol):
    """Class probabilities."""

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> natural log of the class probabilities (B, classes), float."""
        ...


@runtime_checkable
class EnsembleClassifier(Protocol):
    """Class probabilities by several members, or by several draws of a stochastic network."""

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """See `Classifier`: of the mean of the members' probabilities."""
        ...

    def predict_members(self, x: Tensor) -> Tensor:
        """x (B, ...) -> natural log of each member's class probabilities (members, B, classes)."""
        ...


@runtime_checkable
class SecondOrder(Protocol):
    """Class probabilities, and how far the true ones are from them."""

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """See `Classifier`."""
        ...

    def epistemic_variance(self, x: Tensor) -> Tensor:
        """x (B, ...) -> for each class, what the square of true minus predicted probability should be (B, classes)."""
        ...


@runtime_checkable
class Uncertain(Protocol):
    """A score of its own of how little is known about a record."""

    def uncertainty(self, x: Tensor) -> Tensor:
        """x (B, ...) -> scores (B,), larger where less is known."""
        ...


@runtime_checkable
class Regressor(Protocol):
    """A predictive law of a real target."""

    def predict_distribution(self, x: Tensor) -> distributions.Distribution:
        """x (B, ...) -> distribution over y with batch shape (B,), in the target's own units."""
        ...


class Detections(NamedTuple):
    """M detections in each of B pictures: some may be of no use, and have a score of 0.

    `boxes` float (B, M, 4), left, top, right and bottom edge in pixels; `scores` float (B, M) in [0, 1]; `kinds` int64
    (B, M); `kept` bool (B, M), those that a user is shown.
    """

    boxes: Tensor
    scores: Tensor
    kinds: Tensor
    kept: Tensor


@runtime_checkable
class Detector(Protocol):
    """Boxes around what pictures show."""

    def detect(self, x: Tensor) -> Detections:
        """x (B, C, H, W) -> detections, the most confident first."""
        ...


@runtime_checkable
class SuperResolver(Protocol):
    """Finer pictures, several of each."""

    def super_resolve(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> draws or members (T, B, C, f H, f W), in the range in which the method receives data."""
        ...


@runtime_checkable
class PointPredictor(Protocol):
    """Places of points in a picture, and how sure they are."""

    def predict_points(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, C, H, W) -> mean, epistemic and aleatoric variance of each coordinate (B, P, 2), in squared units."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Class probabilities at every pixel."""

    def predict_log_proba_map(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> natural log of the class probabilities (B, classes, H, W), float."""
        ...


@runtime_checkable
class Surveyor(Protocol):
    """Class, instance and depth at every pixel."""

    def predict_log_proba_map(self, x: Tensor) -> Tensor:
        """See `Segmenter`."""
        ...

    def predict_geometry(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) -> offsets to the centre of the instance (B, 2, H, W) and inverse depth (B, H, W).

        In the units of `datamodules.batches.Surveyed`.
        """
        ...


@runtime_checkable
class Density(Protocol):
    """A density of `x`."""

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, ...) -> natural log of the density of `x` as the method receives it, summed over components (B,)."""
        ...


@runtime_checkable
class LatentVariable(Protocol):
    """A density that is an integral over latent variables z, known by lower bounds alone."""

    def log_weights(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """x (B, ...) -> log p(x|z) and log q(z|x) - log p(z), (k, B) each, at k draws z ~ q(z|x) per record."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Draws of `x`."""

    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), in the range in which the method receives data, from torch's global random state."""
        ...


@runtime_checkable
class IteratedSampler(Protocol):
    """Draws that take several evaluations of a network each."""

    def sample(self, n: int) -> Tensor:
        """See `Sampler`."""
        ...

    def function_evaluations(self) -> float:
        """Evaluations of the network per draw in the last call of `sample`."""
        ...


@runtime_checkable
class SteeredSampler(Protocol):
    """A sampler whose way from noise to data has parts that can be exchanged, the noise being the same."""

    def steered(self, **parts: Any) -> AbstractContextManager[None]:
        """Sample with other parts for a while, by name: configs, or objects."""
        ...


@runtime_checkable
class Flow(Protocol):
    """A velocity that carries noise to data along a path."""

    def kinetic_energy(self, x: Tensor) -> Tensor:
        """Records (B, ...) -> |v(x_t, t)|^2 per dimension times the length of time (B,), at a random time and x_t each.

        Its mean is the integral over time of E |v(x_t, t)|^2 / dimensions.
        """
        ...


@runtime_checkable
class Stretching(Protocol):
    """A flow from noise to data whose stretching is known."""

    def stretching(self, n: int, ratios: Tensor) -> Tensor:
        """n draws -> singular values of the flow from noise to noise ratios sigma / alpha (K,), falling (K, n, D)."""
        ...


@runtime_checkable
class Translator(Protocol):
    """A map from draws of another law to the data."""

    law: Truth
    """The law of what it takes."""

    def translate(self, x: Tensor) -> Tensor:
        """Draws of `law` (n, ...) -> what they become (n, ...)."""
        ...


@runtime_checkable
class ConditionalSampler(Protocol):
    """Draws of `x` given its class."""

    def sample_of(self, y: Tensor) -> Tensor:
        """Classes y int64 (n,) -> one draw of each (n, ...), in the range in which the method receives data."""
        ...


@runtime_checkable
class TextSampler(Protocol):
    """Draws of pictures given their captions."""

    def sample_for(self, caption: Tensor) -> Tensor:
        """Captions int64 (n, T) -> one draw of each (n, ...), in the range in which the method receives data."""
        ...


@runtime_checkable
class Captioner(Protocol):
    """Captions of pictures."""

    def caption(self, x: Tensor) -> Tensor:
        """Pictures (n, ...) -> captions int64 (n, T), words of the method's spec and then 0."""
        ...


@runtime_checkable
class TrajectorySampler(Protocol):
    """Draws, and how they came about."""

    def trajectories(self, n: int) -> Tensor:
        """The states of n draws (steps, n, ...), from noise to the draws themselves, in one scale."""
        ...


@runtime_checkable
class Autoencoder(Protocol):
    """Records through a code and back."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """x (B, ...) -> what its code says of it (B, ...), a draw where the decoder draws."""
        ...


@runtime_checkable
class JointSampler(Protocol):
    """Draws of `x` together with their classes."""

    def sample_pairs(self, n: int) -> tuple[Tensor, Tensor]:
        """n draws (n, ...), in the range in which the method receives data, and their classes int64 (n,)."""
        ...


@runtime_checkable
class Inpainter(Protocol):
    """Hidden parts of pictures, filled in."""

    def inpaint(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, C, H, W), mask (B, 1, H, W), 1 seen and 0 hidden -> one draw of the whole picture each (B, C, H, W).

        What is hidden of `x` is not looked at, what is seen comes back as it is. Draws come from torch's global state.
        """
        ...


@runtime_checkable
class Encoder(Protocol):
    """A representation of `x`."""

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> features (B, D)."""
        ...


@runtime_checkable
class Aligned(Protocol):
    """Hidden layers that learn by another rule than backpropagation."""

    def alignment(self, x: Tensor, y: Tensor) -> Tensor:
        """x (B, ...), y (B,) -> cosine of the error that each layer hears and of backpropagation's (B, layers)."""
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
class AnswerPolicy(Protocol):
    """Probabilities of answers to prompts."""

    def all_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Prompts int64 (P, T_p), answers int64 (A, T_a) -> ln pi of each answer to each prompt (P, A)."""
        ...


@runtime_checkable
class ReferencedPolicy(Protocol):
    """A policy that began as another one."""

    def all_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """See `AnswerPolicy`."""
        ...

    def all_reference_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """The same of the policy that it began as (P, A)."""
        ...


@runtime_checkable
class RevisingPolicy(Protocol):
    """A policy that also revises answers, and the one that it began as."""

    def all_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """See `AnswerPolicy`."""
        ...

    def all_reference_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """See `ReferencedPolicy`."""
        ...

    def all_revision_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Prompts int64 (P, T_p), answers int64 (A, T_a) -> ln pi(y | x, y') of each y after each y', (P, A, A)."""
        ...


@runtime_checkable
class PreferencePolicy(Protocol):
    """Probabilities of two answers to the same prompt."""

    def preference_pairs(self, batch: Any) -> Any:
        """A `Preferences` batch -> ln pi and ln pi_ref of both answers, `modules.preference.objectives.base.Pairs`."""
        ...


@runtime_checkable
class AnswerWriter(Protocol):
    """Answers to prompts, one token after the other."""

    def write_answers(
        self,
        prompts: Tensor,
        lengths: Tensor,
        longest: int,
        *,
        end: int | None = None,
        samples: int = 1,
        temperature: float = 1.0,
    ) -> Any:
        """Prompts int64 (B, T) of `lengths` (B,) -> `modules.language.generation.Written`, see `write` there."""
        ...


@runtime_checkable
class ReferencedWriter(Protocol):
    """A policy that began as another one, which writes, too."""

    def write_reference_answers(self, prompts: Tensor, lengths: Tensor, longest: int, *, end: int | None = None) -> Any:
        """See `AnswerWriter`."""
        ...

    def answer_log_probs(self, ids: Tensor, answer: Tensor) -> Tensor:
        """Ids int64 (..., T), and which are the answer's, bool (..., T) -> ln pi(y | x) (...)."""
        ...

    def reference_log_probs(self, ids: Tensor, answer: Tensor) -> Tensor:
        """The same of the policy that it began as (...)."""
        ...


@runtime_checkable
class AnswerScorer(Protocol):
    """What answers to prompts are thought to be worth."""

    def answer_scores(self, ids: Tensor, answer: Tensor) -> Tensor:
        """ids int64 (..., T), a prompt and its answer each, and which are the answer's, bool (..., T) -> scores (...).

        float32 at least; differences of scores of answers to one prompt are logits of preferences between them.
        """
        ...


@runtime_checkable
class TextGrader(Protocol):
    """What texts are thought to be worth, as grades."""

    def expected_grade(self, ids: Tensor, length: Tensor) -> Tensor:
        """ids int64 (B, T), filled up, and the number of tokens of each text, int64 (B,) -> its grade (B,), 1 or more.

        float32 at least.
        """
        ...


@runtime_checkable
class Seeker(Protocol):
    """A method that chooses which training records it sees the targets of."""

    def acquired_rows(self) -> Tensor:
        """Those that it has chosen so far, in that order, int64 (n,)."""
        ...


@runtime_checkable
class Acquirer(Seeker, Protocol):
    """A preference model that chooses which pairs it has labelled."""

    def preference_logit(self, pairs: Tensor) -> Tensor:
        """Features of two answers to each prompt (B, 2, D) -> log odds that the first one is preferred (B,)."""
        ...


@runtime_checkable
class Rewriter(Protocol):
    """A prompter: it puts other prompts in the place of those that a frozen policy answers."""

    price: float
    """lambda, of the divergence from what the prompter began as, in units of the reward."""

    def rewriting_log_probs(self, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Prompts int64 (P, T) -> ln rho of each of them in the place of each, and ln rho_sft, (P, P) each."""
        ...

    def target_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Prompts int64 (P, T), answers int64 (A, T_a) -> ln of the frozen policy's probabilities (P, A)."""
        ...


@runtime_checkable
class Chooser(Protocol):
    """Choices among answers by a linear reward that was learned for each of several problems."""

    def choose(self, items: Tensor, problem: Tensor) -> Tensor:
        """Features of answers (B, A, D) in problems int64 (B,) -> which answer is chosen, int64 (B,)."""
        ...

    def reward_weights(self, problem: Tensor) -> Tensor:
        """Problems int64 (B,) -> estimated weights of the features (B, D), float64."""
        ...


@runtime_checkable
class SequenceDensity(Protocol):
    """A likelihood of whole texts, or a lower bound of it."""

    def sequence_log_prob(self, x: Tensor) -> Tensor:
        """x int64 (B, T) -> natural log of the probability, or a lower bound of it, summed over tokens (B,)."""
        ...


@runtime_checkable
class Completer(Protocol):
    """Tokens for the gaps of a text, wherever they are."""

    mask: int
    """Stands where a token is missing."""

    def complete(self, z: Tensor) -> Tensor:
        """z int64 (B, T) with `mask` in some places -> the same with tokens there (B, T)."""
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


@runtime_checkable
class Adapted(Protocol):
    """A trained model that a few weights were adapted in."""

    def trained_weights(self) -> int:
        """How many numbers are trained."""
        ...

    def energy_change(self) -> float:
        """Largest relative change of a layer's hyperspherical energy."""
        ...


@runtime_checkable
class KnownOptimum(Protocol):
    """A problem whose best weights within its constraint are known."""

    def optimality(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Training records x (N, ...), y (N,) -> `suboptimality`, `distance` and `violation`, 0 at the optimum."""
        ...


@runtime_checkable
class Separator(Protocol):
    """A training whose end is that the training records are separated."""

    def separation(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Training records x (N, ...), y (N,) -> the figures of `callbacks.evaluation.separation`."""
        ...


@runtime_checkable
class Bilevel(Protocol):
    """A problem within a problem: upper variables that are good for what the lower level makes of them."""

    def bilevel(self, lower: Any, upper: Any) -> dict[str, float]:
        """All records of both levels, batches of the method's type -> figures of how far the problem is solved."""
        ...


@runtime_checkable
class Imitator(Protocol):
    """A policy that learns from an expert."""

    def imitation(self, x: Tensor) -> dict[str, Tensor]:
        """Starts x (B, ...) -> the figures of `callbacks.evaluation.imitation` of each (B,)."""
        ...


@runtime_checkable
class Reweighting(Protocol):
    """A method that finds out which sources of data to learn from."""

    def source_weights(self) -> Tensor | None:
        """Weights (sources,) that add up to 1; None where the problem has no sources."""
        ...


@runtime_checkable
class Constrained(Protocol):
    """A minimum under constraints."""

    def constrained_optimality(self, batch: Any) -> dict[str, float]:
        """The training records as one batch -> the figures of `callbacks.evaluation.constraints`."""
        ...


@runtime_checkable
class Proxied(Protocol):
    """A method that minimises one loss with the help of another that is cheaper."""

    def proxied(self, objective: Any, proxy: Any) -> dict[str, float]:
        """All records of the two, batches of the method's type -> figures of how far it is, and what that took."""
        ...


@runtime_checkable
class SetPredictor(Protocol):
    """Sets of classes that hold the true one at a stated rate."""

    alpha: float
    """Share of records that the sets may miss."""

    def predict_set(self, x: Tensor) -> Tensor:
        """x (B, ...) -> which classes are in the set, bool (B, classes)."""
        ...


@runtime_checkable
class AbstainingSetPredictor(Protocol):
    """Sets of classes, and a choice of records that get none."""

    alpha: float
    """Share of records that the sets may miss."""

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """See `Classifier`."""
        ...

    def predict_set(self, x: Tensor) -> Tensor:
        """See `SetPredictor`; of all records, whether or not it abstains."""
        ...

    def uncertainty(self, x: Tensor) -> Tensor:
        """See `Uncertain`: what it abstains by."""
        ...

    def abstains(self, x: Tensor) -> Tensor:
        """x (B, ...) -> whether there is no answer, bool (B,)."""
        ...


@runtime_checkable
class ConceptPredictor(Protocol):
    """Class probabilities, and probabilities of concepts that some classes have and others lack."""

    table: Tensor
    """Which class has which concept, bool (classes, concepts)."""

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """See `Classifier`."""
        ...

    def predict_concepts(self, x: Tensor) -> Tensor:
        """x (B, ...) -> probabilities of the concepts (B, concepts), float."""
        ...


@runtime_checkable
class CertifiedSetPredictor(Protocol):
    """Sets of classes of which it is known what an attack of a bounded size (2-norm) cannot do to them."""

    alpha: float
    """Share of records that the sets may miss."""
    radius: float
    """The size of attacks, in the units of `x`."""

    def predict_set(self, x: Tensor) -> Tensor:
        """See `SetPredictor`."""
        ...

    def certified(self, x: Tensor, y: Tensor) -> Tensor:
        """Clean records x (B, ...), classes y (B,) -> whether no attack takes y out of the set, bool (B,)."""
        ...

    def certificate(self, error: float = 0.05) -> float:
        """A bound of the coverage under attack that follows from the calibration records, wrong with P <= `error`."""
        ...

    def attack_loss(self, x: Tensor, y: Tensor, draws: int) -> Tensor:
        """x (B, ...), y (B,) -> what an attacker climbs (B,), differentiable in x, by so many draws."""
        ...


@runtime_checkable
class IntervalPredictor(Protocol):
    """Intervals that hold the true target at a stated rate."""

    alpha: float
    """Share of records that the intervals may miss."""

    def predict_interval(self, x: Tensor) -> Tensor:
        """x (B, ...) -> lower and upper end (B, 2), in the target's own units; infinite where nothing is excluded."""
        ...


@runtime_checkable
class ReliabilityAssessor(Protocol):
    """What is claimed of systems in operation: the probability that they pass what comes next."""

    def predict_reliability(self, x: Tensor) -> Tensor:
        """x (B, ...), a period of a system each -> claimed probability that it passes without a failure (B,)."""
        ...

    def population(self, x: Tensor) -> Tensor:
        """x (B, ...) -> which population each system comes from, int64 (B,)."""
        ...


@runtime_checkable
class SelectiveJudge(Protocol):
    """Judges that answer where they are sure enough, and pass on or abstain elsewhere; batched over problems."""

    alpha: float
    """Share of its answers that people may disagree with."""

    def thresholds(self, x: Tensor, y: Tensor) -> Tensor:
        """Calibration records x (..., n, D) and what people say y int64 (..., n) -> thresholds (..., judges)."""
        ...

    def judge(self, x: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """x (..., m, D), thresholds (..., judges) -> answers int64, -1 for none, and what it cost, (..., m) each."""
        ...

    def confidence(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (..., m, D) -> each judge's confidence, and its answer int64, (..., m, judges) each."""
        ...


@runtime_checkable
class ExpertTested(Protocol):
    """A method that has tested whether an expert knows more than it can."""

    def expertise(self) -> Tensor:
        """p-values of the hypotheses that the expert does not, of each set of records (sets,)."""
        ...
