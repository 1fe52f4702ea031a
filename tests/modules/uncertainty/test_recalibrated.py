"""A classifier with its calibrator in one checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compendium.errors import UserError
from modules.method import Method
from modules.uncertainty.recalibrated import Recalibrated
from tests.modules.test_contract import planned, trained

PLAIN = ("data=wine", "net=mlp", "net.width=8", "datamodule.validation=0.2")
TEMPERATURE = {"_target_": "modules.uncertainty.calibrators.parametric.Temperature"}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    parts = trained(planned("supervised/classifier", tmp_path_factory.mktemp("plain"), *PLAIN))
    return parts.method, Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt"


def test_its_checkpoint_needs_no_other_and_gives_the_same_probabilities(classifier, tmp_path):
    origin, path = classifier
    copy = tmp_path / "classifier.ckpt"
    copy.write_bytes(path.read_bytes())
    run = planned(
        "uncertainty/recalibrated", tmp_path, *PLAIN, f"model.model={copy}", "trainer.limit_train_batches=1.0"
    )
    parts = trained(run)
    copy.unlink()
    opened = Method.load_from_checkpoint(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    batch = parts.data.records("test")
    with torch.no_grad():
        plain = origin.eval().predict_log_proba(batch.x).double()
        ours = opened.predict_log_proba(batch.x)
    torch.testing.assert_close(ours, parts.method.eval().predict_log_proba(batch.x), rtol=0, atol=0)
    # By hand: the temperature of least loss on the held-out records, from a grid.
    held = parts.data.records("train")
    with torch.no_grad():
        noted = origin.predict_log_proba(held.x).double()
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64).exp()
    losses = torch.stack([torch.nn.functional.nll_loss((noted / t).log_softmax(1), held.y) for t in grid])
    best = grid[losses.argmin()]
    assert opened.calibrator.log_temperature.exp() == pytest.approx(float(best), rel=2e-3)
    torch.testing.assert_close(ours, (plain / best).log_softmax(1), rtol=0, atol=2e-2)
    assert torch.equal(ours.argmax(1), plain.argmax(1))


def test_an_epoch_is_validated_after_it_is_solved(classifier, tmp_path):
    _, path = classifier
    more = ("callbacks=default", "callbacks.evaluation=null", f"model.model={path}")
    evaluation = "++callbacks.evaluation.classification._target_=callbacks.evaluation.classification.Classification"
    parts = trained(planned("uncertainty/recalibrated", tmp_path, *PLAIN, *more, evaluation))
    logged = parts.trainer.callback_metrics["validate/nll"]
    batch = parts.data.records("validation")
    with torch.no_grad():
        ours = torch.nn.functional.nll_loss(parts.method.eval().predict_log_proba(batch.x), batch.y)
    assert float(logged) == pytest.approx(float(ours), rel=1e-6)
    assert parts.method.calibrator.log_temperature != 0


def test_a_checkpoint_of_other_classes_or_without_probabilities_is_refused(classifier, tmp_path):
    origin, path = classifier
    with pytest.raises(UserError, match="has the classes"):
        Recalibrated(origin.spec.but(classes=("a", "b", "c")), TEMPERATURE, model=str(path))
    regressor = trained(planned("supervised/regressor", tmp_path, "net=mlp", "net.width=8"))
    with pytest.raises(UserError, match="is a GaussianRegressor, no Classifier"):
        Recalibrated(origin.spec, TEMPERATURE, model=f"{regressor.trainer.default_root_dir}/checkpoints/last.ckpt")
