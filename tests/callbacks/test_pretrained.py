"""What a run leaves behind for transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from callbacks.pretrained import Pretrained
from compendium.compose import compose
from compendium.engine import build, fit
from compendium.errors import UserError
from compendium.run import Run, identity
from modules.method import Method
from tests.modules.test_contract import planned, trained

transformers = pytest.importorskip("transformers")

SMALL = ("net=hf", "net.width=8", "net.depth=1", "net.heads=1", "optimizer.lr=0.1")


def folder_of(parts):
    return Path(parts.trainer.default_root_dir)


def test_transformers_opens_what_was_trained_and_how_it_reads(tmp_path):
    small = ("data=requests", "data.train=64", "data.validation=8", "data.test=8")
    parts = build(planned("preference/fine_tuning", tmp_path, *SMALL, *small, "net.lora=2"))
    parts.logger.rewind(0)
    for _ in range(2):  # what is there is replaced
        parts.trainer.fit(parts.method, parts.data)
    folder = folder_of(parts) / "pretrained"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompt = parts.data.dialogues.prompts[0]
    ids = torch.tensor(tokenizer.encode(prompt))[None]
    assert torch.equal(ids[0], parts.data.tokenizer.encoded(prompt)[0])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, parts.method.eval().net(ids), atol=1e-5, rtol=1e-5)
    assert model.generation_config.eos_token_id == parts.data.end == tokenizer.eos_token_id
    assert not [path.name for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_it_is_the_best_where_a_figure_is_monitored(tmp_path):
    more = ("callbacks=default", "callbacks.checkpoint.monitor=validate/entropy", "callbacks.checkpoint.mode=max")
    run = planned("preference/fine_tuning", tmp_path, *SMALL, *more, "trainer.max_epochs=3", "optimizer.lr=0.05")
    parts = build(run)
    fit(run, parts)
    best, last = (
        Method.load_from_checkpoint(folder_of(parts) / f"checkpoints/{name}.ckpt").net for name in ("best", "last")
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(folder_of(parts) / "pretrained").eval()
    ids = torch.randint(16, (5, 2))
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, best(ids))
        assert not torch.allclose(model(ids).logits, last(ids))


def test_others_are_left_alone(tmp_path):
    parts = trained(
        planned(
            "preference/fine_tuning", tmp_path / "a", "+callbacks.pretrained._target_=callbacks.pretrained.Pretrained"
        )
    )
    assert any(isinstance(callback, Pretrained) for callback in parts.trainer.callbacks)
    assert not (folder_of(parts) / "pretrained").exists()
    parts = trained(planned("preference/fine_tuning", tmp_path / "b", *SMALL, "callbacks.pretrained=null"))
    assert not (folder_of(parts) / "pretrained").exists()


def test_only_runs_with_such_a_network_know_of_it():
    for model in ("preference/fine_tuning", "language/language_model"):
        composed = compose([f"model={model}"])
        assert "pretrained" not in composed.values["callbacks"]
    composed = compose(["model=preference/fine_tuning", "net=hf"])
    assert composed.values["callbacks"]["pretrained"] == {"_target_": "callbacks.pretrained.Pretrained"}
    assert set(composed.choices) == set(compose(["model=preference/fine_tuning"]).choices)
    assert identity(Run.plan(composed).config)


def test_a_folder_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, folder, end):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modules.networks.hugging_face.CausalLM.save_pretrained", full)
    with pytest.raises(UserError, match=r"cannot write .*pretrained: .*No space left"):
        trained(planned("preference/fine_tuning", tmp_path, *SMALL))
    assert not list(tmp_path.rglob("*pretrained*"))
