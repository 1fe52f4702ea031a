"""`dry=true`: everything that can be checked, and the plan; nothing is written.

Classes of this project are read, not imported (see `compendium.static`): the answer comes before Lightning would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compendium.config import instantiate, locate, refuse_arguments
from compendium.errors import UserError, UserErrors, report
from compendium.restore import read_checkpoint
from compendium.run import Run, short
from compendium.static import Blueprint, blueprint

OPEN = {"model": ("spec", "net", "optimizer", "schedule"), "datamodule": ("source",), "optimizer": ("params",)}
OPEN |= {"schedule": ("optimizer", "steps"), "net": ("in_shape", "out_shape", "time")}
"""Arguments that the run itself fills in, per group."""


def check_only(run: Run) -> int:
    """Check, and print the plan.

    Returns:
        Exit code: 0, or 2 with all mistakes on the screen.
    """
    errors, records = checked(run)
    if run.config["weights"] is not None:  # a comparison's own stage may not have made them yet
        try:
            read_checkpoint(Path(run.config["weights"]).expanduser())
        except UserError as error:
            errors.append(error)
    if errors:
        return report(UserErrors(errors))
    config = run.config
    model = blueprint(str(config["model"]["_target_"]))
    trainer, spec = config["trainer"], records.spec
    learns = f" learns from {batch_type(model).__name__}" if model else ""
    print(f"{run.title}\n  method   {config['model']['_target_']}{learns}")
    print(f"  data     {spec.name}: {spec.kind} {tuple(spec.shape)}, {count(records)}")
    print(f"  trainer  {trainer['accelerator']}, strategy {trainer['strategy']}, {trainer['precision']}")
    print(f"  folder   {short(run.folder)} ({run.status['state']})")
    return 0


def check(run: Run) -> list[UserError]:
    """Every mistake in a run that shows without building it."""
    return checked(run)[0]


def checked(run: Run) -> tuple[list[UserError], Any]:
    """(every mistake that shows without building the run, the records of its source; None where they do not load)."""
    from datamodules.fit import check_pair

    config = run.config
    errors: list[UserError] = []

    def attempt(check: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return check(*arguments)
        except UserErrors as several:
            errors.extend(several.errors)
        except UserError as error:
            errors.append(error)

    for group in ("model", "datamodule", "data", "net", "optimizer", "schedule", "logger", "callbacks"):
        for path, node in target_nodes(config[group], group):
            attempt(check_node, path, node, OPEN.get(group, ()))
    model, presentation = (blueprint(str(config[group]["_target_"])) for group in ("model", "datamodule"))
    if model and presentation:
        attempt(check_pair, *(batch_type(plan) for plan in (model, presentation)), config["choices"])
    records = attempt(load, config["data"])
    if records is not None:
        attempt(check_data, records.spec, config, model, presentation)
    for key, words in (("resume", ("auto", "never")), ("ckpt", (None, "last", "best"))):
        if config[key] not in words:
            attempt(read_checkpoint, Path(config[key]).expanduser())
    return errors, records


def batch_type(plan: Blueprint) -> Any:
    """The batch type that a class learns from or yields."""
    from datamodules.fit import batch_type

    return batch_type(plan)


def check_node(path: str, node: Mapping[str, Any], filled_in: tuple[str, ...]) -> None:
    """The target of a config node is there and takes the node's keys."""
    target = str(node["_target_"])
    found = blueprint(target)
    if found is None:
        locate(target, path)  # not ours, or not there: only an import can tell
        return
    given = [key for key in node if not key.startswith("_")] + [name for name in filled_in if name in found.names]
    refuse_arguments(target.rpartition(".")[2], given, found.names, found.required, found.open_ended, path)


def load(node: Mapping[str, Any]) -> Any:
    """The records of a source, which is the one check of it that counts."""
    return instantiate(node, where="data").load()


def check_data(spec: Any, config: Mapping[str, Any], model: Blueprint | None, presentation: Blueprint | None) -> None:
    """The data fits the presentation and the method, as far as their class attributes tell."""
    from datamodules.fit import check_fit, check_net

    for group, plan in (("datamodule", presentation), ("model", model)):
        if plan is None or "kinds" not in plan.attributes:
            continue
        who = str(config[group]["_target_"]).rpartition(".")[2]
        mend = str(plan.attributes.get("otherwise") or "")
        check_fit(spec, who, plan.attributes["kinds"], plan.attributes["targets"], mend)
    node = config["net"] or {}
    kind = (model.attributes.get("net_kind") if model else None) or spec.kind
    if chosen := node if "_target_" in node else node.get(kind):
        check_net(str(chosen["_target_"]), kind)
    if model and model.methods.get("check") != "modules.method.Method":
        locate(str(config["model"]["_target_"]), "model").check(spec)  # it checks more than attributes can tell


def count(records: Any) -> str:
    """How many records there are, in words."""
    if records.documents:
        return f"{sum(map(len, records.documents.values()))} documents"
    return f"{records.size} records"


def target_nodes(node: Any, path: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The outermost nodes with a `_target_` below a node."""
    if not isinstance(node, Mapping):
        return []
    if "_target_" in node:
        return [(path, node)]
    return [found for key, value in node.items() for found in target_nodes(value, f"{path}.{key}")]
