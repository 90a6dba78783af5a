"""Checks before the first stage starts whether the models of a stage fit together: vocabularies, lengths, labels, …"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.config.marks import MarkedValue, marked_values, stage_reference
from plaudit.config.schema import (
    ClassifierReward,
    EvaluateConfig,
    LanguageModelStageConfig,
    ModelConfig,
    RewardConfig,
    RlConfig,
    Section,
)
from plaudit.errors import PlauditError
from plaudit.evaluation.toxicity import PLACE, toxic_indices
from plaudit.hub import is_cached
from plaudit.models.loading.limits import configured_context_length, stored_configuration
from plaudit.models.loading.models import check_new_adapter, has_reward_head
from plaudit.models.loading.pretrained import load_from
from plaudit.models.loading.stored_weights import Use, refuse_lacking_weights
from plaudit.registries.stages import STAGES
from plaudit.rewards.labels import label_index, label_names
from plaudit.rewards.trained_model import same_vocabulary
from plaudit.runs.directory import RunDirectory
from plaudit.stages.prompt_lengths import overlong_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Origins:
    """Follows ``stage:NAME`` to the model from which a stage that has yet to run will start."""

    sections: Mapping[str, Section]
    run: RunDirectory
    finished: Collection[str]

    def of(self, model: ModelConfig) -> ModelConfig | None:
        """Return the model with a path that is known now, or fresh; None if it cannot be known."""
        while reference := stage_reference(model.path):
            stage, file = reference
            if stage in self.finished:
                return model.model_copy(update={"path": str(self.run.referenced(stage, file))})
            start = getattr(self.sections.get(stage), "model", None)
            if not isinstance(start, ModelConfig) or (file and Path(file).name != "model"):
                return None
            model = start.model_copy(update={"tokenizer": model.tokenizer or start.tokenizer})
        return model

    def tokenizer(self, model: ModelConfig) -> str | None:
        """Return the folder or name of a model's tokenizer, or its reference if that stage has yet to run."""
        name = model.tokenizer or model.path
        reference = stage_reference(name)
        if reference is None or reference[0] not in self.finished:
            return name
        return str(self.run.referenced(*reference))


def misfits(section: Section, name: str, origins: Origins) -> list[str]:
    """Return a line for each problem in the section of stage ``name``: the key, what does not fit, and the remedy."""
    problems = [
        *_label_problems(section, name),
        *_head_problems(section, name),
        *_adapter_problems(section, name, origins),
    ]
    problems = problems or [*_weight_problems(section, name)]
    if not problems and isinstance(section, RlConfig | EvaluateConfig):
        models = dict(_token_readers(section, name, origins))
        problems += [*_vocabulary_problems(models, origins), *_length_problems(section, name, models, origins)]
    return problems


def _token_readers(section: Section, name: str, origins: Origins) -> Iterator[tuple[str, ModelConfig]]:
    """Yield the language and reward models of a section, which all read the same token ids, by their keys."""
    for key, value in section:
        entries = {f"{name}.{key}.{inner}": one for inner, one in value.items()} if isinstance(value, dict) else {}
        for place, model in {f"{name}.{key}": value, **entries}.items():
            if isinstance(model, ModelConfig) and (origin := origins.of(model)):
                yield place, origin
    for found in marked_values(section, (name,)):
        if found.marks.get("names") == "reward model" and (origin := origins.of(ModelConfig(path=found.value))):
            yield found.place_text, origin


def _vocabulary_problems(models: Mapping[str, ModelConfig], origins: Origins) -> Iterator[str]:
    names = {place: origins.tokenizer(model) for place, model in models.items()}
    known = {place: path for place, path in names.items() if path and _is_here(path)}
    if len(set(known.values())) < 2:
        return
    (first, path), *others = known.items()
    try:
        expected = _tokenizer(path)
        different = [place for place, other in others if not same_vocabulary(_tokenizer(other), expected)]
    except PlauditError:  # the check of that key says why it cannot be loaded
        return
    for place in different:
        yield (
            f"{place}: mismatched tokenizers: {known[place]} does not have the vocabulary of {path} ({first}), but "
            "both read the same token ids; choose models with the same tokenizer"
        )


def _is_here(path: str | None) -> bool:
    """Whether a model can be read without a download; random weights can."""
    return path is None or Path(path).is_dir() or is_cached(path)


def _tokenizer(path: str) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = load_from(f"tokenizer {path}", AutoTokenizer.from_pretrained, path)
    return tokenizer


def _length_problems(
    section: RlConfig | EvaluateConfig, name: str, models: Mapping[str, ModelConfig], origins: Origins
) -> Iterator[str]:
    lengths = {}
    for place, model in models.items():
        with suppress(PlauditError):  # as above
            lengths[place] = configured_context_length(model)
    shortest = min(lengths, key=lengths.__getitem__, default="")
    if not shortest:
        return
    if section.generation.max_new_tokens >= lengths[shortest]:
        yield (
            f"{name}.generation.max_new_tokens: {section.generation.max_new_tokens} leaves no room for a prompt in the "
            f"{lengths[shortest]} tokens that {shortest} ({models[shortest].path or 'random weights'}) reads; lower it"
        )
        return
    writer = models.get(f"{name}.model" if isinstance(section, RlConfig) else f"{name}.models.{section.baseline}")
    tokenizer = writer and origins.tokenizer(writer)
    if writer and tokenizer and _is_here(tokenizer):
        yield from overlong_prompts(
            section, name, writer.model_copy(update={"tokenizer": tokenizer}), lengths[shortest]
        )


def _head_problems(section: Section, name: str) -> Iterator[str]:
    """Yield a line for each reward model in the place of a language model."""
    if not isinstance(section, LanguageModelStageConfig | RlConfig | EvaluateConfig):
        return
    for found in marked_values(section, (name,)):
        if found.marks.get("names") == "model" and found.reference is None and _is_reward_model(found.value):
            yield (
                f"{found.place_text}: {found.value}: this is a reward model or classifier, which writes no text; name "
                "a language model"
            )


def _weight_problems(section: Section, name: str) -> Iterator[str]:
    """Yield a line for each model whose files lack weights that its use needs, such as a head."""
    for found in marked_values(section, (name,)):
        use = _use(section, found)
        if use is not None and found.reference is None:
            try:
                refuse_lacking_weights(found.value, use, getattr(found.section, "trust_remote_code", False))
            except PlauditError as error:
                yield f"{found.place_text}: {error}"


def _use(section: Section, found: MarkedValue) -> Use | None:
    names = found.marks.get("names")
    if names == "model":
        language_model = isinstance(section, LanguageModelStageConfig | RlConfig | EvaluateConfig)
        reward_model = isinstance(section, RewardConfig)
        return "language model" if language_model else "start of a reward model" if reward_model else None
    return names if names in ("reward model", "classifier") else None


def _is_reward_model(path: str) -> bool:
    with suppress(PlauditError):  # as above
        return has_reward_head(path)
    return False


def _adapter_problems(section: Section, name: str, origins: Origins) -> Iterator[str]:
    """Yield a line for each model that lacks a module to which new adapters are to be added."""
    for key, model in section:
        if not isinstance(model, ModelConfig) or model.lora is None or model.lora.continues:
            continue
        origin = origins.of(model)
        if origin is None or origin.trust_remote_code or not _is_here(origin.path):
            continue
        scores = STAGES[name].makes == "reward model" or key == "value_model"
        try:
            check_new_adapter(origin, model.lora, "SEQ_CLS" if scores else "CAUSAL_LM")
        except PlauditError as error:
            if str(error).startswith("lora."):  # as above
                yield f"{name}.{key}.{error}"


def _label_problems(section: Section, name: str) -> Iterator[str]:
    for found in marked_values(section, (name,)):
        if found.marks.get("names") == "classifier" and found.reference is None:
            try:
                _check_labels(section, found)
            except PlauditError as error:
                yield str(error)


def _check_labels(section: Section, found: MarkedValue) -> None:
    try:
        config = stored_configuration(found.value, getattr(found.section, "trust_remote_code", False))
    except PlauditError:  # as above
        return
    if isinstance(found.section, ClassifierReward):
        label_index(label_names(config, found.place_text), found.section.label, found.place_text)
    elif isinstance(section, EvaluateConfig) and section.toxicity and found.section is section.toxicity.classifier:
        toxic_indices(section.toxicity, config, PLACE)
