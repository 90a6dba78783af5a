"""Checks that every weight of a loaded model came from the model's files.

The report of transformers is compared with the names and shapes that the files themselves list. Without this check, a
weight that is not in the files is random and nothing says so.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plaudit.errors import PlauditError
from plaudit.models.weights.files import Shape

if TYPE_CHECKING:
    from torch import nn

SHOWN_NAMES = 3
SCORE = "score."
OUTPUT_HEADS = ("lm_head.", "embed_out.")
"""Output heads of language models, which a classifier does not have."""
TIED_HEAD = "lm_head.weight"
VALUE_HEADS = ("v_head.", "value_head.")
"""Value heads, which other libraries save with a policy and which only their own training reads."""
BUFFERS = re.compile(r"(^|\.)(attn\.(masked_)?bias|attention\.(masked_)?bias|rotary_emb\.inv_freq|position_ids)$")
"""Constants that old versions of transformers saved with the weights."""
PREFIXES = (
    *("_orig_mod.", "module.", "_fsdp_wrapped_module.", "base_model.model.", "base_model.", "pretrained_model."),
    *("policy.", "actor.", "model.", "transformer."),
)
"""What wrappers put before the names: torch.compile, data-parallel training, FSDP, peft, trl and others."""


@dataclass(frozen=True)
class Fit:
    """How a model's weights compare with the files; all empty if every weight came from them and all were used.

    ``mismatched`` holds name -> shape in the file, shape in the model.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: Mapping[str, tuple[Shape, Shape]]

    def without(self, missing: Iterable[str], unexpected: Iterable[str]) -> "Fit":
        """Leave out weights that may be missing, and unused ones, by the beginnings of their names."""
        absent, unused = tuple(missing), tuple(unexpected)
        return Fit(
            tuple(name for name in self.missing if not name.startswith(absent)),
            tuple(name for name in self.unexpected if not name.startswith(unused) and not BUFFERS.search(name)),
            self.mismatched,
        )


def fit_of(model: "nn.Module", stored: Mapping[str, Shape]) -> Fit:
    """Compare a model's own names and shapes with those of the files; tied weights count once.

    Names may lack the prefix of the trunk, as in files that were saved without a head.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."

    def bare(name: str) -> str:
        return name.removeprefix(prefix)

    found = {bare(name): (name, shape) for name, shape in stored.items()}
    tied: dict[int, list[str]] = {}
    shapes: dict[str, Shape] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        tied.setdefault(id(tensor), []).append(name)
        shapes[name] = tuple(tensor.shape)
    missing = [names[0] for names in tied.values() if not any(bare(name) in found for name in names)]
    expected = {bare(name) for name in shapes}
    unexpected = [name for key, (name, _) in found.items() if key not in expected]
    mismatched = {
        name: (found[bare(name)][1], shape)
        for name, shape in shapes.items()
        if bare(name) in found and found[bare(name)][1] != shape
    }
    return Fit(tuple(missing), tuple(unexpected), mismatched)


def checked_fit(model: "nn.Module", stored: Mapping[str, Shape], report: Mapping[str, Any]) -> Fit:
    """Combine the report of transformers with ``fit_of``.

    transformers renames and joins the tensors of some architectures. Then the names differ, and what counts is that the
    unknown names in the files have at least as many numbers as the model's weights that they do not list.
    """
    reported = Fit(
        tuple(sorted(report["missing_keys"])),
        tuple(sorted(report["unexpected_keys"])),
        {name: (tuple(before), tuple(after)) for name, before, after in report["mismatched_keys"]},
    )
    if not stored or getattr(model, "is_quantized", False):
        return reported
    own = fit_of(model, stored)
    unseen = [name for name in own.missing if name not in reported.missing]
    if unseen:
        sizes = {name: tensor.numel() for name, tensor in model.state_dict().items()}
        if sum(sizes[name] for name in unseen) <= sum(math.prod(stored[name]) for name in own.unexpected):
            return reported
    return Fit(
        tuple(dict.fromkeys([*reported.missing, *own.missing])),
        tuple(dict.fromkeys([*reported.unexpected, *own.unexpected])),
        {**own.mismatched, **reported.mismatched},
    )


def known_prefixes(model: "nn.Module", stored: Mapping[str, Shape]) -> tuple[str, ...] | None:
    """Return what to remove, one after the other, from the names so that they fit the model; None if nothing helps.

    All names but those of heads must begin with a prefix. Most of the names must fit, because transformers itself
    renames some of them for a few architectures.
    """
    heads = (*VALUE_HEADS, *OUTPUT_HEADS, SCORE)
    removed: list[str] = []
    names = list(stored)
    if _mostly_fits(fit_of(model, stored), names):
        return None
    while True:
        prefix = next((prefix for prefix in PREFIXES if all(name.startswith((prefix, *heads)) for name in names)), None)
        if prefix is None or not any(name.startswith(prefix) for name in names):
            return None
        removed.append(prefix)
        names = [name.removeprefix(prefix) for name in names]
        if len(set(names)) < len(names):
            return None
        renamed = dict(zip(names, stored.values(), strict=True))
        if _mostly_fits(fit_of(model, renamed), names):
            return tuple(removed)


def _mostly_fits(fit: Fit, names: list[str]) -> bool:
    return not fit.mismatched and 2 * len(fit.missing) < len(names)


def without_prefixes(name: str, prefixes: Iterable[str]) -> str:
    """Remove prefixes, one after the other, from a name that has them."""
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    return name


def tied_embeddings(model: Any, stored: Mapping[str, Shape], fit: Fit) -> str | None:
    """Return the name of a classifier's embeddings if the files hold them only as the output head tied to them.

    None if the embeddings are there, or if the configuration does not tie them.
    """
    weight = model.get_input_embeddings().weight
    name = next((name for name, tensor in model.state_dict(keep_vars=True).items() if tensor is weight), "")
    tied = model.config.get_text_config().tie_word_embeddings
    return name if tied and name in fit.missing and stored.get(TIED_HEAD) == tuple(weight.shape) else None


def refuse_incomplete(what: str, fit: Fit) -> None:
    """Raise PlauditError, which names the weights, unless ``fit`` is empty. ``what`` says which model."""
    problems = []
    if fit.missing:
        problems.append(f"{_names(fit.missing)} missing from the files (they would be random)")
    if fit.mismatched:
        name, (before, after) = next(iter(fit.mismatched.items()))
        problems.append(
            f"{len(fit.mismatched)} of another shape than config.json says ({name} is {list(before)} in the files and "
            f"{list(after)} in the model)"
        )
    if fit.unexpected:
        problems.append(f"{_names(fit.unexpected)} in the files but not in the model")
    if problems:
        raise PlauditError(f"cannot load {what}: weights: {'; '.join(problems)}; {_remedy(fit)}")


def _names(names: tuple[str, ...]) -> str:
    more = ", …" if len(names) > SHOWN_NAMES else ""
    return f"{len(names)} ({', '.join(names[:SHOWN_NAMES])}{more})"


def _remedy(fit: Fit) -> str:
    if any("lora_" in name for name in fit.unexpected):
        return "merge the adapter into the model with peft (merge_and_unload) and save it again"
    if (
        not fit.missing
        and not fit.mismatched
        and all(name.startswith((SCORE, "classifier.")) for name in fit.unexpected)
    ):
        return "this is a classifier or reward model; name a language model"
    heads = fit.missing and all(name.startswith((SCORE, "classifier")) for name in fit.missing)
    if heads and not fit.unexpected:
        return "the files hold no head; name a trained classifier or reward model"
    if fit.missing and all(name.startswith(SCORE) for name in fit.missing):
        return f"the head of a reward model is called score.weight; rename {fit.unexpected[0]} if it is that head"
    return "correct config.json, or save the model again under the names of transformers"
