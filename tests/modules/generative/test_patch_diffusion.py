"""Where patches lie, what they are told, and how a picture is put together: by hand and beside plain diffusion."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compendium.compose import compose
from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.networks.patch_pyramid import half

SPEC = DataSpec("pictures", "image", (2, 16, 16), bounds=(-1.0, 1.0))


def made(blocks=(3, 2, 1), net="pyramid", changes=None, **arguments):
    values = compose(["model=generative/patch_diffusion", f"net={net}"]).values
    sizes = {"blocks": list(blocks), "width": 8} if net == "pyramid" else {}
    torch.manual_seed(0)
    method = instantiate({**values["model"], **arguments}, SPEC, net={**values["net"], **sizes, **(changes or {})})
    for weight in method.net.parameters():
        weight.data.normal_(std=0.2)
    return method.double()


@pytest.mark.parametrize("stride", [None, 4, 1])
def test_every_patch_lies_within_its_parent_and_all_of_them_cover_each_level(stride):
    method = made(stride=stride)
    places = method.tiled(2, torch.device("cpu"))
    side, step = 4, stride or 2
    records = None
    for level, (corner, parent) in enumerate(places):
        if not level:
            assert corner.tolist() == [[0, 0], [0, 0]]
            records = parent
            continue
        above = places[level - 1][0][parent]
        inside = corner - 2 * above
        assert int(inside.min()) >= 0
        assert int(inside.max()) <= side
        records = records[parent]
        per_axis = (side * 2**level - side) // step + 1
        assert len(corner) == 2 * per_axis**2
        assert records.tolist() == [0] * per_axis**2 + [1] * per_axis**2
        covered = torch.zeros(side * 2**level, side * 2**level)
        for row, column in corner[: per_axis**2].tolist():
            covered[row : row + side, column : column + side] += 1
        assert int(covered.min()) >= 1


def test_in_training_patches_are_nested_and_reach_every_place():
    method = made()
    places = method.nested(4000, torch.device("cpu"))
    for level in (1, 2):
        inside = places[level][0] - 2 * places[level - 1][0]
        assert inside.min() == 0
        assert inside.max() == 4
    corners = {tuple(corner) for corner in places[1][0].tolist()}
    assert len(corners) == 25
    assert int(places[2][0].max()) == 12


def test_a_cut_is_the_part_of_the_picture_that_begins_there():
    method = made()
    x = torch.randn(3, 2, 16, 16, dtype=torch.float64)
    corner, record = torch.tensor([[0, 12], [5, 3]]), torch.tensor([2, 0])
    patches = method.cut(x, record, corner)
    assert torch.equal(patches[0], x[2, :, 0:4, 12:16])
    assert torch.equal(patches[1], x[0, :, 5:9, 3:7])


@pytest.mark.parametrize("corner", [(0.0, 0.0), (1.0, 2.0), (0.5, 1.5)])
def test_a_half_of_a_linear_map_is_the_map_at_the_finer_pixels(corner):
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    h = (3 * rows - 2 * columns)[None, None].double()
    fine = torch.arange(4.0) / 2 + 0.25 - 0.5  # centres of half pixels, in whole ones counted from centre to centre
    down, across = (corner[0] + fine).clamp(0, 3), (corner[1] + fine).clamp(0, 3)
    expected = 3 * down[:, None] - 2 * across[None]
    torch.testing.assert_close(half(h, torch.tensor([corner]))[0, 0], expected.double())


def test_without_context_a_patch_knows_its_own_pixels_alone_and_with_it_the_whole():
    for context in (False, True):
        method = made(blocks=(2, 2), changes={"context": context}, stride=8)
        x, t = torch.randn(1, 2, 16, 16, dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
        other = x.clone()
        other[..., 8:] += 1.0
        one, two = method.predict(x, t)[..., :8], method.predict(other, t)[..., :8]
        assert (torch.allclose(one, two)) == (not context)


def test_a_picture_is_the_mean_of_its_patches_where_they_overlap():
    """One patch at a time through the network, added up by hand."""
    method = made(blocks=(2, 1))
    x, t = torch.randn(2, 2, 16, 16, dtype=torch.float64), torch.tensor([0.4, 0.4], dtype=torch.float64)
    small = F.avg_pool2d(x, 2)
    total, count = torch.zeros_like(x), torch.zeros_like(x)
    for row in (0, 4, 8):
        for column in (0, 4, 8):
            places = [
                (torch.zeros(2, 2, dtype=torch.long), torch.arange(2)),
                (torch.tensor([[row, column]] * 2), torch.arange(2)),
            ]
            levels = method.pyramid(method.path.scaled(x, t, method.data_std), places)
            scaled = method.path.scaled(small, t, method.data_std)
            torch.testing.assert_close(levels[0].x, scaled)
            out = method.net(levels, method.path.conditioning(t))[-1]
            total[..., row : row + 8, column : column + 8] += out
            count[..., row : row + 8, column : column + 8] += 1
    torch.testing.assert_close(method.predict(x, t), total / count)


def test_the_loss_is_zero_where_all_levels_are_right_and_a_mean_of_squares_elsewhere():
    """What the network has to say at a coarse level is the mean of what it has to say at the fine one."""
    method = made(blocks=(2, 1))
    x = torch.randn(5, 2, 16, 16, dtype=torch.float64)
    right = {}
    own = method.noised

    def noised(data):
        right["noisy"], right["t"], right["noise"] = own(data)
        return right["noisy"], right["t"], right["noise"]

    def told(levels, t, y=None):
        alpha, sigma = (
            part[:, None, None, None] for part in (method.path.alpha(right["t"]), method.path.sigma(right["t"]))
        )
        target = alpha * right["noise"] - sigma * x  # v, Salimans and Ho 2022
        outs = []
        for small, patches in zip((F.avg_pool2d(target, 2), target), levels, strict=True):
            outs.append(
                torch.stack([small[i, :, r : r + 8, c : c + 8] for i, (r, c) in enumerate(patches.corner.tolist())])
            )
        outs[1] = outs[1] + 0.5
        return outs

    method.noised, method.net.forward = noised, told
    terms = method.loss(Unlabelled(x))
    torch.testing.assert_close(terms["level_0"], torch.zeros((), dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(terms["level_1"], torch.tensor(0.25, dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": (2,)}, "two levels"),
        ({"blocks": (2, 3)}, "ever fewer"),
        ({"blocks": (6, 5, 4, 3, 2, 1)}, "5 times"),
        ({"stride": 3}, "stride=3"),
        ({"net": "unet"}, "net=pyramid"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        made(**arguments)
