"""What a policy makes of pairs of answers."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.base import Evaluation, mean_of
from callbacks.metrics.precision import precise
from datamodules.batches import Preferences
from modules.capabilities import PreferencePolicy


class PairFigures(Evaluation):
    """Figures of a PreferencePolicy on Preferences batches; means over pairs, of whole answers, in nats.

    - `pair_accuracy`: share of pairs with ln pi / pi_ref of the chosen answer above that of the rejected one; ties
      count half.
    - `margin`: ln pi / pi_ref of the chosen answer minus that of the rejected one.
    - `chosen_log_prob`, `rejected_log_prob`: ln pi of the answers, and `chosen_change`, `rejected_change`: how far they
      have moved from ln pi_ref. Both can fall: where likelihood goes then, pairs do not say.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (PreferencePolicy,)
    batch_type = Preferences

    def start(self, method, data) -> None:
        names = ("pair_accuracy", "margin", "chosen_log_prob", "rejected_log_prob", "chosen_change", "rejected_change")
        self.means = {name: mean_of(method) for name in names}

    def update(self, method, batch) -> None:
        pairs = method.preference_pairs(batch)
        margin = precise(pairs.margin)
        figures = {
            "pair_accuracy": (1 + margin.sign()) / 2,
            "margin": margin,
            "chosen_log_prob": precise(pairs.chosen),
            "rejected_log_prob": precise(pairs.rejected),
            "chosen_change": precise(pairs.chosen_ratio),
            "rejected_change": precise(pairs.rejected_ratio),
        }
        for name, values in figures.items():
            self.means[name].update(values)

    def compute(self, method, data) -> Mapping[str, float]:
        return {name: float(mean.compute()) for name, mean in self.means.items()}
