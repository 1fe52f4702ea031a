"""Opening models that were trained before."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.generative.gaussian.checkpoints import check_path, frozen, opened
from tests.modules.generative.exact import PATHS, configured
from tests.modules.generative.samplers.checkpoints import fitted


def test_a_frozen_model_has_its_weights_and_is_opened_once(tmp_path):
    model, path = fitted(torch.randn(30, 2), tmp_path, path="vp")
    own = frozen(path, configured("path", "vp"), "model.model")
    assert torch.equal(own.mean, model.mean)
    assert opened(path) is opened(path) is not own
    with pytest.raises(UserError, match=r"model\.model=.* was trained on another path"):
        frozen(path, configured("path", "vp", high=10.0), "model.model")


@pytest.mark.parametrize("name", PATHS)
def test_every_path_is_itself_and_no_other(name):
    check_path(configured("path", name), configured("path", name), "it")
    for other in set(PATHS) - {name}:
        with pytest.raises(UserError, match="another path"):
            check_path(configured("path", name), configured("path", other), "it")
