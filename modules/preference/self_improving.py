"""Policies that answer and also revise answers, from the same preferences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datamodules.batches import Preferences
from modules.preference.objectives.base import Pairs
from modules.preference.pairwise import PairwisePreference
from modules.preference.policy import answer_log_probs, token_log_probs


class SelfImproving(PairwisePreference):
    """One network is pi(y | x) and the self-improvement policy pi(y | x, y'): it is asked again after its own answer.

    A text is the prompt, an answer y' and an answer y. All four texts of a pair go through the network in one pass,
    which gives ln pi of both answers and of each one after each. The reference, the policy as it begins, is asked the
    same. With `objective=srpo` this is self-improving robust preference optimization; other objectives look at pi alone
    and leave the revisions to what the network makes of them.

    Choi et al. 2024, "Self-Improving Robust Preference Optimization", whose one model plays both parts, too.

    Deviations: 1. The paper puts y' into a prompt that asks in words for a better answer; here it simply stands where
    an answer stands, and the second answer follows.

    Args:
        spec, objective, model, parts: see `PairwisePreference`.

    Raises:
        UserError: see `PairwisePreference`.
    """

    papers = ("choi2024self",)
    columns = 6

    @property
    def context(self) -> tuple[int, ...]:
        return (2 * self.spec.shape[0] - 1,)

    def pair_log_probs(self, net: nn.Module, ids: Tensor, answers: Tensor) -> Tensor:
        """ln of pi(w | x), pi(l | x), then of pi(w | x, w), pi(l | x, w), pi(w | x, l), pi(l | x, l) (B, 6)."""
        texts, old, new = one_after_another(ids, answers)
        token = token_log_probs(net, texts.flatten(0, 2), (old | new).flatten(0, 2)).view(*texts.shape[:3], -1)
        first = torch.where(old[..., 1:], token, 0.0).sum(-1).diagonal(dim1=1, dim2=2)  # (B, 2)
        second = torch.where(new[..., 1:], token, 0.0).sum(-1)  # (B, 2, 2)
        return torch.cat([first, second.flatten(1)], 1)

    def beside(self, batch: Preferences, log_pi: Tensor, noted: Tensor) -> Pairs:
        revised = (log_pi - noted)[:, 2:].unflatten(1, (2, 2))
        return super().beside(batch, log_pi[:, :2], noted[:, :2])._replace(revised=revised)

    def all_revision_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Prompts int64 (P, T_p), answers int64 (A, T_a) -> ln pi(y | x, y') of each y after each y' (P, A, A)."""
        shape = (len(prompts), len(answers), len(answers), -1)
        texts = [prompts[:, None, None].expand(shape), answers[:, None].expand(shape), answers.expand(shape)]
        ids = torch.cat(texts, 3)
        new = torch.arange(ids.shape[3], device=ids.device) >= ids.shape[3] - answers.shape[1]
        return answer_log_probs(self.net, ids, new.expand(ids.shape))


def one_after_another(ids: Tensor, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two answers to a prompt -> the prompt, one answer, and one answer after it.

    Args:
        ids: prompt and answer, filled up, int64 (B, 2, T).
        answers: which are the answer's, bool (B, 2, T).

    Returns:
        ids (B, 2, 2, 2 T - 1), [:, i, j] with answer j after answer i, filled up with 0; which are those of the earlier
        answer, and of the later one, bool of the same shape.
    """
    length = ids.shape[2]
    start, count = answers.int().argmax(2), answers.sum(2)
    end = (start + count)[:, :, None, None]
    place = torch.arange(2 * length - 1, device=ids.device).expand(len(ids), 2, 2, -1)
    beyond = place - end
    old = (place >= start[:, :, None, None]) & (beyond < 0)
    new = (beyond >= 0) & (beyond < count[:, None, :, None])
    source = torch.where(beyond < 0, place, length + start[:, None, :, None] + beyond).clamp(max=2 * length - 1)
    shape = (-1, 2, 2, length)
    texts = torch.cat([ids[:, :, None].expand(shape), ids[:, None].expand(shape)], 3).gather(3, source)
    return torch.where(new | (beyond < 0), texts, 0), old, new
