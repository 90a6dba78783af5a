"""How conversations become prompts, and how the best of N is chosen, with an engine that only records requests."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from plaudit.config.schema import DataConfig, GenerationConfig, SourceConfig
from plaudit.errors import PlauditError
from plaudit.rewards.sources import ComposedReward
from plaudit.rollouts.samples import Piece, Request, Sample
from plaudit.serving.chat_model import ChatModel, ChatSettings
from plaudit.serving.conversation import Conversation
from tiny_runs import write_tokenizer

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}{% if add_generation_prompt %}w0{% endif %}"
)


class Writer:
    """Answers request i of a turn with i + 1 times " good "."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.settings: GenerationConfig | None = None

    def generate(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        self.requests, self.settings = list(requests), settings
        return [
            Sample(request.prompt_ids, (5,) * (i + 1), request.prompt_text, " good " * (i + 1), i % 2 == 0)
            for i, request in enumerate(requests)
        ]

    def stream(self, requests: Sequence[Request], settings: GenerationConfig) -> Generator[Piece, None, None]:
        """Write one letter at a time."""
        for index, sample in enumerate(self.generate(requests, settings)):
            for letter in sample.response_text:
                yield Piece(index, (), letter)
            yield Piece(index, sample.response_ids, "", sample)

    def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Nothing to do: this engine has no weights."""

    def close(self) -> None:
        """Nothing to release."""


class Length:
    """Scores by the number of tokens, times a sign."""

    def __init__(self, name: str, sign: float) -> None:
        self.name, self.sign = name, sign

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        return torch.tensor([self.sign * len(sample.response_ids) for sample in samples])


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    write_tokenizer(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


def chat_model_of(
    tokenizer: Any,
    style: Any = "dialogue",
    context: int = 64,
    best_of: int = 3,
    writer: Writer | None = None,
    **data: Any,
) -> ChatModel:
    loaded: Any = SimpleNamespace(tokenizer=tokenizer, context_length=context)
    reward = ComposedReward([Length("long", 1.0), Length("short", -1.0)], [1.0, 1.0])
    config = DataConfig(sources=[SourceConfig(path="x")], **data)
    settings = ChatSettings(style, config, GenerationConfig(max_new_tokens=8), best_of, seed=0)
    return ChatModel(loaded, writer or Writer(), reward, settings)


@pytest.mark.parametrize(
    "style, chat_template, prompt_template, expected",
    [
        ("prompt", CHAT_TEMPLATE, "{prompt}", "w3"),
        ("prompt", CHAT_TEMPLATE, "w1 {prompt}", "w1 w3"),
        ("prompt", None, "{prompt}", "w3"),
        ("plain", CHAT_TEMPLATE, "{prompt}", "w3"),
    ],
)
def test_a_single_prompt_is_rendered_like_the_plain_prompts_of_training(
    tokenizer: Any, style: str, chat_template: str | None, prompt_template: str, expected: str
) -> None:
    tokenizer.chat_template = chat_template
    writer = Writer()
    chat_model_of(tokenizer, style, writer=writer, prompt_template=prompt_template).answer(Conversation(), "w3")
    assert {request.prompt_ids for request in writer.requests} == {tuple(tokenizer(expected)["input_ids"])}


def test_the_best_of_n_by_the_first_reward_is_the_reply(tokenizer: Any) -> None:
    turn = chat_model_of(tokenizer).answer(Conversation(), "w1 w2")
    assert [candidate.text for candidate in turn.candidates] == ["good", "good  good", "good  good  good"]
    assert turn.chosen == 2
    assert [candidate.ranks for candidate in turn.candidates] == [
        {"long": 3, "short": 1},
        {"long": 2, "short": 2},
        {"long": 1, "short": 3},
    ]
    assert [candidate.ended for candidate in turn.candidates] == [True, False, True]


def test_every_candidate_and_every_turn_draws_its_own_numbers(tokenizer: Any) -> None:
    writer, conversation = Writer(), Conversation()
    chat_model = chat_model_of(tokenizer, writer=writer)
    seeds = []
    for _ in range(2):
        conversation.add(chat_model.answer(conversation, "w1"))
        seeds += [request.seed for request in writer.requests]
        conversation.undo()
    assert len(set(seeds)) == 6


def test_dialogues_without_chat_template_are_human_and_assistant(tokenizer: Any) -> None:
    writer, conversation = Writer(), Conversation(system="be kind")
    chat_model = chat_model_of(tokenizer, best_of=1, writer=writer)
    conversation.add(chat_model.answer(conversation, "w1"))
    conversation.add(chat_model.answer(conversation, "w2"))
    wanted = "be kind\n\nHuman: w1\n\nAssistant: good\n\nHuman: w2\n\nAssistant:"
    assert writer.requests[0].prompt_text == wanted
    assert writer.settings is not None
    assert "\n\nHuman:" in writer.settings.stop


def test_the_chat_template_is_used_where_there_is_one(tokenizer: Any) -> None:
    tokenizer.chat_template = CHAT_TEMPLATE
    writer = Writer()
    chat_model = chat_model_of(tokenizer, writer=writer)
    chat_model.answer(Conversation(), "w1 good")
    assert tokenizer.decode(writer.requests[0].prompt_ids) == "<unk> w1 good w0"
    assert writer.settings == chat_model.settings.generation


def test_prompt_template_and_plain_forget_earlier_turns(tokenizer: Any) -> None:
    for style, template, wanted in (("prompt", "w7 {prompt} w8", "w7 w1 w8"), ("plain", "{prompt}", "w1")):
        writer, conversation = Writer(), Conversation(system="be kind")
        chat_model = chat_model_of(tokenizer, style, writer=writer, prompt_template=template)
        for _ in range(2):
            conversation.add(chat_model.answer(conversation, "w1"))
            assert writer.requests[0].prompt_text == wanted
        assert conversation.turns[-1].system is None
        assert not chat_model.remembers
        assert conversation.turns[-1].reply.text == (" good " * 3 if style == "plain" else "good  good  good")


def test_oldest_turns_are_left_out_when_the_context_is_full(tokenizer: Any) -> None:
    writer, conversation = Writer(), Conversation()
    chat_model = chat_model_of(tokenizer, context=8 + 13, best_of=1, writer=writer)
    left_out = []
    for _ in range(5):
        turn = chat_model.answer(conversation, "w1 w2")  # a past turn takes 5 tokens, the message 4
        conversation.add(turn)
        left_out.append(turn.left_out)
    assert left_out == [0, 0, 1, 2, 3]
    assert len(writer.requests[0].prompt_ids) <= 13


def test_a_message_that_is_too_long_is_refused(tokenizer: Any) -> None:
    with pytest.raises(PlauditError, match="room for 12; shorten it"):
        chat_model_of(tokenizer, context=20).answer(Conversation(), "w1 " * 20)
    with pytest.raises(PlauditError, match="lower --max-new-tokens"):
        chat_model_of(tokenizer, context=8)


def test_best_of_needs_something_that_scores(tokenizer: Any) -> None:
    loaded: Any = SimpleNamespace(tokenizer=tokenizer, context_length=64)
    settings = chat_model_of(tokenizer).settings
    with pytest.raises(PlauditError, match="--reward"):
        ChatModel(loaded, Writer(), ComposedReward([], []), settings)
    turn = ChatModel(loaded, Writer(), ComposedReward([], []), replace(settings, best_of=1)).answer(
        Conversation(), "w1"
    )
    assert turn.reply.scores == {}


@pytest.mark.parametrize("style, expected", [("dialogue", "good"), ("plain", " good ")])
def test_what_is_shown_while_it_is_written_is_the_reply(tokenizer: Any, style: str, expected: str) -> None:
    parts: list[str] = []
    turn = chat_model_of(tokenizer, style, best_of=1).answer(Conversation(), "w1", parts.append)
    assert "".join(parts) == turn.reply.text == expected
    assert len([part for part in parts if part]) == len(expected)
    assert turn == chat_model_of(tokenizer, style, best_of=1).answer(Conversation(), "w1")
