"""Published comparisons of two models: arena votes, MT-bench judgments, AlpacaEval's and SHP's annotations, WebGPT."""

from collections.abc import Iterator, Mapping, Sequence

from plaudit.data.formats.base import (
    BadRowError,
    Format,
    Kind,
    Record,
    Unused,
    has_value,
    ranking_or_tie,
    text_in,
    text_of,
)
from plaudit.data.formats.comparisons import DIFFERENT_PROMPTS, KINDS, compared, settled
from plaudit.data.formats.dialogues import dialogue_in
from plaudit.data.formats.prompts import INPUT, prompt_in
from plaudit.data.formats.sides import judged_dialogue, judged_side
from plaudit.data.formats.values import label, structured, whole_number
from plaudit.data.formats.winners import Coding, Winner, by_scores, ranks, winner
from plaudit.data.rows import Message, Origin, Prompt, Row
from plaudit.errors import PlauditError

_CONVERSATIONS = ("conversation_a", "conversation_b")
_OUTPUTS = ("output_1", "output_2")
_SIDES = "ab"


def _arena(coding: Coding, record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Votes on conversations (Chiang et al. 2024); MT-bench judges the turn in ``turn`` (Zheng et al. 2023)."""
    better = winner(record.get("winner"), record, _CONVERSATIONS, coding, "winner")
    yield from compared([_judged_turn(record, side) for side in _CONVERSATIONS], better, origin, kind)


def _judged_turn(record: Record, side: str) -> tuple[Prompt, str]:
    dialogue = dialogue_in(record, side)
    if has_value(record.get("turn")):
        turn = whole_number(record["turn"], "turn")
        answers = [index for index, message in enumerate(dialogue) if message.role == "assistant"]
        if not 1 <= turn <= len(answers):
            raise BadRowError(f"{side} has no turn {turn}")
        dialogue = dialogue[: answers[turn - 1] + 1]
    return judged_dialogue({}, [message.as_mapping() for message in dialogue], side)


def _arena_texts(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """The votes of the arena's competition of 2024: lists of turns as JSON, and one column per outcome."""
    outcomes = [label(record[f"winner_{name}"], f"winner_{name}") for name in ("model_a", "model_b", "tie")]
    if sum(outcomes) != 1:
        raise BadRowError("not exactly one of winner_model_a, winner_model_b, winner_tie is 1")
    better: Winner = None if outcomes[2] else outcomes.index(True)
    prompts = _texts(record, "prompt")
    answers = [_texts(record, f"response_{side}") for side in _SIDES]
    if any(len(texts) != len(prompts) for texts in answers):
        raise BadRowError("number of prompts and responses differ")
    if answers[0][:-1] != answers[1][:-1]:
        yield Unused(DIFFERENT_PROMPTS)
        return
    before = [
        message
        for asked, answered in zip(prompts, answers[0], strict=True)
        for message in (Message("user", asked), Message("assistant", answered))
    ][:-1]
    yield from ranking_or_tie(tuple(before), [texts[-1] for texts in answers], ranks(better), origin, kind)


def _texts(record: Record, column: str) -> list[str]:
    value = structured(record[column])
    if not isinstance(value, list) or not value:
        raise BadRowError(f"{column} is not a list of texts")
    return [text_of(text, column) for text in value]


def _alpaca_eval(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Annotations of AlpacaEval and AlpacaFarm (Dubois et al. 2023): from 1 (the first) to 2; 0 and 1.5 are draws."""
    better = winner(record["preference"], record, _OUTPUTS, Coding(1), "preference") if not _is_draw(record) else None
    sides = [judged_side(record, "instruction", text_in(record, side, "response"), side) for side in _OUTPUTS]
    yield from compared(sides, better, origin, kind)


def _settled_preference(known: Format, records: Sequence[Record]) -> Format:
    """Return the format; raises PlauditError if 1 may mean that the first or that the second output is better."""
    found = {str(record.get("preference")).strip().removesuffix(".0") for record in records}
    if "0" in found and found <= {"0", "1"}:
        raise PlauditError("preference is 0 or 1 in all first records; write 1 or 2 for the better output")
    return known


def _is_draw(record: Record) -> bool:
    return str(record["preference"]).strip() in ("0", "0.0")


def _shp(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Pairs of Reddit comments (Ethayarajh et al. 2022): ``labels`` is 1 if A is preferred and 0 if B is."""
    sides = [text_in(record, f"human_ref_{side}", "response") for side in "AB"]
    better = 0 if label(record["labels"], "labels") else 1
    scores = [f"score_{side}" for side in "AB"]
    if all(has_value(record.get(name)) for name in scores) and by_scores([record[n] for n in scores], scores) not in (
        better,
        None,
    ):
        raise BadRowError("labels and the scores score_A, score_B contradict each other")
    prompt = (Message("user", text_in(record, "history", "prompt").strip()),)
    yield from ranking_or_tie(prompt, sides, ranks(better), origin, kind)


def _webgpt(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Comparisons of answers with sources (Nakano et al. 2021): opposite scores from -1 to 1; 0 is a tie."""
    question = structured(record["question"])
    text = question.get("full_text") if isinstance(question, Mapping) else question
    scores = ("score_0", "score_1")
    better = by_scores([record.get(name) for name in scores], scores)
    answers = [text_in(record, name, "response") for name in ("answer_0", "answer_1")]
    prompt = (Message("user", text_of(text, "prompt").strip()),)
    yield from ranking_or_tie(prompt, answers, ranks(better), origin, kind)


def _safe_rlhf(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Pairs of PKU-SafeRLHF (Dai et al. 2023); ``better_response_id`` judges helpfulness."""
    better = winner(record["better_response_id"], record, ("response_0", "response_1"), Coding(0), "better_response_id")
    answers = [text_in(record, name, "response") for name in ("response_0", "response_1")]
    yield from ranking_or_tie(prompt_in(record), answers, ranks(better), origin, kind)


_SAFETY = tuple(
    name
    for number in (0, 1)
    for name in (
        f"is_response_{number}_safe",
        f"response_{number}_severity_level",
        f"response_{number}_harm_category",
    )
)

FORMATS = (
    Format(
        "arena",
        (*_CONVERSATIONS, "winner"),
        KINDS,
        lambda record, origin, kind: _arena(Coding(None), record, origin, kind),
        also_reads=("turn", "model_a", "model_b"),
        ignores=(
            "question_id",
            "judge",
            "anony",
            "toxic_chat_tag",
            "openai_moderation",
            "full_conversation",
            "conv_metadata",
            "category_tag",
            "dedup_tag",
            "is_code",
            "is_refusal",
        ),
        settle=settled(_arena, ("winner",), lambda record: _CONVERSATIONS),
        judgement=("winner",),
        unordered=True,
        ties="`tie`, `both_bad`, …: counted, no row",
        dialogue=True,
        labels="`model_a` or `model_b`, or the model's name",
    ),
    Format(
        "arena_texts",
        ("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"),
        KINDS,
        _arena_texts,
        judgement=("winner_model_a", "winner_model_b", "winner_tie"),
        unordered=True,
        ties="counted, no row",
        dialogue=True,
        labels="1 in the outcome's column",
    ),
    Format(
        "alpaca_eval",
        ("instruction", *_OUTPUTS, "preference"),
        KINDS,
        _alpaca_eval,
        also_reads=(INPUT,),
        ignores=("raw_preference", "raw_completion", "generator_1", "generator_2", "annotator"),
        settle=_settled_preference,
        judgement=("preference",),
        unordered=True,
        ties="0 and 1.5: counted, no row",
        labels="1 (the first) to 2 (the second)",
    ),
    Format(
        "shp",
        ("history", "human_ref_A", "human_ref_B", "labels"),
        KINDS,
        _shp,
        also_reads=("score_A", "score_B"),
        ignores=("upvote_ratio", "score_ratio"),
        judgement=("labels",),
        unordered=True,
        ties="none",
        labels="1 if A is preferred, 0 if B is; the scores must agree",
    ),
    Format(
        "webgpt",
        ("question", "answer_0", "answer_1", "score_0", "score_1"),
        KINDS,
        _webgpt,
        ignores=("quotes_0", "quotes_1", "tokens_0", "tokens_1"),
        judgement=("score_0", "score_1"),
        unordered=True,
        ties="equal scores: counted, no row",
        labels="the higher score is better",
    ),
    Format(
        "safe_rlhf",
        ("prompt", "response_0", "response_1", "better_response_id"),
        KINDS,
        _safe_rlhf,
        ignores=("safer_response_id", *_SAFETY),
        judgement=("better_response_id",),
        unordered=True,
        ties="none",
        labels="the number of the better response, from 0",
    ),
)
