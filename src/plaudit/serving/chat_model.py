"""A model in a chat: renders the conversation, samples candidates, scores them, and picks the best."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from plaudit.config.schema import DataConfig, GenerationConfig
from plaudit.data.rows import Origin, Prompt, PromptRow
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.errors import PlauditError
from plaudit.rollouts.engines.base import Generates
from plaudit.rollouts.samples import Request, Sample
from plaudit.seeding import derived_seed
from plaudit.serving.conversation import Conversation, Turn, best_candidate, ranked_candidates
from plaudit.serving.prompts import Rendering, Style

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel
    from plaudit.rewards.sources import ComposedReward


@dataclass(frozen=True)
class ChatSettings:
    """How a conversation becomes a prompt, and how replies are sampled.

    Styles: ``dialogue`` renders all turns (chat template, or Human/Assistant turns), ``prompt`` puts the typed text
    into the data's prompt template, like a plain prompt in training, ``plain`` lets the model continue the typed text.
    Only ``dialogue`` uses earlier turns.
    """

    style: Style
    data: DataConfig
    generation: GenerationConfig
    best_of: int
    seed: int


class ChatModel:
    """Answers in a conversation with the best of N candidates."""

    def __init__(
        self, loaded: "LoadedModel", engine: Generates, reward: "ComposedReward", settings: ChatSettings
    ) -> None:
        if settings.best_of > 1 and not reward.sources:
            raise PlauditError("--best-of needs a reward model to score the candidates; name one with --reward")
        reward.check_tokenizer(loaded.tokenizer)
        self.settings = settings
        self.reward_names = reward.names
        self._engine = engine
        self._reward = reward
        self._rendering = Rendering(loaded.tokenizer, settings.style, settings.data)
        self._generation = self._rendering.generation("", settings.generation)
        longest = min(loaded.context_length, reward.context_length)
        self._room = longest - settings.generation.max_new_tokens
        if self._room < 1:
            raise PlauditError(
                f"{settings.generation.max_new_tokens} new tokens leave no room for a prompt in the {longest} tokens "
                "that the model and its rewards read; lower --max-new-tokens"
            )

    @property
    def remembers(self) -> bool:
        """Whether the model gets earlier turns and the system message."""
        return self.settings.style == "dialogue"

    def answer(self, conversation: Conversation, user: str, show: Callable[[str], None] | None = None) -> Turn:
        """Return the next turn without adding it to the conversation. Raises PlauditError for a too long message.

        ``show`` is called with each part of the reply's text while it is written; there must be a single candidate.
        """
        prompt, left_out = self._prompt(conversation, user)
        requests = [
            Request.of(prompt, derived_seed(self.settings.seed, "chat", conversation.messages_sent, candidate))
            for candidate in range(self.settings.best_of)
        ]
        generate = self._engine.generate if show is None else partial(self._generate_visibly, show)
        samples = generate(requests, self._generation)
        candidates = ranked_candidates(
            [self._reply(sample.response_text) for sample in samples],
            [len(sample.response_ids) for sample in samples],
            [sample.ended for sample in samples],
            {name: scores.tolist() for name, scores in self._reward.score(samples).each.items()},
        )
        system = conversation.system if self.remembers else None
        return Turn(user, candidates, best_candidate(candidates), system, left_out)

    def _generate_visibly(
        self, show: Callable[[str], None], requests: Sequence[Request], settings: GenerationConfig
    ) -> list[Sample]:
        """Generate one sample and show its text without the spaces that the reply leaves out at both ends."""
        [request] = requests
        shown = written = ""
        samples = []
        with closing(self._engine.stream([request], settings)) as pieces:
            for piece in pieces:
                written += piece.text
                reply = self._reply(written)
                show(reply[len(shown) :])
                shown = reply
                if piece.sample is not None:
                    samples.append(piece.sample)
        return samples

    def _reply(self, text: str) -> str:
        return text if self.settings.style == "plain" else text.strip()

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _prompt(self, conversation: Conversation, user: str) -> tuple[TokenizedRow[PromptRow], int]:
        """Return the prompt and the number of oldest turns that were left out so that it fits."""
        most = len(conversation.turns) if self.remembers else 0
        for left_out in range(most + 1):
            prompt = self._tokenized(conversation.messages(user, left_out) if self.remembers else user)
            if len(prompt.tree.prompt) <= self._room:
                return prompt, left_out
        raise PlauditError(
            f"the message has {len(prompt.tree.prompt)} tokens, but the model's context has room for {self._room}; "
            "shorten it"
        )

    def _tokenized(self, prompt: Prompt) -> TokenizedRow[PromptRow]:
        return self._rendering.prompts([PromptRow(prompt, Origin("the conversation", 1))])[0]
