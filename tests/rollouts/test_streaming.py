"""A stream's pieces make up the samples of ``generate``; later tokens never change a piece."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from generating_models import engine_of, requests_of, tiny_model
from plaudit.config.schema import GenerationConfig
from plaudit.errors import PlauditError
from plaudit.rollouts.engines.base import in_one_piece
from plaudit.rollouts.samples import Piece, Sample
from plaudit.rollouts.texts import ResponseStream, cut_at_stop, longest_stop_beginning, response_text

LENGTHS = [5, 3, 7, 3, 1]
SETTINGS = GenerationConfig(max_new_tokens=20, temperature=1.5)


def together(pieces: Sequence[Piece], number: int) -> list[Sample]:
    """Check that each request's pieces make up its sample, which comes last; return the samples in order."""
    of_request: defaultdict[int, list[Piece]] = defaultdict(list)
    for piece in pieces:
        of_request[piece.index].append(piece)
    samples = []
    for index in range(number):
        *earlier, last = of_request[index]
        assert last.sample is not None
        assert all(piece.sample is None for piece in earlier)
        assert sum((piece.token_ids for piece in of_request[index]), ()) == last.sample.response_ids
        assert "".join(piece.text for piece in of_request[index]) == last.sample.response_text
        samples.append(last.sample)
    return samples


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch_size": 2},
        {"stop": ["w9"]},
        {"stop": ["w9 w", "w1"]},
        {"temperature": 0.0},
        {"random_length": True, "min_new_tokens": 2},
    ],
)
def test_the_pieces_are_what_generate_returns(changes: dict[str, Any]) -> None:
    settings, requests = SETTINGS.model_copy(update=changes), requests_of(LENGTHS * 3)
    engine = engine_of(tiny_model("llama"))
    wanted = engine.generate(requests, settings)
    assert together(list(engine.stream(requests, settings)), len(requests)) == wanted
    assert len({len(sample.response_ids) for sample in wanted}) > 1 or changes.get("temperature") == 0.0


def test_a_piece_comes_with_every_token() -> None:
    [request] = requests_of([4])
    engine = engine_of(tiny_model("llama"))
    settings = GenerationConfig(max_new_tokens=9, min_new_tokens=9)
    pieces = list(engine.stream([request], settings))
    assert [len(piece.token_ids) for piece in pieces] == [1] * 9
    assert all(piece.text for piece in pieces)


def test_the_model_runs_only_when_a_piece_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = tiny_model("llama")
    engine, passes = engine_of(model), [0]
    model.register_forward_pre_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
    settings = GenerationConfig(max_new_tokens=9, min_new_tokens=9)
    seen = []
    for _ in engine.stream(requests_of([4]), settings):
        seen.append(passes[0])
    assert seen == list(range(1, 10))


def test_what_is_computed_between_two_pieces_uses_the_layers_own_weights() -> None:
    model: Any = tiny_model("llama").train()
    engine, ids = engine_of(model), torch.tensor([[4, 5, 6]])
    autocast = torch.autocast("cpu", torch.bfloat16, cache_enabled=False)
    with autocast, closing(engine.stream(requests_of([4]), SETTINGS)) as pieces:
        next(pieces)
        prepared: list[Any] = [layer for layer in model.modules() if "forward" in vars(layer)]
        assert prepared
        with torch.no_grad():
            before = model(ids).logits
            for layer in prepared:
                layer.weight.mul_(2)
            assert not torch.equal(model(ids).logits, before)
        assert not torch.is_inference_mode_enabled()
    assert not any("forward" in vars(layer) for layer in model.modules())
    assert model.training


def test_two_streams_may_alternate() -> None:
    engine, [one, other] = engine_of(tiny_model("llama")), requests_of([4, 6])
    settings = GenerationConfig(max_new_tokens=9, min_new_tokens=9)
    wanted = engine.generate([one], settings) + engine.generate([other], settings)
    both = list(zip(engine.stream([one], settings), engine.stream([other], settings), strict=True))
    found = [together([pair[i] for pair in both], 1)[0] for i in range(2)]
    assert [sample.response_ids for sample in found] == [sample.response_ids for sample in wanted]


def test_wrong_requests_are_refused_as_by_generate() -> None:
    with pytest.raises(PlauditError, match=r"lower max_new_tokens"):
        next(engine_of(tiny_model("llama")).stream(requests_of([50]), SETTINGS))


def test_an_engine_without_streaming_yields_whole_samples() -> None:
    samples = engine_of(tiny_model("llama")).generate(requests_of(LENGTHS), SETTINGS)
    pieces = list(in_one_piece(samples))
    assert together(pieces, len(samples)) == samples
    assert len(pieces) == len(samples)


# Text that is final ---------------------------------------------------------------------------------------------------


def byte_level_tokenizer() -> Any:
    """A token for every byte, as byte-level tokenizers have it."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def byte_fallback_tokenizer() -> Any:
    """Some letters, and bytes for all other characters, as SentencePiece tokenizers have it."""
    letters = [*"abcdefghijklmnopqrstuvwxyz", "▁"]
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=AddedToken("<unk>"))


TEXT = "so 你好\n\n😀 naïve ende\n終 end"
TOKENIZERS = {"byte level": byte_level_tokenizer, "byte fallback": byte_fallback_tokenizer}


@pytest.mark.parametrize("name", list(TOKENIZERS))
@pytest.mark.parametrize("stops", [[], ["\n\n😀"], ["好\n", "naïf"], ["end\n"], ["ende", "de\n終"]])
def test_texts_concatenate_wherever_the_response_ends(name: str, stops: list[str]) -> None:
    tokenizer = TOKENIZERS[name]()
    prompt, response = tokenizer.encode("a 好"), tokenizer.encode(TEXT)
    for length in range(1, len(response) + 1):
        ids = response[:length]
        cut = cut_at_stop(tokenizer, prompt, ids, stops) if stops else None
        count, text = cut or (length, response_text(tokenizer, prompt, ids))
        stream, parts = ResponseStream(tokenizer, prompt, stops), []
        for end in range(1, length + 1):
            grown = stream.grow(ids[:end])
            if grown is not None:
                parts.append(grown)
        shown = "".join(part for _, part in parts)
        assert "\ufffd" not in shown
        parts.append(stream.rest(ids[:count], text))
        assert "".join(part for _, part in parts) == text
        assert [token for tokens, _ in parts for token in tokens] == ids[:count]


@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_characters_come_when_their_last_byte_does(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    stream, ids = ResponseStream(tokenizer, tokenizer.encode("a"), []), tokenizer.encode("é b")
    texts = [grown[1] for end in range(1, len(ids) + 1) if (grown := stream.grow(ids[:end])) is not None]
    # Bytes of a SentencePiece tokenizer are final only when another token follows.
    assert texts == {"byte level": ["", "é", " ", "b"], "byte fallback": ["", "", "é ", "b"]}[name]


def test_what_may_become_a_stop_string_waits() -> None:
    tokenizer = byte_level_tokenizer()
    ids = tokenizer.encode("xen end!")
    stream = ResponseStream(tokenizer, tokenizer.encode("a"), ["end!"])
    texts = [grown and grown[1] for grown in (stream.grow(ids[:end]) for end in range(1, len(ids) + 1))]
    assert texts == ["x", "", "", "en ", "", "", "", None]


@pytest.mark.parametrize(
    "text, stops, length", [("abc", [], 0), ("abc", ["cd"], 1), ("abc", ["cd", "bcd"], 2), ("abc", ["abc"], 0)]
)
def test_the_longest_beginning_of_a_stop_string(text: str, stops: list[str], length: int) -> None:
    assert longest_stop_beginning(text, stops) == length
