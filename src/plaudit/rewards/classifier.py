"""Any sequence classifier as a reward source: a label's probability or logit."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from plaudit.config.schema import ClassifierReward, ModelConfig
from plaudit.config.schema.rewards import Overlong
from plaudit.errors import PlauditError
from plaudit.memory import HalvingSize, in_batches, responses_at_once
from plaudit.models.context import UNBOUNDED_CONTEXT, context_length
from plaudit.rewards.labels import Activation, label_index, label_names, trained_activation
from plaudit.rewards.truncation import TextCounts
from plaudit.rollouts.samples import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


logger = logging.getLogger(__name__)


class TextClassifier:
    """A sequence classifier that reads text. Its error messages begin with ``place``.

    With ``overlong: truncate`` it reads the end of a text that is too long.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        place: str,
        overlong: Overlong = "truncate",
    ) -> None:
        if tokenizer.pad_token_id is None:
            raise PlauditError(f"{place}: the classifier's tokenizer has no padding token; save it with a pad_token")
        # Decoder classifiers need this to find the last token that is not padding, where they read the score.
        model.config.pad_token_id = tokenizer.pad_token_id
        # Padding on the left would shift positions in models that count them from the start of the row.
        tokenizer.padding_side = "right"
        # The end of a text is kept, because the response is there.
        tokenizer.truncation_side = "left"
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.place = place
        self.overlong = overlong
        self.longest = _longest_text(model, tokenizer)
        self.counts = TextCounts()
        self._has_warned = False
        self.batch_sizes: dict[int, HalvingSize] = {}

    @classmethod
    def load(
        cls, config: ModelConfig, device: torch.device, place: str, overlong: Overlong = "truncate"
    ) -> "TextClassifier":
        """Load the folder or hub name ``config.path``. Raises PlauditError if it is not a classifier."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from plaudit.models.loading.pretrained import load_from, load_whole, weight_options
        from plaudit.models.weights.completeness import refuse_incomplete

        path = str(config.path)
        what = f"classifier {path} of {place}"
        trust = {"trust_remote_code": config.trust_remote_code}
        options = weight_options(config, device) | trust
        model, fit = load_whole(what, AutoModelForSequenceClassification, path, **options)
        tokenizer = load_from(f"tokenizer {path} of {place}", AutoTokenizer.from_pretrained, path, **trust)
        if fit.missing:
            raise PlauditError(
                f"{place}: {path} has no trained weights for {fit.missing[0]} ({len(fit.missing)} are missing): name a "
                "trained sequence classifier"
            )
        refuse_incomplete(what, fit.without([], fit.unexpected))  # such as a pooler that classifiers do not use
        return cls(model if config.quantization else model.to(device), tokenizer, place, overlong)

    @property
    def labels(self) -> list[str]:
        """Names of the labels, in the order of the logits."""
        return label_names(self.model.config, self.place)

    def label_index(self, label: str | None) -> int:
        """Return the index of the logit for ``label``; None means the only label."""
        return label_index(self.labels, label, self.place)

    @property
    def own_activation(self) -> Activation:
        """The activation that the classifier was trained with: sigmoid for independent labels, softmax otherwise."""
        return trained_activation(self.model.config) or "softmax"

    @torch.inference_mode()
    def logits(self, texts: Sequence[str], batch_size: int) -> torch.Tensor:
        """Return the logits [texts, labels] (float32, CPU).

        With ``overlong: error``, raises PlauditError if a text exceeds the context.
        """
        token_ids = [self._token_ids(text) for text in texts]
        remedy = "use a smaller classifier, or shorter texts"
        size = self.batch_sizes.setdefault(batch_size, responses_at_once(batch_size, self.place, remedy))
        rows = in_batches(token_ids, size, self._logits_of_batch)
        return torch.stack(rows) if rows else torch.zeros(0, len(self.labels))

    def probabilities(self, texts: Sequence[str], batch_size: int, activation: Activation) -> torch.Tensor:
        """Return the labels' probabilities [texts, labels]."""
        logits = self.logits(texts, batch_size)
        return logits.sigmoid() if activation == "sigmoid" else logits.softmax(dim=-1)

    def take_counts(self) -> TextCounts:
        """Return the counts of texts since the last call."""
        counts, self.counts = self.counts, TextCounts()
        return counts

    def _logits_of_batch(self, token_ids: Sequence[list[int]]) -> Sequence[torch.Tensor]:
        batch = self.tokenizer.pad({"input_ids": token_ids}, return_tensors="pt")
        logits: torch.Tensor = self.model(**batch.to(self.model.device)).logits
        return logits.float().cpu().unbind()

    def _token_ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, verbose=False)["input_ids"]
        too_long = self.longest is not None and len(ids) > self.longest
        self.counts = self.counts.with_text(too_long)
        if too_long:
            ids = self._shortened(text, len(ids))
        if not ids:  # an empty response, which is equivalent to a single end token
            if self.tokenizer.eos_token_id is None:
                raise PlauditError(
                    f"{self.place}: a text has no tokens; save the classifier's tokenizer with an eos_token"
                )
            return [self.tokenizer.eos_token_id]
        return ids

    def _shortened(self, text: str, length: int) -> list[int]:
        """Return the tokens of the end of a text, as many as the classifier reads, with its special tokens."""
        found = f"{self.place}: a text has {length} tokens, but the classifier reads {self.longest}"
        if self.overlong == "error":
            raise PlauditError(f"{found}; shorten the responses or the prompts, or set overlong: truncate")
        if not self._has_warned:
            self._has_warned = True
            logger.warning("%s; only the end of such texts is read, and they are counted", found)
        ids: list[int] = self.tokenizer(text, truncation=True, max_length=self.longest)["input_ids"]
        return ids


class ClassifierSource:
    """Scores responses with one label of a classifier."""

    def __init__(self, config: ClassifierReward, classifier: TextClassifier) -> None:
        self.name = config.name
        self.config = config
        self.classifier = classifier
        self.label = classifier.label_index(config.label)

    @classmethod
    def load(cls, config: ClassifierReward, device: torch.device) -> "ClassifierSource":
        """Load the classifier of ``config.path``."""
        place = f"reward source {config.name!r}"
        classifier = TextClassifier.load(config.model_at(config.path), device, place, config.overlong)
        return cls(config, classifier)

    def take_counts(self) -> TextCounts:
        """Return the counts of texts since the last call."""
        return self.classifier.take_counts()

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the label's logit or probability [samples]."""
        texts = [sample.response_text for sample in samples]
        if self.config.scored_text == "both":
            texts = [sample.prompt_text + sample.response_text for sample in samples]
        if self.config.output == "logit":
            return self.classifier.logits(texts, self.config.batch_size)[:, self.label]
        activation = self.classifier.own_activation
        return self.classifier.probabilities(texts, self.config.batch_size, activation)[:, self.label]


def _longest_text(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> int | None:
    # A tokenizer without a limit reports an astronomically large one.
    limit = min(tokenizer.model_max_length, context_length(model))
    return limit if limit < UNBOUNDED_CONTEXT else None
