"""Fine-tuning a table: its optimum is the frequency of the answers."""

from __future__ import annotations

import torch

from modules.preference.fine_tuning import FineTuning
from tests.modules.test_contract import planned, trained


def test_the_loss_is_flat_at_the_frequencies(tmp_path):
    parts = trained(planned("preference/fine_tuning", tmp_path))
    method = parts.method
    assert isinstance(method, FineTuning)
    batch = parts.data.records("train")
    counts = torch.full((16, 16), 1e-30, dtype=torch.float64)
    counts.index_put_(
        (batch.ids[:, 0], batch.ids[:, 1]), torch.ones(len(batch.ids), dtype=torch.float64), accumulate=True
    )
    method.double()
    with torch.no_grad():
        method.net.table.weight.copy_(counts.log())
    method.zero_grad()
    loss = method.loss(batch)
    loss.backward()
    assert method.net.table.weight.grad.abs().max() < 1e-12
    with torch.no_grad():
        assert float(loss.detach()) == float(-method.answer_log_probs(batch.ids, batch.answer).mean())
