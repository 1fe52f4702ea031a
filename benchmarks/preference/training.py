"""Tokens per second of training by direct preference optimization: `model=preference/pairwise net=hf` beside trl's
`DPOTrainer`, and the most memory that each takes.

The same Llama, drawn at random, the same pairs, batch, number of epochs, and optimizer, all in float32 and without
computing activations anew. A token counts once for each epoch, whether of a prompt or an answer; what only fills texts
up counts for nothing. trl runs as it comes, where the reference is asked in every step, and with
`precompute_ref_log_probs`, where it is asked once before, as here; the time of that counts on all sides.

    python -m benchmarks.preference.training [--pairs 5]
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.preference.peers import asked, compared, measured, texts
from compendium.compose import compose
from compendium.engine import build
from compendium.run import Run

CASES: dict[str, dict[str, Any]] = {
    "smoke": {"pairs": 32, "vocabulary": 64, "prompt": (2, 4), "answer": (2, 4), "width": 16, "depth": 1, "batch": 8},
    "short answers": {
        "pairs": 256, "vocabulary": 256, "prompt": (4, 16), "answer": (4, 16), "width": 128, "depth": 4, "batch": 32,
    },
    "long answers": {
        "pairs": 16, "vocabulary": 8192, "prompt": (16, 64), "answer": (32, 128), "width": 256, "depth": 4, "batch": 8,
    },
}  # fmt: skip
EPOCHS = 3
"""trl's own default."""
SIDES = ("Compendium", "trl", "trl, reference beforehand")


def prepared(home: Path, case: str) -> Any:
    """The parts of our run, and in `home` the texts, the model as it begins, and the tokenizer."""
    size = CASES[case]
    texts(home / "texts.jsonl", size["pairs"], size["vocabulary"], size["prompt"], size["answer"])
    run = Run.plan(
        compose([
            "model=preference/pairwise", "net=hf", f"net.width={size['width']}", f"net.depth={size['depth']}",
            "net.heads=4", "data=dialogues", f"data.path={home}/texts.jsonl",
            f"datamodule.batch_size={size['batch']}", "datamodule.validation=0", "datamodule.test=0",
            "datamodule.drop_last=false", f"trainer.max_epochs={EPOCHS}", "trainer.limit_val_batches=0",
            "callbacks=bare", "callbacks.pretrained=null", "logger=none", "optimizer.lr=1.0e-5", "schedule=constant",
            f"trainer={'gpu' if torch.cuda.is_available() else 'cpu'}", f"runs={home}/runs",
        ])
    )  # fmt: skip
    run.freeze()
    parts = build(run)
    parts.logger.rewind(0)
    parts.method.net.save_pretrained(home / "model", end=parts.data.end)
    parts.data.tokenizer.save_pretrained(home / "model")
    return parts


def ours(parts: Any) -> dict[str, float]:
    return measured(lambda: parts.trainer.fit(parts.method, parts.data))


def theirs(home: Path, batch: int, beforehand: bool) -> dict[str, float]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    arguments = DPOConfig(
        output_dir=str(home / "trl"), per_device_train_batch_size=batch, num_train_epochs=EPOCHS, learning_rate=1e-5,
        lr_scheduler_type="constant", bf16=False, gradient_checkpointing=False, max_grad_norm=0.0, report_to="none",
        save_strategy="no", precompute_ref_log_probs=beforehand, disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    spent = 0.0

    class Timed(DPOTrainer):
        """Asks the reference while it is made, which counts, too."""

        def _precompute_ref_logps(self, *arguments: Any, **options: Any) -> Any:
            nonlocal spent
            asked = []
            ask = super()._precompute_ref_logps
            spent += measured(lambda: asked.append(ask(*arguments, **options)))["seconds"]
            return asked[0]

    trainer = Timed(
        model=AutoModelForCausalLM.from_pretrained(home / "model"),
        args=arguments,
        train_dataset=Dataset.from_json(str(home / "texts.jsonl")),
        processing_class=AutoTokenizer.from_pretrained(home / "model"),
    )
    found = measured(trainer.train)
    return found | {"seconds": found["seconds"] + spent}


def side(name: str, case: str) -> None:
    """Measure one side, and print the figures as JSON."""
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        parts = prepared(home, case)
        tokens = EPOCHS * int(parts.data.columns["length"].sum())
        batch = CASES[case]["batch"]
        found = ours(parts) if name == SIDES[0] else theirs(home, batch, beforehand=name == SIDES[2])
    print(json.dumps(found | {"tokens": tokens}))


def main(pairs: int = 5, cases: tuple[str, ...] = ("short answers", "long answers")) -> None:
    """Print the tables."""
    compared("benchmarks.preference.training", "training", SIDES, cases, pairs)


if __name__ == "__main__":
    given = asked(__doc__, SIDES, tuple(CASES))
    side(given.side, given.case) if given.side else main(given.pairs)
