"""What a prompter makes of a frozen policy, beside the best prompter and the best policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callbacks.evaluation.listed import ListedEvaluation
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from modules.capabilities import Rewriter
from modules.preference.optimum import divergence, tilted


class PrompterFigures(ListedEvaluation):
    """Exact figures of a Rewriter in a world that can be listed; means over prompts x, R(x, x') = E_{pi_F(x')} r(x, y).

    - `prompted_reward`: E_rho R, `unprompted_reward`: R(x, x), and `tuned_reward`: E r under pi* ~ pi_F exp(r / beta),
      which the policy itself would be fine-tuned to.
    - `rewriting_kl`: KL(rho | rho_sft), and `optimum_divergence`: KL(rho | rho*) with rho* ~ rho_sft exp(R / lambda).
    - `tuning_gap`: tuned_reward less E_rho* R, and `tuning_bound`, which is not below it (Trivedi et al. 2025):

          s E TV(pi*(x), pi_F(x)) + s E_rho_sft TV(pi_F(x), pi_F(x')) - lambda KL(rho* | rho_sft)

      with s the spread of r over the answers to x and TV half the sum of absolute differences: the first two terms
      bound what the mean of r can differ by, and rho* is at least as good as rho_sft. `bound_slack` is how far above.
      The form of the bound is from a summary of the paper, and its second term from that proof.

    Args:
        beta: of pi*, above 0, in units of the reward.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a beta that is not above 0.
    """

    capabilities = (Rewriter,)

    def __init__(self, beta: float = 0.1, **parts: Any) -> None:
        super().__init__(**parts)
        if not beta > 0:
            raise UserError(f"{self.name}.beta={beta}: it is above 0.")
        self.beta = beta

    def compute(self, method, data) -> Mapping[str, float]:
        world = data.world
        prompts, answers = self.texts(method, data)
        log_rho, log_sft = (precise(law).cpu() for law in method.rewriting_log_probs(prompts))
        log_target = precise(method.target_log_probs(prompts, answers)).cpu()
        target, reward = log_target.exp(), world.reward
        of_rewriting = reward @ target.T  # R (x, x')
        best = tilted(log_sft, of_rewriting, method.price)
        tuned = tilted(log_target, reward, self.beta).exp()
        tuned_reward = (tuned * reward).sum(1)
        spread = reward.amax(1) - reward.amin(1)
        away = (target[:, None] - target[None]).abs().sum(2) / 2
        bound = spread * ((tuned - target).abs().sum(1) / 2 + (log_sft.exp() * away).sum(1))
        bound = bound - method.price * divergence(best, log_sft)
        gap = tuned_reward - (best.exp() * of_rewriting).sum(1)
        figures = {
            "prompted_reward": (log_rho.exp() * of_rewriting).sum(1),
            "unprompted_reward": of_rewriting.diagonal(),
            "tuned_reward": tuned_reward,
            "rewriting_kl": divergence(log_rho, log_sft),
            "optimum_divergence": divergence(log_rho, best),
            "tuning_gap": gap,
            "tuning_bound": bound,
            "bound_slack": bound - gap,
        }
        return {name: float(values.mean()) for name, values in figures.items()}
