"""The engine against transformers' own generation and plain forward passes, on tiny random models."""

import math
from typing import Any

import pytest
import torch

from generating_models import (
    ARCHITECTURES,
    END,
    WORDS,
    engine_of,
    plain_log_probabilities,
    requests_of,
    tiny_model,
    word_tokenizer,
)
from plaudit.config.schema import GenerationConfig
from plaudit.errors import PlauditError
from plaudit.rollouts.samples import Request
from plaudit.rollouts.sampling import draw_limits
from small_memory import small_memory


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_equals_transformers_in_any_batch(architecture: str) -> None:
    model = tiny_model(architecture).eval()
    requests = requests_of([3, 9, 1, 5, 9, 2, 4])
    requests.append(Request(requests[1].prompt_ids, "the same prompt again", seed=7))
    settings = GenerationConfig(max_new_tokens=12, temperature=0, batch_size=3)
    samples = engine_of(model).generate(requests, settings)
    for request, sample in zip(requests, samples, strict=True):
        prompt = torch.tensor([request.prompt_ids])
        wanted = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=12, pad_token_id=0
        )[0, len(request.prompt_ids) :].tolist()
        assert list(sample.response_ids) == wanted
        assert sample.ended == (wanted[-1] == END)
        torch.testing.assert_close(
            torch.tensor(sample.log_probabilities), plain_log_probabilities(model, sample, 1.0), atol=1e-5, rtol=1e-4
        )
    for batch_size in (1, 8):
        again = engine_of(model).generate(requests, settings.model_copy(update={"batch_size": batch_size}))
        assert [sample.response_ids for sample in again] == [sample.response_ids for sample in samples]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bloom"])
def test_samples_do_not_depend_on_the_batch(architecture: str) -> None:
    model = tiny_model(architecture)
    requests = requests_of([3, 8, 8, 1, 6, 2, 7, 7, 4, 5])
    settings = GenerationConfig(max_new_tokens=16, temperature=3.0, batch_size=10)
    together = engine_of(model).generate(requests, settings)
    assert {sample.ended for sample in together} == {True, False}
    backwards = engine_of(model).generate(requests[::-1], settings.model_copy(update={"batch_size": 3}))[::-1]
    alone = [engine_of(model).generate([request], settings)[0] for request in requests]
    for one, two, three in zip(together, backwards, alone, strict=True):
        assert one.response_ids == two.response_ids == three.response_ids
        assert one.log_probabilities == pytest.approx(three.log_probabilities, abs=1e-5)
        assert one.log_probabilities == pytest.approx(plain_log_probabilities(model, one, 3.0).tolist(), abs=1e-5)


@pytest.mark.parametrize("positions", [40, 4])
def test_out_of_memory_halves_the_batch_and_changes_no_sample(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], positions: int
) -> None:
    """40 positions are too few for 6 prompts of 8 tokens; 4 are enough for short prompts, not for 6 new tokens."""
    model = tiny_model("llama").train()
    requests = requests_of([8] * 10 if positions == 40 else [1] * 10)
    settings = GenerationConfig(max_new_tokens=16, temperature=3.0, batch_size=6)
    wanted = engine_of(model).generate(requests, settings)
    engine = engine_of(model)
    with monkeypatch.context() as patch:
        rows = small_memory(patch, positions)
        found = engine.generate(requests, settings)
        assert max(rows) == 3
        assert engine.generate(requests, settings) == found
    assert [sample.response_ids for sample in found] == [sample.response_ids for sample in wanted]
    for one, two in zip(found, wanted, strict=True):
        assert one.log_probabilities == pytest.approx(two.log_probabilities, abs=1e-5)
    told = "warning: out of memory: the batch size of generation is now 3; this changes results only by rounding\n"
    assert capsys.readouterr().err == told, "once, for the engine remembers"
    assert model.training


def test_too_little_memory_for_one_response(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(tiny_model("llama"))
    small_memory(monkeypatch, 7)
    with pytest.raises(PlauditError, match=r"even when the batch size of generation is 1; use a smaller model") as e:
        engine.generate(requests_of([8] * 5), GenerationConfig(max_new_tokens=4))
    assert "\n" not in str(e.value)


def test_order_fields_and_mode_are_kept() -> None:
    model = tiny_model("llama").train()
    requests = requests_of([2, 7, 4])
    samples = engine_of(model).generate(requests, GenerationConfig(max_new_tokens=4, batch_size=2))
    assert [sample.prompt_ids for sample in samples] == [request.prompt_ids for request in requests]
    assert [sample.fields["row"] for sample in samples] == [0, 1, 2]
    assert model.training


def test_dropout_is_off_while_sampling() -> None:
    model = tiny_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5).train()
    [sample] = engine_of(model).generate(requests_of([5]), GenerationConfig(max_new_tokens=10))
    assert sample.log_probabilities == pytest.approx(plain_log_probabilities(model, sample, 1.0).tolist(), abs=1e-5)


def test_the_distribution_is_sampled() -> None:
    """Chi-square of 4,000 first tokens against the model's softmax; the 0.1 % quantile for 39 degrees is 72.1."""
    model = tiny_model("llama").eval()
    prompt = requests_of([4])[0].prompt_ids
    requests = [Request(prompt, "", seed) for seed in range(4000)]
    samples = engine_of(model).generate(requests, GenerationConfig(max_new_tokens=1, temperature=2.5, batch_size=4000))
    counts = torch.bincount(torch.tensor([sample.response_ids[0] for sample in samples]), minlength=WORDS)
    with torch.no_grad():
        expected = 4000 * torch.softmax(model(torch.tensor([prompt])).logits[0, -1] / 2.5, -1)
    assert float(expected.min()) > 1
    assert float(((counts - expected) ** 2 / expected).sum()) < 72.1


def test_no_end_before_min_new_tokens() -> None:
    model = tiny_model("llama")
    requests = [Request((5, 6, 7), "", seed) for seed in range(300)]
    early = engine_of(model).generate(requests, GenerationConfig(max_new_tokens=12, temperature=2.5))
    late = engine_of(model).generate(requests, GenerationConfig(max_new_tokens=12, min_new_tokens=6, temperature=2.5))
    assert min(len(sample.response_ids) for sample in early) < 7
    assert min(len(sample.response_ids) for sample in late) == 7
    ends = sorted(engine_of(model)._end_ids)
    for sample in late[:5]:
        with torch.no_grad():
            logits = model(torch.tensor([sample.prompt_ids + sample.response_ids])).logits[0, 2:-1] / 2.5
        logits[:6, ends] = float("-inf")  # the tokens were drawn from the others
        drawn = logits.log_softmax(-1)[range(len(sample.response_ids)), sample.response_ids]
        assert sample.log_probabilities == pytest.approx(drawn.tolist(), abs=1e-5)


def test_end_token_ends_and_is_kept() -> None:
    model = tiny_model("llama")
    requests = [Request((5, 6, 7), "", seed) for seed in range(100)]
    for sample in engine_of(model).generate(requests, GenerationConfig(max_new_tokens=12, temperature=2.5)):
        assert END not in sample.response_ids[:-1]
        assert sample.ended == (sample.response_ids[-1] == END)
        assert sample.ended or len(sample.response_ids) == 12
        assert len(sample.log_probabilities) == len(sample.response_ids)


def test_every_named_end_token_ends() -> None:
    model = tiny_model("llama")
    model.generation_config.eos_token_id = [END, 11, 12, 13, 14, 15]
    requests = [Request((5, 6, 7), "", seed) for seed in range(100)]
    samples = engine_of(model).generate(requests, GenerationConfig(max_new_tokens=12, temperature=2.5))
    assert {sample.response_ids[-1] for sample in samples if sample.ended} > {11, 12}
    assert all(not {END, 11, 12, 13, 14, 15} & set(sample.response_ids[:-1]) for sample in samples)


def test_padding_token_is_a_token_like_any_other() -> None:
    model = tiny_model("llama", pad_token_id=END)
    requests = requests_of([2, 6])
    sample = engine_of(model).generate([Request((0, 0, 5), "", 1), *requests], GenerationConfig(max_new_tokens=6))[0]
    assert sample.log_probabilities == pytest.approx(plain_log_probabilities(model, sample, 1.0).tolist(), abs=1e-5)


def test_random_lengths_cover_the_range_and_belong_to_the_request() -> None:
    model = tiny_model("llama")
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    settings = GenerationConfig(max_new_tokens=6, min_new_tokens=3, random_length=True, batch_size=7)
    requests = [Request((5, 6), "", seed) for seed in range(40)]
    samples = engine_of(model).generate(requests, settings)
    limits = draw_limits(requests, settings)
    assert set(limits) == {3, 4, 5, 6}
    assert all(len(s.response_ids) == limit or s.ended for s, limit in zip(samples, limits, strict=True))
    assert samples[9].response_ids == engine_of(model).generate([requests[9]], settings)[0].response_ids


def test_stop_strings_cut_exactly() -> None:
    model = tiny_model("llama")
    requests = [Request((5, 6, 7), "w5 w6 w7", seed) for seed in range(40)]
    free = GenerationConfig(max_new_tokens=24, temperature=2.5)
    stops = [" w2", "w17 w"]
    stopped = engine_of(model).generate(requests, free.model_copy(update={"stop": stops}))
    assert sum(sample.response_ids[-1] != END and sample.ended for sample in stopped) > 20
    for whole, sample in zip(engine_of(model).generate(requests, free), stopped, strict=True):
        assert sample.response_ids == whole.response_ids[: len(sample.response_ids)]
        assert len(sample.log_probabilities) == len(sample.response_ids)
        places = [whole.response_text.find(stop) for stop in stops if stop in whole.response_text]
        if not places:
            assert sample.response_text == whole.response_text
            assert sample.ended == whole.ended
            continue
        assert sample.ended
        assert sample.response_text == whole.response_text[: min(places)]
        words = "".join(f" w{token}" for token in sample.response_ids if token > 3)
        shorter = "".join(f" w{token}" for token in sample.response_ids[:-1] if token > 3)
        assert any(stop in words for stop in stops)
        assert not any(stop in shorter for stop in stops)


def test_work_stops_when_every_row_has_stopped() -> None:
    model = tiny_model("llama")
    calls: list[int] = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    requests = [Request((5, 6, 7), "", seed) for seed in range(4)]
    stops = [f"w{digit}" for digit in range(1, 10)]
    engine_of(model).generate(requests, GenerationConfig(max_new_tokens=50, stop=stops))
    assert len(calls) <= 8


def test_ended_rows_leave_the_batch() -> None:
    model = tiny_model("llama")
    engine = engine_of(model)
    widths: list[int] = []
    model.model.layers[0].register_forward_pre_hook(lambda _, inputs: widths.append(len(inputs[0])))
    requests = [Request((5, 6, 7), "", seed) for seed in range(40)]
    samples = engine.generate(requests, GenerationConfig(max_new_tokens=40, temperature=2.5))
    lengths = [len(sample.response_ids) for sample in samples]
    assert widths[0] == 1
    for step, width in enumerate(widths[1:], start=1):
        running = sum(length > step for length in lengths)
        assert running <= width
        assert running > 0.75 * width or width == running


def test_responses_keep_the_space_before_them() -> None:
    [sample] = engine_of(tiny_model("llama")).generate(
        [Request((5, 6), "w5 w6", 0)], GenerationConfig(max_new_tokens=3, min_new_tokens=3)
    )
    assert sample.response_text == "".join(f" w{token}" for token in sample.response_ids if token > 3)


@pytest.mark.parametrize(
    "prompt, settings, remedy",
    [
        (tuple(range(4, 34)), {"max_new_tokens": 35}, "64 tokens; lower max_new_tokens"),
        ((), {}, "BOS"),
        ((5,), {"stop": ["a", ""]}, "remove it"),
    ],
)
def test_impossible_requests_say_what_to_do(prompt: tuple[int, ...], settings: dict[str, Any], remedy: str) -> None:
    unchecked = GenerationConfig().model_copy(update=settings)
    with pytest.raises(PlauditError, match=remedy):
        engine_of(tiny_model("llama")).generate([Request(prompt, "", 0)], unchecked)


def test_the_whole_context_can_be_used() -> None:
    prompt = tuple(range(4, 34))
    settings = GenerationConfig(max_new_tokens=34, min_new_tokens=34)
    for architecture in ("llama", "gpt2", "opt"):
        [sample] = engine_of(tiny_model(architecture)).generate([Request(prompt, "", 0)], settings)
        assert len(sample.response_ids) == 34


def test_broken_weights_are_named() -> None:
    model = tiny_model("llama")
    model.lm_head.weight.data[5, 5] = math.nan
    with pytest.raises(PlauditError, match="not finite"):
        engine_of(model).generate(requests_of([3, 4]), GenerationConfig(max_new_tokens=3))


def test_adapters_take_part() -> None:
    import peft

    model = tiny_model("llama").eval()
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", init_lora_weights=False)
    )
    settings = GenerationConfig(max_new_tokens=8, min_new_tokens=8, temperature=0)
    requests = requests_of([3, 6])
    samples = engine_of(adapted).generate(requests, settings)
    for sample in samples:
        wanted = plain_log_probabilities(adapted, sample, 1.0).tolist()
        assert sample.log_probabilities == pytest.approx(wanted, abs=1e-5)
    with adapted.disable_adapter():
        plain = engine_of(adapted).generate(requests, settings)
    assert [sample.response_ids for sample in plain] != [sample.response_ids for sample in samples]


def test_text_continues_the_prompt_with_a_tokenizer_that_marks_spaces() -> None:
    """SentencePiece's words begin with a mark for the space before them, which must be kept at the boundary."""
    model, tokenizer = tiny_model("llama").eval(), word_tokenizer()
    texts = ["w5 w6 w7 w8", "w9", "w20 w4"]
    prompts = [tuple(tokenizer(text)["input_ids"]) for text in texts]
    continued = []
    for prompt, text in zip(prompts, texts, strict=True):
        ids = torch.tensor([prompt])
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)[0]
        continued.append(tokenizer.decode(whole, skip_special_tokens=True).removeprefix(text))
    stop = continued[0].split()[4]
    samples = engine_of(model).generate(
        [Request(prompt, text, 0) for prompt, text in zip(prompts, texts, strict=True)],
        GenerationConfig(max_new_tokens=12, temperature=0, stop=[stop]),
    )
    assert [sample.response_text for sample in samples] == [text.split(stop)[0] for text in continued]
    assert all(sample.response_text.startswith(" w") for sample in samples)


def test_no_requests_no_samples() -> None:
    assert engine_of(tiny_model("llama")).generate([], GenerationConfig()) == []
