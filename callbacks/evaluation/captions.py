"""Whether captions that a model writes are true."""

from __future__ import annotations

from collections.abc import Mapping

from torch.nn.functional import pad

from callbacks.evaluation.base import Evaluation, mean_of
from callbacks.evaluation.prompts import judged
from datamodules.batches import Captioned
from modules.capabilities import Captioner


class Captions(Evaluation):
    """Figures of a Captioner's captions of the records of a split.

    - `caption_match`: share of the captions that are, word by word, the record's own; there may be other true ones.
    - `caption_complete`: share of those that the reader understands, where somebody can read captions off pictures; of
      `data=scenes` those that say count, colour and kind of all.
    - `caption_true`: share of those that it understands and that are true of the picture in count and in position.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Captioner,)
    batch_type = Captioned

    def start(self, method, data) -> None:
        names = ["match"] if data.reader is None else ["match", "complete", "true"]
        self.data, self.means = data, {f"caption_{name}": mean_of(method) for name in names}

    def update(self, method, batch) -> None:
        said = method.caption(batch.x)
        length = max(said.shape[1], batch.caption.shape[1])
        said, own = (pad(part, (0, length - part.shape[1])) for part in (said, batch.caption))
        figures = {"caption_match": (said == own).all(1)}
        judgement = judged(batch.x.cpu(), said.cpu(), self.data)
        if judgement:
            figures["caption_complete"] = judgement["count_accuracy"].isfinite()
            figures["caption_true"] = (judgement["count_accuracy"] == 1) & (judgement["position_accuracy"] != 0)
        for name, values in figures.items():
            self.means[name].update(values.double().to(method.device))

    def compute(self, method, data) -> Mapping[str, float]:
        return {name: float(mean.compute()) for name, mean in self.means.items()}
