"""Whether data fits what is made for it, and which data would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args, get_type_hints

from compendium.config import choices, choices_tagged
from compendium.errors import UserError
from compendium.static import Blueprint, blueprint
from datamodules import batches
from datamodules.spec import DataSpec

KINDS = ("image", "vector", "text")
TARGETS = {
    "class": "a class as its target",
    "real": "a real number as its target",
    "mask": "a mask as its target",
    "points": "points as its target",
    "preference": "a preference as its target",
    "answer": "an answer as its target",
    None: "no target",
}


def check_fit(
    spec: DataSpec, who: str, kinds: tuple[str, ...], targets: tuple[str | None, ...], mend: str = ""
) -> None:
    """Refuse data of another kind or with another target.

    Args:
        spec: the data.
        who: what needs it, for the message.
        kinds: what its records may be.
        targets: what its targets may be.
        mend: another way out, beside other data.

    Raises:
        UserError: what is needed, what there is, and which data would do.
    """
    if spec.kind in kinds and spec.target in targets:
        return
    wanted = " or ".join(TARGETS[target] for target in targets)
    raise UserError(
        f"{who} needs {' or '.join(kinds)} data with {wanted}; '{spec.name}' is {spec.kind} data with "
        f"{TARGETS[spec.target]}.",
        "\n".join(filter(None, [f"data that would do: {', '.join(choices_tagged('data', kinds, targets))}", mend])),
    )


def check_pair(wanted: type, given: type, chosen: Mapping[str, str]) -> None:
    """Refuse a presentation whose batches a method cannot learn from.

    Args:
        wanted: the method's batch type.
        given: the presentation's.
        chosen: the choices of `model` and `datamodule`, for the message.

    Raises:
        UserError: which batches there are, and which presentations would do.
    """
    if batches.accepts(wanted, given):
        return
    fitting = [name for name in choices("datamodule") if batches.accepts(wanted, presented(name))]
    raise UserError(
        f"model={chosen['model']} learns from {wanted.__name__} batches, but datamodule={chosen['datamodule']} "
        f"yields {given.__name__}.",
        f"datamodules that would do: {', '.join(fitting)}",
    )


def check_shapes(network: type, **shapes: tuple[int, ...]) -> None:
    """Refuse a network between shapes of another rank than its constructor is annotated with.

    Args:
        network: its class.
        shapes: what it would be built with, `in_shape` and `out_shape`.

    Raises:
        UserError: which shape it would have, and how many sides it takes.
    """
    hints = get_type_hints(network.__init__)  # type: ignore[misc]
    for name, shape in shapes.items():
        sides = get_args(hints.get(name))
        if sides and Ellipsis not in sides and len(sides) != len(shape):
            raise UserError(
                f"net: {network.__name__} takes an {name} of {len(sides)} sides, and this model has one of {shape}.",
                "net=mlp takes any",
            )


def check_net(target: str, kind: str) -> None:
    """Refuse a network that does not read this kind of data.

    Args:
        target: the network's `_target_`.
        kind: `image`, `vector` or `text`.

    Raises:
        UserError: what the network reads, and which would do.
    """
    if kind in reads(target):
        return
    from omegaconf import OmegaConf

    fitting = []
    for name, path in choices("net").items():
        node = OmegaConf.load(path)
        if kind in node or ("_target_" in node and kind in reads(str(node["_target_"]))):
            fitting.append(name)
    label = target.rpartition(".")[2]
    raise UserError(
        f"net: {label} reads {' or '.join(reads(target))} data, and this is {kind} data.",
        f"nets that would do: {', '.join(fitting) or 'none yet'}",
    )


def reads(target: str) -> tuple[str, ...]:
    """The kinds of data that a network reads; all, where it does not say."""
    plan = blueprint(target)
    return plan.attributes.get("kinds", KINDS) if plan else KINDS


def presented(choice: str) -> type:
    """The batch type of a `datamodule=` choice."""
    from omegaconf import OmegaConf

    plan = blueprint(str(OmegaConf.load(choices("datamodule")[choice])._target_))
    assert plan is not None
    return batch_type(plan)


def batch_type(plan: Blueprint) -> type:
    """The batch type that a blueprint names."""
    return getattr(batches, str(plan.attributes["batch_type"]))
