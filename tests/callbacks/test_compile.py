"""A compiled network is the network: same weights, same figures, a checkpoint that anybody opens."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.method import Method
from tests.modules.test_contract import planned, trained

RUN = ("supervised/classifier", "data=wine", "net=mlp", "net.width=8")
COMPILED = ("+callbacks.compile._target_=callbacks.compile.Compile", "+callbacks.compile.options={backend: eager}")


def fitted(folder, *more):
    model, *rest = RUN
    run = planned(model, folder, *rest, *more)
    return run, trained(run).method


def test_it_trains_to_the_same_weights(tmp_path):
    _, plain = fitted(tmp_path / "plain")
    run, compiled = fitted(tmp_path / "compiled", *COMPILED)
    assert compiled.net._compiled_call_impl is not None
    for name, value in plain.state_dict().items():
        assert torch.equal(value, compiled.state_dict()[name]), name
    opened = Method.load_from_checkpoint(run.checkpoints / "last.ckpt")
    x = torch.randn(4, 13)
    assert torch.equal(opened.predict_log_proba(x), compiled.eval().predict_log_proba(x))


def test_a_network_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="no network 'nets'"):
        fitted(tmp_path, *COMPILED, "+callbacks.compile.parts=[nets]")
