"""The trained network in Hugging Face's layout."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lightning import Callback

from callbacks.checkpoint import Checkpoint
from compendium.errors import UserError
from compendium.restore import read_checkpoint
from compendium.run import short


class Pretrained(Callback):
    """At the end of a fit, `RUN/pretrained/` is what `AutoModelForCausalLM.from_pretrained` opens.

    Written are the weights that are tested: the best ones where a figure is monitored, else the last ones. With them
    goes the tokenizer, where the DataModule has one with `save_pretrained`. Methods whose network has no
    `save_pretrained` are left alone. `net=hf` brings this callback along, so that no other run's identity knows of it.

    Raises:
        UserError: the folder cannot be written.
    """

    def on_fit_end(self, trainer, pl_module):  # after `on_train_end`, where averages of weights take their place
        net = getattr(pl_module, "net", None)
        if trainer.global_rank or not hasattr(net, "save_pretrained"):
            return
        for callback in trainer.callbacks:
            if isinstance(callback, Checkpoint) and callback.monitor is not None:
                best = callback.path(trainer, "best")
                if best.is_file():
                    pl_module.restore(read_checkpoint(best)["state_dict"], best)
        data = trainer.datamodule
        tokenizer = getattr(data, "tokenizer", None)
        target = Path(trainer.default_root_dir) / "pretrained"
        new, old = (target.with_name(f".pretrained.{os.getpid()}.{age}") for age in ("new", "old"))
        try:
            new.mkdir(parents=True)
            net.save_pretrained(new, end=getattr(data, "end", None))
            if hasattr(tokenizer, "save_pretrained"):
                tokenizer.save_pretrained(new)
            if target.exists():
                target.rename(old)
            new.rename(target)
        except Exception as error:  # of whichever library writes: safetensors has an error of its own for a full disk
            raise UserError(
                f"cannot write {short(target)}: {next(iter(str(error).splitlines()), type(error).__name__)}",
                "Make room; Method.load_from_checkpoint(PATH).net.save_pretrained(FOLDER) writes it, too.",
            ) from error
        finally:
            for folder in (new, old):
                shutil.rmtree(folder, ignore_errors=True)
