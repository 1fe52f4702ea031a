"""Pictures with a class, an instance and a depth at every pixel."""

from __future__ import annotations

from datamodules.batches import Surveyed
from datamodules.presentations.segmented import SegmentedData


class SurveyedData(SegmentedData):
    """Pictures, masks, offsets to the centre of the instance, and inverse depth, as `Surveyed` batches.

    Args:
        parts: the arguments of `SegmentedData`.
    """

    batch_type = Surveyed
