"""Tokens per second of rollouts: `modules.language.generation.write` with `net=hf` beside `model.generate`, with which
trl's online trainers draw answers, and the most memory that each takes.

The same Llama, drawn at random, the same prompts, several answers to each, all of the same length, drawn at temperature
1 in float32. As in trl, prompts are repeated for their answers and filled up on the left. A token counts if it is one
of an answer.

    python -m benchmarks.preference.rollouts [--pairs 5]
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from benchmarks.preference.peers import asked, compared, measured
from modules.language.generation import write
from modules.networks.hugging_face import CausalLM

CASES: dict[str, dict[str, Any]] = {
    "smoke": {"prompts": 2, "samples": 2, "prompt": (2, 3), "answer": 4, "vocabulary": 64, "width": 16, "depth": 1},
    "prompts of 32": {
        "prompts": 8, "samples": 4, "prompt": (32, 32), "answer": 64, "vocabulary": 1024, "width": 128, "depth": 4,
    },
    "prompts of 16 to 48": {
        "prompts": 8, "samples": 4, "prompt": (16, 48), "answer": 64, "vocabulary": 1024, "width": 128, "depth": 4,
    },
    "prompts of 16 to 48, wide": {
        "prompts": 8, "samples": 4, "prompt": (16, 48), "answer": 64, "vocabulary": 8192, "width": 256, "depth": 4,
    },
    "prompts of 128, wide": {
        "prompts": 4, "samples": 4, "prompt": (128, 128), "answer": 64, "vocabulary": 8192, "width": 256, "depth": 4,
    },
}  # fmt: skip
SIDES = ("Compendium", "model.generate")


def ours(net: CausalLM, prompts: Tensor, lengths: Tensor, size: dict[str, Any]) -> None:
    write(net, prompts, lengths, size["answer"], samples=size["samples"])


def theirs(net: CausalLM, prompts: Tensor, lengths: Tensor, size: dict[str, Any]) -> None:
    """As trl's GRPOTrainer: filled up on the left, with a mask, in one call."""
    from transformers import GenerationConfig

    longest = prompts.shape[1]
    place = torch.arange(longest, device=prompts.device) - (longest - lengths)[:, None]
    mask = (place >= 0).long()
    ids = prompts.gather(1, place.clamp_min(0)) * mask
    ids, mask = ids.repeat_interleave(size["samples"], 0), mask.repeat_interleave(size["samples"], 0)
    drawn = GenerationConfig(
        max_new_tokens=size["answer"], min_new_tokens=size["answer"], do_sample=True, temperature=1.0, top_k=0,
        top_p=1.0, pad_token_id=0,
    )  # fmt: skip
    with torch.no_grad():
        net.model.generate(input_ids=ids, attention_mask=mask, generation_config=drawn)


def side(name: str, case: str) -> None:
    """Measure one side, and print the figures as JSON."""
    torch.set_num_threads(1)
    size = CASES[case]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    shape = (size["prompt"][1] + size["answer"],), (size["vocabulary"],)
    net = CausalLM(*shape, width=size["width"], depth=size["depth"]).eval().to(device)
    lengths = torch.linspace(*size["prompt"], size["prompts"]).round().long()
    prompts = torch.randint(1, size["vocabulary"], (size["prompts"], size["prompt"][1]))
    prompts = torch.where(torch.arange(prompts.shape[1]) < lengths[:, None], prompts, 0)
    work = ours if name == SIDES[0] else theirs
    work(net, prompts.to(device), lengths.to(device), size | {"answer": 2})  # not counted
    found = measured(lambda: work(net, prompts.to(device), lengths.to(device), size))
    print(json.dumps(found | {"tokens": size["prompts"] * size["samples"] * size["answer"]}))


def main(pairs: int = 5, cases: tuple[str, ...] = tuple(CASES)[1:]) -> None:
    """Print the tables."""
    compared("benchmarks.preference.rollouts", "rollouts", SIDES, cases, pairs)


if __name__ == "__main__":
    given = asked(__doc__, SIDES, tuple(CASES))
    side(given.side, given.case) if given.side else main(given.pairs)
