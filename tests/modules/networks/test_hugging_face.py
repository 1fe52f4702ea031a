"""Models of transformers as networks: their own logits, adapters beside them, and folders that may go."""

from __future__ import annotations

import copy
import shutil
import sys
from pathlib import Path

import pytest
import torch

from compendium.errors import UserError
from modules.method import Method
from modules.networks.cache import CachedNet
from modules.networks.hugging_face import CausalLM
from tests.modules.test_contract import planned, trained

transformers = pytest.importorskip("transformers")

SIZES = {"width": 16, "depth": 2, "heads": 2}
GROUPED = {"num_key_value_heads": 1}


def net(context=12, vocabulary=20, seed=0, **arguments):
    torch.manual_seed(seed)
    return CausalLM((context,), (vocabulary,), **SIZES | arguments).eval()


def texts(rows=3, length=12):
    return torch.randint(20, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What transformers writes of a Llama with 24 tokens, in several files."""
    path = tmp_path_factory.mktemp("llama")
    config = transformers.LlamaConfig(
        vocab_size=24, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(5)
    transformers.LlamaForCausalLM(config).save_pretrained(path, max_shard_size="8KB")
    assert len(list(path.glob("model-*-of-*.safetensors"))) > 1
    return path


@torch.no_grad()
def test_a_folder_has_its_own_logits_without_those_of_tokens_that_the_data_lacks(folder, capfd):
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    capfd.readouterr()
    ours = net(pretrained=str(folder))
    ids = texts()
    expected = theirs(ids, output_hidden_states=True)
    torch.testing.assert_close(ours(ids), expected.logits[..., :20], rtol=0, atol=0)
    torch.testing.assert_close(ours.embed(ids), expected.hidden_states[-1], rtol=0, atol=0)
    assert ours.embed(ids).shape == (3, 12, ours.features)
    padded = torch.cat([ids, torch.zeros(3, 4, dtype=torch.long)], 1)
    mask = torch.arange(16).expand(3, 16) < 12
    torch.testing.assert_close(
        net(context=16, pretrained=str(folder))(padded)[:, :12],
        theirs(padded, attention_mask=mask.long()).logits[:, :12, :20],
    )
    assert net(pretrained=str(folder), dtype="bfloat16")(ids).dtype == torch.bfloat16
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "arguments",
    [
        {"family": "llama", "config": GROUPED},
        {"family": "gpt2"},
        {"family": "opt"},
        {"family": "mistral", "config": {"sliding_window": 4}},
        {"family": "mamba"},
        {"family": "gpt2", "lora": 2},
    ],
    ids=lambda arguments: "-".join(map(str, arguments.values())),
)
@torch.no_grad()
def test_pieces_have_the_logits_of_the_whole_text_also_of_selected_rows(arguments):
    model = net(dtype="float64", **arguments)
    for weight in model.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.3)
    ids, rows = texts(), torch.tensor([2, 0, 0])
    expected = model(ids)
    assert isinstance(model, CachedNet)
    cache = model.cache(3, 12)
    found = [model.advance(piece, cache) for piece in ids[:, :8].split((5, 1, 2), 1)]
    torch.testing.assert_close(torch.cat(found, 1), expected[:, :8], rtol=1e-10, atol=1e-12)
    chosen = cache.select(rows)
    ends = torch.cat([model.advance(ids[rows, place, None], chosen) for place in range(8, 12)], 1)
    torch.testing.assert_close(ends, expected[rows, 8:], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.advance(ids[:, 8:], cache, keep=2), expected[:, 10:], rtol=1e-10, atol=1e-12)
    assert (cache.length, chosen.length) == (12, 12)
    grown, begun = model.cache(3, 12), model.cache(2, 12)
    model.advance(ids[:, :6], grown)
    model.advance(ids[:, 6:7], grown)
    model.advance(ids[:2, :7], begun)
    joined = model.advance(ids[[0, 1, 2, 0, 1], 7, None], grown.join(begun))[:, 0]
    torch.testing.assert_close(joined, expected[[0, 1, 2, 0, 1], 7], rtol=1e-10, atol=1e-12)
    if "sliding_window" in arguments.get("config", {}):
        with pytest.raises(UserError, match="cannot take back"):
            cache.crop(9)
    else:
        cache.crop(9)
        torch.testing.assert_close(model.advance(ids[:, 9:], cache), expected[:, 9:], rtol=1e-10, atol=1e-12)
    with pytest.raises(UserError, match="a text of 13 tokens"):
        model.cache(1, 13)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_adapters_alone_are_trained_and_without_them_it_is_the_model_as_it_was(family, tmp_path):
    base, ids = net(family=family), texts()
    model = net(family=family, lora=2, lora_alpha=6.0)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    with torch.no_grad():
        assert torch.equal(model(ids), base(ids)), "an adapter begins at nothing"
        for weight in trained.values():
            torch.nn.init.normal_(weight, std=0.3)
        assert not torch.allclose(model(ids), base(ids), atol=1e-3)
        with model.without_adapter():
            assert torch.equal(model(ids), base(ids))
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == set(trained)
    still = copy.deepcopy(model).requires_grad_(False)
    with still.without_adapter():
        pass
    assert not any(weight.requires_grad for weight in still.parameters())
    # The adapter is alpha / rank B A, which the written model has in its weights.
    model.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model(ids), rtol=1e-5, atol=1e-5)
    name = "transformer.h.0.attn.c_attn" if family == "gpt2" else "model.layers.0.self_attn.q_proj"
    layer, plain = model.model.get_submodule(name), base.model.get_submodule(name)
    change = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * (6.0 / 2)
    change = change.T if family == "gpt2" else change
    torch.testing.assert_close(again.get_submodule(name).weight, plain.weight + change)


@pytest.mark.parametrize("before", [None, 2])
@pytest.mark.parametrize("after", [None, 3])
def test_it_goes_on_from_another_with_adapters_or_without(before, after):
    first, ids = net(lora=before), texts()
    for weight in first.parameters():
        torch.nn.init.normal_(weight, std=0.3) if weight.dim() == 2 else None
    second = net(seed=1, lora=after)
    second.begin_as(first.plain_state())
    with torch.no_grad():
        torch.testing.assert_close(second(ids), first(ids), rtol=1e-4, atol=1e-4)
        if after:
            with second.without_adapter():  # what it goes on from is its reference
                torch.testing.assert_close(second(ids), first(ids), rtol=1e-4, atol=1e-4)


def test_what_is_written_without_adapters_is_the_model(folder, tmp_path):
    model = net(pretrained=str(folder))
    model.save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(theirs(texts()).logits[..., :20], model(texts()))
    assert theirs.config.vocab_size == 24


@pytest.mark.parametrize("lora", [None, 2])
def test_a_checkpoint_opens_when_the_folder_is_gone(folder, tmp_path, lora):
    gone = tmp_path / "gone"
    shutil.copytree(folder, gone)
    small = ("net=hf", f"net.pretrained={gone}", f"net.lora={'null' if lora is None else lora}", "optimizer.lr=0.1")
    parts = trained(planned("preference/pairwise", tmp_path, *small))
    shutil.rmtree(gone)
    again = Method.load_from_checkpoint(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    assert again.hparams == parts.method.hparams
    ids = torch.randint(16, (4, 2))
    with torch.no_grad():
        assert torch.equal(again.net(ids), parts.method.eval().net(ids))
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)(ids).logits[..., :16]
        for one in (parts.method, again):
            with one.before() as reference:
                torch.testing.assert_close(reference(ids), theirs)
        assert not torch.allclose(again.net(ids), theirs, atol=1e-3)
    assert (again.reference is None) == (lora is not None)


def test_adapters_on_top_of_a_policy_leave_that_policy_as_the_reference(tmp_path):
    small = ("net=hf", "net.width=16", "net.depth=1", "net.heads=2", "optimizer.lr=0.1")
    first = trained(planned("preference/fine_tuning", tmp_path / "a", *small)).method.eval()
    path = tmp_path / "a.ckpt"
    torch.save(torch.load(next((tmp_path / "a").rglob("last.ckpt")), weights_only=True), path)
    second = trained(planned("preference/pairwise", tmp_path / "b", *small, "net.lora=2", f"model.model={path}")).method
    ids = torch.randint(16, (4, 2))
    with torch.no_grad():
        with second.eval().before() as reference:
            assert torch.equal(reference(ids), first.net(ids))
        assert not torch.allclose(second.net(ids), first.net(ids), atol=1e-3)


def test_a_config_is_all_that_builds_it_again():
    for family in ("gpt2", "llama", "mistral", "falcon"):
        model = net(family=family, dropout=0.2)
        again = net(family=family, dropout=0.2, **model.settled)
        assert again.settled == model.settled
        assert {name: tuple(weight.shape) for name, weight in again.state_dict().items()} == {
            name: tuple(weight.shape) for name, weight in model.state_dict().items()
        }


def test_tied_weights_stay_tied():
    model = net(family="gpt2")
    again = net(family="gpt2", seed=1, **model.settled)
    again.load_state_dict(model.state_dict())
    for one in (model, again, copy.deepcopy(model)):
        assert one.model.lm_head.weight is one.model.transformer.wte.weight
    assert torch.equal(again(texts()), model(texts()))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_dropout_acts_in_training_alone_and_is_none_at_first(family):
    ids = texts()
    assert torch.equal(net(family=family).train()(ids), net(family=family)(ids))
    model = net(family=family, dropout=0.5)
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))


def test_activations_computed_anew_give_the_same_gradients():
    gradients, kept = [], []
    for anew in (False, True):
        model = net(lora=2, gradient_checkpointing=anew, dtype="float64").train()
        torch.manual_seed(0)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, to=sizes: to.append(x.numel()) or x, lambda x: x):
            loss = model(texts()).square().sum()
        kept.append(sum(sizes))
        loss.backward()
        gradients.append([weight.grad for weight in model.parameters() if weight.requires_grad])
    torch.testing.assert_close(*gradients)
    assert kept[1] < 0.5 * kept[0]
    assert all(part.any() for part in gradients[0])


@pytest.mark.parametrize("few", [0, 10**9])
@pytest.mark.parametrize(
    "arguments", [{"family": "gpt2"}, {"lora": 2}, {"family": "gemma2", "config": {"final_logit_softcapping": 0.5}}]
)
def test_answers_tokens_have_the_log_probabilities_and_gradients_of_all_logits(monkeypatch, few, arguments):
    monkeypatch.setattr("modules.networks.hugging_face.FEW", few)
    monkeypatch.setattr("modules.networks.hugging_face.PORTION", 5)
    model = net(dtype="float64", **arguments)
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3) if weight.dim() == 2 else None
    ids = texts()
    answer = torch.tensor([[2, 9], [5, 6], [1, 12]])
    place = torch.arange(12)
    answer = (place >= answer[:, :1]) & (place < answer[:, 1:])
    expected = model(ids).log_softmax(2)[:, :-1].gather(2, ids[:, 1:, None])[..., 0] * answer[:, 1:]
    found = model.token_log_probs(ids, answer)
    assert model.plain == ("config" not in arguments)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = (torch.autograd.grad(one.square().sum(), weights, allow_unused=True) for one in (found, expected))
    for mine, theirs in zip(*gradients, strict=True):
        # Gemma's norms compute in float32, whatever it is asked for.
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10 if model.plain else 1e-5)


def test_sizes_are_those_that_were_asked_for():
    model = net(context=9, vocabulary=21, family="gpt2", width=24, depth=3, heads=3)
    # GPT-2: embeddings, of a block 12 w^2 + 13 w, and the last norm.
    assert sum(weight.numel() for weight in model.parameters()) == (21 + 9) * 24 + 3 * (12 * 24**2 + 13 * 24) + 2 * 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": "./nowhere"}, "net.pretrained=./nowhere: there is no 'nowhere'"),
        ({"dtype": "flaot32"}, "net.dtype=flaot32 is unknown"),
        ({"family": "lama"}, r"net.family=lama is no causal language model(.|\n)*llama"),
        ({"family": "bert"}, "is not causal"),
        ({"heads": 3}, "net.heads=3 do not divide net.width=16"),
        ({"width": 18, "heads": 6}, "net.config does not run: "),
        ({"dropout": 1.0}, "net.dropout=1.0"),
        ({"lora": 0}, "net.lora=0"),
        ({"lora": 2, "lora_targets": ["nothing_of_that_name"]}, "net.lora_targets="),
        ({"config": {"model_type": "llama", "hidden_size": 15, "num_attention_heads": 2}}, "hidden size"),
    ],
)
def test_mistakes_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        net(**arguments)
    assert len(error.value.what.splitlines()) == 1


def test_folders_that_do_not_do(folder, tmp_path):
    with pytest.raises(UserError, match="knows 24 tokens, and the data has 25"):
        net(vocabulary=25, pretrained=str(folder))
    with pytest.raises(UserError, match="reads 32 tokens, and texts of the data have up to 40"):
        net(context=40, pretrained=str(folder))
    with pytest.raises(UserError, match="does not load"):
        net(pretrained=str(tmp_path))
    short = tmp_path / "short"
    shutil.copytree(folder, short)
    files = sorted(short.glob("*.safetensors"))
    files[0].write_bytes(files[0].read_bytes()[:100])
    with pytest.raises(UserError, match="does not load"):
        net(pretrained=str(short))
    part = tmp_path / "part"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    weights = {name: weight for name, weight in model.state_dict().items() if "layers.1" not in name}
    model.save_pretrained(part, state_dict=weights)
    with pytest.raises(UserError, match=r"lacks weights: model\.layers\.1\..* and \d more"):
        net(pretrained=str(part))
    with pytest.raises(UserError, match=r"net\.lora=null"), net().without_adapter():
        pass


def test_a_name_without_a_network_is_one_line_at_once(monkeypatch, capfd):
    monkeypatch.setattr("compendium.hub.answers", lambda endpoint: False)
    with pytest.raises(UserError, match="and the Hugging Face hub cannot be reached"):
        net(pretrained="nobody/no-such-model")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("package", "arguments"), [("transformers", {}), ("peft", {"lora": 2})])
def test_a_package_that_is_missing(monkeypatch, package, arguments):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package '{package}'(.|\n)*language"):
        net(**arguments)
