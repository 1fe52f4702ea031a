"""What a step draws is a function of where in the run it stands, and of nothing that happened before it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from compendium.seeding import derive, generator, reseed, seeded
from tests.command import here
from tests.compendium.quick import CLASSIFIER, only_folder

INTERPOLANT = (
    "model=generative/stochastic_interpolant",
    "data=moons",
    "data.train=128",
    "data.validation=64",
    "data.test=32",
    "net.vector.width=8",
    "net.vector.depth=1",
    "datamodule.batch_size=32",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "callbacks=bare",
    "callbacks.log.every=3",
    "model.likelihood_steps=1",
    "+callbacks.evaluation.density._target_=callbacks.evaluation.density.Likelihood",
    "+callbacks.evaluation.density.stages=[validate,test]",
)


@pytest.mark.parametrize("kind", [CLASSIFIER, INTERPOLANT], ids=["classifier", "interpolant"])
def test_how_often_is_evaluated_changes_no_weight(kind, tmp_path, capfd):
    states = []
    every = ("check_val_every_n_epoch=1", "check_val_every_n_epoch=50", "val_check_interval=2", "limit_val_batches=0")
    for number, often in enumerate(every):
        outcome = here(capfd, *kind, "logger=none", f"runs={tmp_path}/{number}", f"trainer.{often}")
        assert outcome.code == 0, outcome.err
        path = only_folder(tmp_path / str(number)) / "checkpoints/last.ckpt"
        states.append(torch.load(path, weights_only=True)["state_dict"])
    for state in states[1:]:
        for name, value in states[0].items():
            assert torch.equal(value, state[name]), name


def test_another_seed_gives_other_weights_and_the_same_seed_the_same(tmp_path, capfd):
    found = []
    for number, seed in enumerate((0, 0, 1)):
        here(capfd, *CLASSIFIER, "logger=none", f"runs={tmp_path}/{number}", f"seed={seed}")
        path = only_folder(tmp_path / str(number)) / "checkpoints/last.ckpt"
        found.append(torch.load(path, weights_only=True)["state_dict"])
    name = next(iter(found[0]))
    assert torch.equal(found[0][name], found[1][name])
    assert not torch.equal(found[0][name], found[2][name])


class TestStreams:
    def test_reseeding_covers_torch_numpy_and_python(self):
        def draw():
            reseed(3, "train", 1, 2)
            return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()  # noqa: NPY002

        assert draw() == draw()

    def test_streams_differ_in_every_part(self):
        streams = [
            (0,),
            (1,),
            (0, "a"),
            (0, "b"),
            (0, "a", 1),
            (0, "a", 2),
            (0, "a", 1, 0),
            (0, "a1"),
            (0, "a", "1", "1"),
        ]
        assert len({derive(*stream) for stream in streams}) == len(streams)

    def test_seeds_stay_what_they_are(self):
        """Worked out by hand with hashlib: the first 8 bytes of blake2b(b"0/order/3", digest_size=8), halved."""
        import hashlib

        whole = int(hashlib.blake2b(b"0/order/3", digest_size=8).hexdigest(), 16)
        assert derive(0, "order", 3) == whole // 2
        assert 0 <= derive(0, "order", 3) < 2**63

    def test_uniform_over_many_streams(self):
        """Means of the first draw of 4000 streams: within four standard errors of 1/2."""
        first = torch.tensor([float(torch.rand((), generator=generator(0, "s", i))) for i in range(4000)])
        assert abs(float(first.mean()) - 0.5) < 4 * (1 / 12 / 4000) ** 0.5

    def test_a_stream_inside_a_block_leaves_the_state_outside_alone(self):
        torch.manual_seed(1)
        want = torch.rand(3)
        torch.manual_seed(1)
        with seeded(0, "x"):
            inside = torch.rand(3)
        assert torch.equal(torch.rand(3), want)
        assert not torch.equal(inside, want)
        with seeded(0, "x"):
            assert torch.equal(torch.rand(3), inside)

    def test_the_state_outside_comes_back_after_an_error(self):
        state = torch.get_rng_state()

        def fails() -> None:
            with seeded(0, "x"):
                torch.rand(3)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fails()
        assert torch.equal(torch.get_rng_state(), state)
