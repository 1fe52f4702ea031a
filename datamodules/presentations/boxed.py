"""Pictures with boxes around what they show."""

from __future__ import annotations

from datamodules.batches import Boxed
from datamodules.presentations.segmented import SegmentedData


class BoxedData(SegmentedData):
    """Pictures and the boxes of their objects, as `Boxed` batches.

    Args:
        parts: the arguments of `SegmentedData`.
    """

    batch_type = Boxed
