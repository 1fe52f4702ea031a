"""Any causal language model of Hugging Face's transformers, as the network of every method over tokens."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from compendium.errors import UserError, did_you_mean
from compendium.extras import require
from compendium.hub import opened
from modules.networks.hugging_face_cache import Past, Reread

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}

PORTION = 512
"""Places whose logits are there at once, where there are many."""
FEW = 2**22
"""Logits that are kept for the way back rather than computed anew: 16 MiB in float32."""


class CausalLM(nn.Module):
    """A causal language model of `transformers`: one that was trained before, or a small one drawn at random.

    Texts are padded on the right, where no position before sees them, so that no attention mask is needed. Nothing is
    fetched unless `pretrained` names a model of the hub that is not on this machine yet. A checkpoint of a method keeps
    the model's config beside its weights, and opens without the folder that the model came from.

    Where the model has more tokens than the data, as models have whose embeddings were rounded up, the logits of the
    others are left out: what is drawn is always a token of the data.

    Args:
        in_shape: (context,), the longest text that it has to read.
        out_shape: (vocabulary,).
        pretrained: a folder in Hugging Face's layout or `owner/name` on the hub; None: drawn at random, from the
            family's own law of first weights.
        revision: branch, tag or commit on the hub; name a commit to be sure of the same weights for ever.
        family: `model_type` of transformers, for a model that is drawn: llama, gpt2, mistral, qwen3, ...
        width: of its residual stream; hidden layers of its MLPs have 4 widths. The three sizes are those of
            `net=transformer`.
        depth: number of its blocks.
        heads: of each attention, of keys and values too.
        config: values of transformers' config that win over all others; a checkpoint keeps the whole config here.
        dtype: of the weights: float32, bfloat16, float16, float64.
        dropout: everywhere where the family has one. None is the default, also of trl's trainers for preferences:
            with it ln pi and ln pi_ref would be those of networks drawn at random.
        lora: rank of low-rank adapters (Hu et al. 2022) that alone are trained; null: all weights are. Once they are
            there, `without_adapter` gives the logits of the model as it was.
        lora_alpha: their sum is scaled by alpha / rank; peft's default.
        lora_dropout: on what they read; peft's default.
        lora_targets: names of the layers that get one, as peft takes them; null: all linear layers but the last.
        gradient_checkpointing: compute activations anew on the way back, for memory.

    Raises:
        UserError: transformers or peft not installed, no such folder, model, family, dtype or layer, no network,
            weights that are missing, a vocabulary or context smaller than the data's, a model that is not causal.
    """

    kinds = ("text",)

    def __init__(
        self,
        in_shape: tuple[int],
        out_shape: tuple[int],
        pretrained: str | None = None,
        revision: str | None = None,
        family: str = "llama",
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        config: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        dropout: float = 0.0,
        lora: int | None = None,
        lora_alpha: float = 8.0,
        lora_dropout: float = 0.0,
        lora_targets: Sequence[str] | str | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise UserError(f"net.dtype={dtype} is unknown.", did_you_mean(dtype, DTYPES))
        if not 0 <= dropout < 1 or not 0 <= lora_dropout < 1 or (lora is not None and lora < 1):
            values = f"net.dropout={dropout} net.lora={lora} net.lora_dropout={lora_dropout}"
            raise UserError(f"{values}: in [0, 1), at least 1 or null, and in [0, 1).")
        (self.context,), (self.vocabulary,) = in_shape, out_shape
        library, config = transformers(), dict(config or {})
        if pretrained is not None:
            self.model = trained(library, pretrained, revision, config, DTYPES[dtype], dropout)
        else:
            if "model_type" not in config:
                if width % heads:
                    raise UserError(f"net.heads={heads} do not divide net.width={width}.")
                sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
                texts = {"vocab_size": self.vocabulary, "max_position_embeddings": self.context}
                config = drawn(library, family, sizes | texts) | config
            self.model = built(library, config, DTYPES[dtype], dropout)
        said = self.model.config.get_text_config()
        self.features = said.hidden_size
        self.check(f"net.pretrained={pretrained}" if pretrained else "net.config", said)
        self.settled = {"pretrained": None, "revision": None, "config": self.model.config.to_dict()}
        """What a config of this network changes to, so that it can be built without the folder that it came from."""
        parameters = inspect.signature(self.model.forward).parameters
        self.past = next((name for name in ("cache", "past_key_values") if name in parameters), None)
        self.adapted = lora is not None
        if lora is not None:
            self.adapt(lora, lora_alpha, lora_dropout, lora_targets)
        if gradient_checkpointing:
            if not self.model.supports_gradient_checkpointing:
                raise UserError(f"a {said.model_type} cannot compute activations anew.", "gradient_checkpointing=false")
            old = self.model.gradient_checkpointing_enable  # its name up to transformers 5
            getattr(self.model, "activation_checkpointing_enable", old)({"use_reentrant": False})
        self.train()  # as all other networks begin

    def check(self, where: str, said: Any) -> None:
        """Refuse models that do not read the data's texts, or read them in both directions."""
        rows = self.model.get_input_embeddings().num_embeddings
        if rows < self.vocabulary:
            raise UserError(
                f"{where} knows {rows} tokens, and the data has {self.vocabulary}.", "take the model's own tokenizer"
            )
        longest = getattr(said, "max_position_embeddings", None)
        if longest is not None and longest < self.context:
            raise UserError(
                f"{where} reads {longest} tokens, and texts of the data have up to {self.context}.",
                "take shorter texts, or a model that reads longer ones",
            )
        with torch.no_grad(), reported(f"{where} does not run"):
            ids = torch.tensor([[0, 0], [0, 1]])[:, : self.context].clamp_max(self.vocabulary - 1)
            logits = self.eval()(ids)
            last = self.model.get_output_embeddings()
            # Some families scale their logits, or do not let them grow: these go through the model's own forward.
            self.plain = last is not None and last(self.embed(ids))[..., : self.vocabulary].equal(logits)
        if ids.shape[1] > 1:
            one, other = logits[:, 0].float()
            if (one - other).abs().max() > 1e-3 * one.abs().max():
                raise UserError(f"{where} is not causal: what it says of a token depends on those after it.")

    def adapt(self, rank: int, alpha: float, dropout: float, targets: Sequence[str] | str | None) -> None:
        """Put low-rank adapters beside linear layers and freeze all else."""
        peft = require("peft", extra="language", needed_by=f"net.lora={rank}")
        names = "all-linear" if targets is None else targets if isinstance(targets, str) else list(targets)
        with warnings.catch_warnings(), reported(f"net.lora_targets={targets} do not fit"):
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")  # it sees which layers are transposed
            lora = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)
            peft.inject_adapter_in_model(lora, self.model)

    def forward(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T), T up to the context -> logits (B, T, vocabulary) of each next token, in `dtype`."""
        return self.model(input_ids=ids, use_cache=False).logits[..., : self.vocabulary]

    def token_log_probs(self, ids: Tensor, answer: Tensor) -> Tensor:
        """See `modules.preference.policy.token_log_probs`: ln p of the tokens of answers (B, T - 1), 0 elsewhere.

        What stands at t is of the token at t + 1. The last layer sees the answers' places alone, a portion at a time,
        whose logits are computed anew on the way back: of all (B, T, vocabulary), a portion is there at once. In
        float32 at least.
        """
        wanted = answer[:, 1:]
        if not self.plain:
            return torch.where(wanted, picked(self(ids[:, :-1]), ids[:, 1:]), 0.0)
        hidden, token = self.embed(ids[:, :-1])[wanted], ids[:, 1:][wanted]
        if len(hidden) * self.vocabulary <= FEW:
            found = self.said(hidden, token)
        else:
            portions = zip(hidden.split(PORTION), token.split(PORTION), strict=True)
            found = torch.cat([checkpoint(self.said, *portion, use_reentrant=False) for portion in portions])
        return found.new_zeros(wanted.shape).masked_scatter(wanted, found)

    def said(self, hidden: Tensor, token: Tensor) -> Tensor:
        """Features before the last layer (n, features), and what came next int64 (n,) -> its ln p (n,)."""
        return picked(self.model.get_output_embeddings()(hidden)[:, : self.vocabulary], token)

    def embed(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T) -> features before the last layer (B, T, features), of each token and those before it."""
        return self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids int64 (B, T) -> features (B, T, features), as `embed`, and logits (B, T, vocabulary), in one pass."""
        told = self.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        return told.hidden_states[-1], told.logits[..., : self.vocabulary]

    def cache(self, rows: int, length: int) -> Past | Reread:
        """See `modules.networks.cache.CachedNet`."""
        if length > self.context:
            raise UserError(f"a text of {length} tokens is longer than the {self.context} that this model reads.")
        past = Past.empty(transformers(), self.model.config, length) if self.past else None
        return past or Reread(torch.empty(rows, 0, dtype=torch.long, device=self.model.device))

    @torch.no_grad()
    def advance(self, ids: Tensor, cache: Past | Reread, keep: int | None = None) -> Tensor:
        """See `modules.networks.cache.CachedNet`."""
        new = ids.shape[1]
        cache.length += new
        if isinstance(cache, Reread):
            cache.ids = torch.cat([cache.ids, ids], 1)
            return self(cache.ids)[:, -(keep or new) :]
        assert self.past is not None
        said = {self.past: cache.kept, "use_cache": True, "logits_to_keep": keep or 0}
        return self.model(input_ids=ids, **said).logits[..., : self.vocabulary]

    @contextmanager
    def without_adapter(self) -> Iterator[Self]:
        """In this context it is the model that the adapters were put beside: `with net.without_adapter(): net(ids)`.

        Raises:
            UserError: there are no adapters, so that nothing is left of the model as it was.
        """
        if not self.adapted:
            raise UserError(
                "net.lora=null: all weights are trained, and the model as it was is not kept.", "net.lora=8"
            )
        flags = {weight: weight.requires_grad for weight in self.parameters()}
        try:
            for _, layer in self.adapters():
                layer.enable_adapters(False)
            yield self
        finally:
            for _, layer in self.adapters():
                layer.enable_adapters(True)
            for weight, flag in flags.items():
                weight.requires_grad_(flag)

    def adapters(self) -> list[tuple[str, Any]]:
        """The layers with an adapter, by their names in the model."""
        return [(name, layer) for name, layer in self.model.named_modules() if hasattr(layer, "get_delta_weight")]

    @torch.no_grad()
    def plain_state(self) -> dict[str, Tensor]:
        """The weights by the names that they have without adapters, which are added to them."""
        state = self.model.state_dict()
        for name, layer in self.adapters():
            weight = state[f"{name}.base_layer.weight"]
            state[f"{name}.base_layer.weight"] = weight + layer.get_delta_weight("default").to(weight.dtype)
        return {name.replace(".base_layer.", "."): weight for name, weight in state.items() if ".lora_" not in name}

    def begin_as(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the `plain_state` of another such model: adapters, which are nothing yet, stay beside it."""
        own = {name.replace(".base_layer.", "."): name for name in self.model.state_dict() if ".lora_" not in name}
        self.model.load_state_dict({own[name]: weight for name, weight in state.items()}, strict=False)

    def save_pretrained(self, folder: str | Path, end: int | None = None) -> None:
        """Write what `AutoModelForCausalLM.from_pretrained(folder)` opens; adapters are added to the weights.

        Args:
            folder: which is made where there is none.
            end: the token that ends a text, where the model knows of none.
        """
        transformers()
        if end is not None and self.model.generation_config.eos_token_id is None:
            self.model.config.eos_token_id = self.model.generation_config.eos_token_id = end
        self.model.save_pretrained(folder, state_dict=self.plain_state())


def picked(logits: Tensor, token: Tensor) -> Tensor:
    """Logits (..., vocabulary) and tokens int64 (...) -> ln p of these (...), float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.gather(-1, token[..., None]).squeeze(-1) - logits.logsumexp(-1)


def transformers() -> Any:
    """The library, which says nothing from here on: what matters of its messages is raised as an error."""
    library = require("transformers", extra="language", needed_by="net=hf")
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def drawn(library: Any, family: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """A whole config of a family at these sizes, as plain values."""
    families = library.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if family not in families:
        raise UserError(
            f"net.family={family} is no causal language model of transformers.", did_you_mean(family, families)
        )
    usual = library.AutoConfig.for_model(family)
    width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    more = {"intermediate_size": 4 * width, "ffn_dim": 4 * width, "word_embed_proj_dim": width}
    more |= {"num_key_value_heads": heads, "head_dim": width // heads}
    # Its own special tokens are numbers of another vocabulary.
    more |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    more = {name: value for name, value in more.items() if name in vars(usual)}
    with reported(f"net.family={family} does not take these sizes"):
        return library.AutoConfig.for_model(family, **sizes, **more).to_dict()


def built(library: Any, values: Mapping[str, Any], dtype: torch.dtype, dropout: float) -> Any:
    """A model that is drawn at random from its whole config."""
    with reported(f"net.config makes no {values['model_type']}"):
        config = library.AutoConfig.for_model(**values)
        return library.AutoModelForCausalLM.from_config(changed(config, {}, dropout), dtype=dtype)


def trained(
    library: Any, name: str, revision: str | None, changes: Mapping[str, Any], dtype: torch.dtype, dropout: float
) -> Any:
    """A model of a folder or of the hub, all of whose weights are there."""

    def load(path: str, **options: Any) -> Any:
        config = changed(library.AutoConfig.from_pretrained(path, **options), changes, dropout)
        model = library.AutoModelForCausalLM
        return model.from_pretrained(path, config=config, dtype=dtype, output_loading_info=True, **options)

    options = {"revision": revision, "trust_remote_code": False}
    with reported(f"net.pretrained={name} does not load"):
        model, info = opened(load, name, "net.pretrained", "causal language model", **options)
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"net.pretrained={name} lacks weights: {', '.join(missing[:3])}"
            + (f" and {len(missing) - 3} more." if len(missing) > 3 else "."),
            "give a folder that save_pretrained wrote for a causal language model",
        )
    return model


def changed(config: Any, changes: Mapping[str, Any], dropout: float) -> Any:
    """A config with dropout everywhere where it has one, and with changes."""
    names = [name for name in config.to_dict() if name.endswith(("dropout", "pdrop", "dropout_prob", "dropout_rate"))]
    config.update(dict.fromkeys(names, dropout) | dict(changes))
    return config


@contextmanager
def reported(what: str) -> Iterator[None]:
    """What transformers and peft raise in here, of whichever type, as one line.

    Raises:
        UserError: with the beginning of their message.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        inner = error.__cause__ if isinstance(error.__cause__, ValueError) else error
        line = next(iter(str(inner).strip().splitlines()), type(inner).__name__)
        raise UserError(f"{what}: {line[:200]}") from error
