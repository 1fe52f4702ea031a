"""Pictures with points that mean the same in each."""

from __future__ import annotations

from datamodules.batches import Pointed
from datamodules.presentations.segmented import SegmentedData


class PointedData(SegmentedData):
    """Pictures and points in them, as `Pointed` batches.

    Args:
        parts: the arguments of `SegmentedData`.
    """

    batch_type = Pointed
    targets = ("points",)
