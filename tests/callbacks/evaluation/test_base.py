"""What all evaluations have in common."""

from __future__ import annotations

import copy
import gc
import math
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger

from callbacks.evaluation import base
from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.classification import Classification
from callbacks.evaluation.density import Likelihood
from compendium.config import CONF, choices, instantiate, signature, summary
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, FakeEverything, Line, evaluate


class Watch(Evaluation):
    """Asks, and remembers what was kept."""

    capabilities = ()
    batch_type = Labelled

    def start(self, method, data):
        self.records = 0

    def update(self, method, batch):
        assert self.ask(method, "predict_log_proba", batch.x) is self.ask(method, "predict_log_proba", batch.x)
        self.records += len(batch.x)
        assert len(base._ASKED[method]) == 1

    def compute(self, method, data):
        assert method not in base._ASKED
        return {"records": self.records, "third": 1 / 3}


def test_a_capability_is_asked_once_per_batch_and_forgotten(tmp_path):
    method, data = FakeEverything(), LabelledData(Digits(), eval_batch_size=100)
    got = evaluate(method, data, Watch(), Classification(), folder=tmp_path)
    assert method.asked == 4
    assert got["records"] == 359
    assert got["third"] == 1 / 3  # float64
    gc.collect()
    assert method not in base._ASKED
    for other in (copy.deepcopy(method), pickle.loads(pickle.dumps(method))):
        assert not any("asked" in name and name != "asked" for name in vars(other))


def test_stages_and_why_not(tmp_path):
    with pytest.raises(UserError, match="no stage tset"):
        Classification(stages=["tset"])
    data = LabelledData(Line())
    assert Classification().why_not(FakeEverything(), data.batch_type, data.spec) == "the target is no class"
    assert Classification().why_not(Fake(), data.batch_type, data.spec) == "Fake is no Classifier"
    evaluation = Classification(stages=["validate"])
    assert evaluate(FakeEverything(), LabelledData(Digits()), evaluation, folder=tmp_path) == {}
    assert evaluation.active


def test_two_evaluations_with_one_name_both_keep_their_figure(tmp_path):
    data = LabelledData(Digits(), scale="symmetric")
    got = evaluate(FakeEverything(), data, Classification(), Likelihood(), folder=tmp_path)
    assert got["density_nll"] > 64 * math.log(2 * math.pi) / 2 > got["nll"]


def test_loggers_get_full_precision_and_monitors_a_copy(tmp_path):
    trainer = Trainer(
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        enable_progress_bar=False,
        enable_checkpointing=False,
        callbacks=[Watch()],
        default_root_dir=tmp_path,
    )
    trainer.validate(FakeEverything(), datamodule=LabelledData(Digits()), verbose=False)
    assert trainer.callback_metrics["validate/third"].item() == torch.tensor(1 / 3).item()
    (log,) = Path(tmp_path).rglob("metrics.csv")
    assert str(1 / 3) in log.read_text()


def test_a_sanity_check_logs_nothing_and_fit_once_per_validation(tmp_path):
    class Trained(FakeEverything):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch, batch_idx):
            return self.bias.square()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class Counted(CSVLogger):
        logged = 0

        def log_metrics(self, metrics, step=None):
            self.logged += "validate/third" in metrics
            super().log_metrics(metrics, step)

    logger = Counted(tmp_path)
    trainer = Trainer(
        accelerator="cpu",
        logger=logger,
        max_epochs=2,
        num_sanity_val_steps=2,
        enable_progress_bar=False,
        enable_checkpointing=False,
        callbacks=[Watch()],
        default_root_dir=tmp_path,
    )
    trainer.fit(Trained(), datamodule=LabelledData(Digits()))
    assert logger.logged == 2


def test_positions_join_to_the_whole_split():
    class Shares:
        eval_batch_size = 10
        rows = {"test": torch.arange(23)}

        def __init__(self, rank):
            self.share = (rank, 3)

    evaluation = Watch()
    evaluation.split = "test"
    for batch, expected in ((0, range(10)), (1, range(10, 20)), (2, range(20, 23))):
        evaluation.batch_idx = batch
        assert torch.cat([evaluation.positions(Shares(rank)) for rank in range(3)]).tolist() == list(expected)


@pytest.mark.parametrize("name", sorted(choices("callbacks/evaluation")))
def test_configs_name_every_argument_with_its_default(name):
    path = CONF / "callbacks" / "evaluation" / f"{name}.yaml"
    assert summary(path)[0].endswith(".")
    node = yaml.safe_load(path.read_text())
    evaluation = instantiate(node)
    arguments, _, _ = signature(type(evaluation))
    assert set(node) - {"_target_"} == set(arguments)
    default = type(evaluation)()
    assert evaluation.name == name
    for argument in arguments:
        value = getattr(default, argument)
        assert node[argument] == (list(value) if isinstance(value, tuple) else value), argument
