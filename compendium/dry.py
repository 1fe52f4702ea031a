"""`dry=true`: everything that can be checked, and the plan; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compendium.build import check_pair
from compendium.config import instantiate, locate
from compendium.errors import UserError, UserErrors, report
from compendium.run import Run, short


def check_only(run: Run) -> int:
    """`dry=true`: everything that can be checked, and the plan; nothing is written."""
    from compendium.config import check_arguments

    config = run.config
    kind = locate(config["model"]["_target_"], "model")
    data = locate(config["datamodule"]["_target_"], "datamodule")
    errors: list[UserError] = []

    def attempt(check: Any, *arguments: Any, **more: Any) -> Any:
        try:
            return check(*arguments, **more)
        except UserErrors as several:
            errors.extend(several.errors)
        except UserError as error:
            errors.append(error)

    attempt(check_pair, kind, data, config["choices"])
    loaded = attempt(instantiate, config["datamodule"], where="datamodule", source=config["data"])
    spec = attempt(lambda: loaded.spec) if loaded is not None else None
    own = {key: value for key, value in config["model"].items() if not key.startswith("_")}
    attempt(check_arguments, kind, own | dict.fromkeys(("spec", "net", "optimizer", "schedule")), "model")
    if spec is not None:
        attempt(kind.check, spec)
    for group in ("net", "optimizer", "schedule", "logger", "callbacks"):
        for path, node in target_nodes(config[group], group):
            attempt(locate, str(node["_target_"]), path)
    for path, node in target_nodes(config["callbacks"], "callbacks"):
        attempt(instantiate, node, where=path)
    attempt(resumed_method, run)
    if errors:
        return report(UserErrors(errors))
    assert spec is not None
    print(f"{run.title}\n  method   {config['model']['_target_']} learns from {kind.batch_type.__name__}")
    print(f"  data     {spec.name}: {spec.kind} {tuple(spec.shape)}, {dict(spec.sizes)}")
    trainer = config["trainer"]
    print(f"  trainer  {trainer['accelerator']}, strategy {trainer['strategy']}, {trainer['precision']}")
    print(f"  folder   {short(run.folder)} ({run.status['state']})")
    return 0


def resumed_method(run: Run) -> None:
    """Refuse a `resume=` or `ckpt=` path that holds no readable checkpoint."""
    from modules.method import read_checkpoint

    for key, words in (("resume", ("auto", "never")), ("ckpt", (None, "last", "best"))):
        if run.config[key] not in words:
            read_checkpoint(Path(run.config[key]).expanduser())


def target_nodes(node: Any, path: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The outermost nodes with a `_target_` below a node."""
    if not isinstance(node, Mapping):
        return []
    if "_target_" in node:
        return [(path, node)]
    return [found for key, value in node.items() for found in target_nodes(value, f"{path}.{key}")]
