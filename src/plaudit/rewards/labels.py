"""The labels of a sequence classifier, as its configuration describes them."""

from typing import Any, Literal

from plaudit.errors import PlauditError

Activation = Literal["sigmoid", "softmax"]


def label_names(config: Any, place: str) -> list[str]:
    """Return the labels' names in the order of the logits. Raises PlauditError if the configuration lacks one."""
    names = config.id2label or {}
    missing = [index for index in range(len(names)) if index not in names]
    if missing:
        raise PlauditError(
            f"{place}: id2label in config.json names no label {missing[0]}; number the {len(names)} labels from 0"
        )
    return [str(names[index]) for index in range(len(names))]


def label_index(names: list[str], label: str | None, place: str) -> int:
    """Return the index of the logit for ``label``; None means the only label.

    Raises PlauditError, which lists the labels, for an unknown label or one that several outputs have.
    """
    if label is None and len(names) == 1:
        return 0
    if label is not None and names.count(label) == 1:
        return names.index(label)
    if label is None:
        problem = "no label is set"
    elif label in names:
        problem = f"{names.count(label)} outputs are called {label!r}, correct id2label in config.json"
    else:
        problem = f"there is no label {label!r}"
    raise PlauditError(f"{place}: {problem}; choose one of the classifier's labels: {', '.join(names)}")


def trained_activation(config: Any) -> Activation | None:
    """Return the activation that a classifier was trained with; None if its configuration does not say."""
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax" if config.problem_type == "single_label_classification" else None
