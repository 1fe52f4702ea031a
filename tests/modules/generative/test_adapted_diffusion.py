"""What is taken over from a checkpoint, what moves, and what is refused."""

from __future__ import annotations

import pytest
import torch

from compendium.compose import compose
from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec

SPEC = DataSpec("digits", "image", (1, 4, 4), "class", ("a", "b", "c"), bounds=(-1.0, 1.0))
NET = {"width": 16, "depth": 1, "heads": 2}
BATCH = Labelled(torch.randn(12, 1, 4, 4), torch.arange(12) % 3)


def made(name, *choices, spec=SPEC, **changes):
    values = compose([f"model=generative/{name}", *choices]).values
    net = {**values["net"], **NET}
    return instantiate({**values["model"], **changes}, spec, net=net, optimizer=values["optimizer"])


@pytest.fixture
def saved(tmp_path):
    def save(method, name="model"):
        for weight in method.parameters():
            weight.data.normal_(std=0.2)
        path = tmp_path / f"{name}.ckpt"
        checkpoint = {"state_dict": method.state_dict(), "hyper_parameters": dict(method.hparams)}
        method.on_save_checkpoint(checkpoint)
        checkpoint["pytorch-lightning_version"] = "2.6.0"
        torch.save(checkpoint, path)
        return str(path)

    return save


@pytest.mark.parametrize("adapter", ["lora", "oft", "whole"])
def test_it_begins_as_the_checkpoint_and_only_what_the_adapter_frees_moves(saved, adapter):
    trained = made("conditional_diffusion", "net=dit")
    path = saved(trained)
    adapted = made("adapted_diffusion", "net=dit", f"adapter={adapter}", model=path)
    x, t, y = BATCH.x, torch.rand(12), BATCH.y
    torch.testing.assert_close(adapted.denoise(x, t, y), trained.denoise(x, t, y))
    before = {name: weight.clone() for name, weight in adapted.net.named_parameters()}
    free = {name for name, weight in adapted.net.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.SGD([weight for weight in adapted.parameters() if weight.requires_grad], lr=0.1)
    for _ in range(2):
        adapted.loss(BATCH).backward()
        optimizer.step()
    moved = {name for name, weight in adapted.net.named_parameters() if not torch.equal(weight, before[name])}
    assert set() < moved <= free
    assert adapted.trained_weights() == sum(before[name].numel() for name in free)
    assert (adapted.energy_change() < 1e-6) == (adapter in ("oft", "whole"))  # whole: nothing is parametrized
    if adapter != "whole":
        assert not any(name.endswith(("original", "bias")) for name in free)
        again = type(adapted).load_from_checkpoint(saved(adapted, "adapted"))
        assert torch.equal(again.denoise(x, t, y), adapted.denoise(x, t, y))


def test_new_classes_get_embeddings_of_their_own_and_leave_the_shared_parts(saved):
    trained = made("conditional_diffusion", "net=factored_dit")
    path = saved(trained)
    spec = SPEC.but(classes=("d", "e"))
    adapted = made("adapted_diffusion", "net=factored_dit", "adapter=tailors", spec=spec, model=path, anew=True)
    label = adapted.net.condition.label
    assert label.weight.shape == (3, 16)
    assert torch.equal(label.weight[-1], trained.net.condition.label.weight[-1])
    x, t, anything = BATCH.x, torch.rand(12), torch.full((12,), -1)
    torch.testing.assert_close(adapted.denoise(x, t, anything), trained.denoise(x, t, anything))
    free = {name.rsplit(".", 1)[1] for name, weight in adapted.net.named_parameters() if weight.requires_grad}
    assert free == {"own_down", "own_up", "own_scale", "weight"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spec": SPEC.but(classes=("d", "e", "f"))}, "knows the classes a, b, c"),
        ({"spec": SPEC.but(shape=(1, 6, 6))}, "has the shape"),
        ({"target": "noise", "weighting": "noise"}, "has the target"),
        ({"path": {"_target_": "modules.generative.gaussian.paths.VariancePreserving"}}, "another path"),
    ],
)
def test_checkpoints_of_something_else_are_refused(saved, changes, message):
    path = saved(made("conditional_diffusion", "net=dit"))
    with pytest.raises(UserError, match=message):
        made("adapted_diffusion", "net=dit", model=path, **changes)


def test_a_checkpoint_without_classes_is_refused(saved):
    path = saved(made("diffusion", "net=dit", "path=cosine"))
    with pytest.raises(UserError, match="is a Diffusion, not a ConditionalDiffusion"):
        made("adapted_diffusion", "net=dit", model=path)
