"""NumPy archives."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.source import Records, Source
from datamodules.sources.checks import existing, finite, known, not_empty
from datamodules.sources.targets import TASKS, targets
from datamodules.spec import DataSpec, Target

DEFAULTS = {"x": "x", "y": "y", "x_test": "x_test", "y_test": "y_test"}


class Npz(Source):
    """Arrays of an `.npz` file: images (N, C, H, W) or (N, H, W), or vectors (N, D).

    Images in uint8 become [0, 1] with 256 levels; in floating point they must lie in [0, 1]. Pickled objects are never
    loaded.

    Args:
        path: the file.
        x: name of the array of records.
        y: name of its targets; null: none. An array with the default name may be absent, here and below.
        x_test: name of the records to test on; without them, the DataModule splits `x`.
        y_test: name of their targets.
        channels_last: images are (N, H, W, C).
        task: `class`, `real`, `none` (leave the target out), or `auto`: whole numbers, booleans and strings are
            classes, floating point is real.

    Raises:
        UserError: no such file or array, no archive, pickled objects, shapes that do not fit, NaN or infinity, images
            out of range, a single class.
    """

    def __init__(
        self,
        path: str,
        x: str = "x",
        y: str | None = "y",
        x_test: str | None = "x_test",
        y_test: str | None = "y_test",
        channels_last: bool = False,
        task: str = "auto",
    ) -> None:
        self.path, self.channels_last = path, channels_last
        self.task = known(task, TASKS, "data.task", "task")
        self.names = {"x": x, "y": y, "x_test": x_test, "y_test": y_test}

    def load(self) -> Records:
        path = existing(self.path)
        arrays = self._arrays(path)
        parts = [self._images_or_vectors(arrays[name], name) for name in ("x", "x_test") if name in arrays]
        if len(parts) == 2 and parts[0].shape[1:] != parts[1].shape[1:]:
            raise UserError(
                f"{path}: records of '{self.names['x_test']}' have the shape {tuple(parts[1].shape[1:])}, "
                f"those of '{self.names['x']}' {tuple(parts[0].shape[1:])}."
            )
        columns = {"x": torch.cat(parts)}
        finite(columns["x"], f"{path}: '{self.names['x']}'")
        target: Target | None = None
        classes: tuple[str, ...] = ()
        if "y" in arrays and self.task != "none":
            if "x_test" in arrays and "y_test" not in arrays:
                raise UserError(
                    f"{path} has test records without targets.", "Name them: data.y_test=NAME, or data.x_test=null"
                )
            names = [name for name in ("y", "y_test") if name in arrays and f"x{name[1:]}" in arrays]
            for name, part in zip(names, parts, strict=True):
                if arrays[name].shape != (len(part),):
                    raise UserError(
                        f"{path}: '{self.names[name]}' has the shape {arrays[name].shape}, one target for each of the "
                        f"{len(part)} records would be ({len(part)},)."
                    )
            values = np.concatenate([arrays[name] for name in names])
            target, classes, columns["y"] = targets(values, f"{path}: '{self.names['y']}'", self.task)
        image = columns["x"].ndim == 4
        spec = DataSpec(
            name=path.stem,
            kind="image" if image else "vector",
            shape=tuple(columns["x"].shape[1:]),
            target=target,
            classes=classes,
            levels=256 if image and arrays["x"].dtype == np.uint8 else None,
            bounds=(0.0, 1.0) if image else None,
        )
        rows = torch.arange(len(columns["x"])).split([len(part) for part in parts])
        return Records(spec, columns, splits={"train": rows[0], "test": rows[1]} if len(rows) == 2 else {})

    def _arrays(self, path: Path) -> dict[str, np.ndarray]:
        if not zipfile.is_zipfile(path):
            raise UserError(
                f"{path} is no .npz archive, or a broken one.", "Write it with np.savez(path, x=..., y=...)."
            )
        arrays = {}
        try:
            with np.load(path, allow_pickle=False) as archive:
                for role, name in self.names.items():
                    if name is None or (name == DEFAULTS[role] and role != "x" and name not in archive.files):
                        continue
                    arrays[role] = archive[known(name, archive.files, f"data.{role}", "array")]
        except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
            if "pickle" not in str(error):
                raise UserError(f"{path} is a broken archive: {error}.") from None
            what = f"{path} holds pickled objects, which could run any code and are not loaded."
            raise UserError(what, "Save plain number or string arrays: array.astype(np.float32).") from None
        for role in ("x", "x_test"):
            if role in arrays:
                not_empty(arrays[role].size, f"{path}: '{self.names[role]}'")
        return arrays

    def _images_or_vectors(self, array: np.ndarray, role: str) -> Tensor:
        where = f"{self.path}: '{self.names[role]}'"
        if array.ndim not in (2, 3, 4) or array.dtype.kind not in "fiub":
            raise UserError(
                f"{where} is {array.dtype} of the shape {array.shape}.",
                "Give numbers as vectors (N, D) or images (N, H, W) or (N, C, H, W).",
            )
        if array.ndim == 2:
            return torch.from_numpy(array.astype(np.float32))
        if array.ndim == 3:
            array = array[:, None]
        elif self.channels_last:
            array = array.transpose(0, 3, 1, 2)
        elif array.shape[1] > 4 and array.shape[3] <= 4:
            raise UserError(f"{where} has the shape {array.shape}: its channels come last.", "data.channels_last=true")
        images = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        if array.dtype == np.uint8:
            return images.div_(255)
        low, high = images.min().item(), images.max().item()
        if low < 0 or high > 1:
            raise UserError(
                f"{where} holds images in {array.dtype} from {low:g} to {high:g}; they belong in [0, 1].",
                "Scale them, or save bytes from 0 to 255 as uint8.",
            )
        return images
