"""A few completions at every held-out measurement, so that one can read what a language model has become."""

from plaudit.config.schema import GenerationConfig, LanguageModelStageConfig
from plaudit.data.rows import Origin, PromptRow
from plaudit.data.tokenization import to_trees
from plaudit.models.loading.models import LoadedModel
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request
from plaudit.runs.context import StageContext
from plaudit.runs.jsonl import JsonLinesWriter
from plaudit.seeding import derived_seed
from plaudit.training.examples import Examples


class SampleCompletions:
    """Completes the same prompts whenever it is asked: those of the configuration, or the first held-out ones."""

    def __init__(
        self,
        context: StageContext[LanguageModelStageConfig],
        loaded: LoadedModel,
        examples: Examples,
    ) -> None:
        self.context, self.config, self.session, self.loaded = context, context.config, context.session, loaded
        self.requests = self._requests(examples)

    def write(self, step: int) -> None:
        """Append the completions to the stage's samples, in the main process."""
        if not self.requests or not self.session.is_main:
            return
        settings = GenerationConfig(max_new_tokens=self.config.sample_tokens)
        with JsonLinesWriter(self.context.directory.samples) as log, self.session.autocast():
            for sample in TransformersEngine(self.loaded).generate(self.requests, settings):
                log.append({"step": step, "prompt": sample.prompt_text, "response": sample.response_text, "scores": {}})

    def _requests(self, examples: Examples) -> list[Request]:
        room = self.loaded.context_length - self.config.sample_tokens
        if self.config.sample_prompts:
            rows = [
                PromptRow(text, Origin("sample_prompts", i)) for i, text in enumerate(self.config.sample_prompts, 1)
            ]
            trees = to_trees(rows, self.loaded.tokenizer, self.config.data, room).trees
        else:
            fitting = [tree for tree in (examples.held_out or examples.train) if len(tree.prompt) <= room]
            trees = fitting[: self.config.samples]
        return [
            Request(tree.prompt, tree.fields["prompt_text"], derived_seed(self.context.seed, "sample", number))
            for number, tree in enumerate(trees)
        ]
