"""Captions in the place of classes: hidden in their share, guided by the formula, given on to a second training."""

from __future__ import annotations

import pytest
import torch
from lightning import Trainer

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Captioned
from datamodules.spec import DataSpec
from modules.generative.text_diffusion import TextDiffusion

SPEC = DataSpec("scenes", "image", (1, 4, 4), bounds=(-1.0, 1.0), words=("", "?", "a", "red", "ring"), caption=3)
NET = {"_target_": "modules.networks.text_mlp.TextMLP", "width": 16, "depth": 1, "text": 8, "heads": 2}


def made(*choices, spec=SPEC, **changes):
    values = compose(["model=generative/text_diffusion", *choices]).values["model"]
    arguments = {name: value for name, value in values.items() if name != "_target_"}
    return TextDiffusion(**{**arguments, "spec": spec, "net": NET, **changes})


def test_captions_are_hidden_whole_and_in_their_share():
    caption = torch.tensor([[2, 3, 4]]).expand(20_000, -1)
    hidden = made(drop=0.3).hidden(caption)
    rows = (hidden == -1).all(1)
    assert torch.equal(hidden[~rows], caption[~rows])
    assert float(rows.double().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(made(drop=0.0).hidden(caption), caption)


def test_guidance_goes_from_no_caption_towards_it():
    torch.manual_seed(0)
    method = made("model.guidance.scale=3").double()
    x, caption = torch.randn(4, 1, 4, 4).double(), torch.randint(2, 5, (4, 3))
    t = torch.tensor(0.6, dtype=torch.float64)
    times = t.expand(4)
    none, told = method.denoise(x, times), method.denoise(x, times, caption)
    assert (told - none).abs().max() > 1e-3
    torch.testing.assert_close(method.field(caption).data(x, t), none + 3 * (told - none))


def test_draws_of_captions_have_their_shape_and_no_caption_needs_no_guidance():
    torch.manual_seed(0)
    method = made("model.timesteps.steps=4")
    assert method.sample_for(torch.full((5, 3), 3)).shape == (5, 1, 4, 4)
    torch.manual_seed(1)
    draws = method.sample(5)
    with method.steered(guidance={"_target_": "modules.generative.guidance.base.Unguided"}):
        torch.manual_seed(1)
        torch.testing.assert_close(method.sample(5), draws, rtol=1e-4, atol=1e-5)


def test_a_loss_of_a_batch_by_hand(monkeypatch):
    """v = alpha eps - sigma x_0, and a network that predicts 0."""
    method = made(drop=0.0)
    monkeypatch.setattr(method, "predict", lambda x, t, y: torch.zeros_like(x))
    x, noise = torch.randn(2, 3, 1, 4, 4).unbind(0)
    monkeypatch.setattr(method, "noised", lambda data: (data, torch.full((3,), 0.5), noise))
    alpha, sigma = (float(of(torch.tensor(0.5))) for of in (method.path.alpha, method.path.sigma))
    want = (alpha * noise - sigma * x).square().mean()
    loss = method.loss(Captioned(x, torch.zeros(3, 3, dtype=torch.long)))
    torch.testing.assert_close(loss, want, rtol=1e-5, atol=0)


def test_it_begins_with_the_weights_of_a_checkpoint(tmp_path):
    first = made()
    trainer = Trainer(logger=False, enable_checkpointing=False, default_root_dir=tmp_path, accelerator="cpu")
    trainer.strategy.connect(first)
    trainer.save_checkpoint(tmp_path / "first.ckpt", weights_only=True)
    second = made(model=str(tmp_path / "first.ckpt"), net={**NET, "tenor": True})
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert second.hparams["model"] is None
    with pytest.raises(UserError, match="does not fit"):
        made(model=str(tmp_path / "first.ckpt"), net={**NET, "width": 8})


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match=r"model\.drop=1"):
        made(drop=1.0)
    with pytest.raises(UserError, match="without captions"):
        made(spec=SPEC.but(words=(), caption=None))
