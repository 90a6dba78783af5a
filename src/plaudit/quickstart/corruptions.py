"""Ways to corrupt a reply. Compared replies contain them, so that a reward model learns to reject them."""

import random
from collections.abc import Callable

from plaudit.quickstart.lexicon import COURTESY, FILLERS, VALUES, vocabulary, words
from plaudit.quickstart.replies import MIXED, plan_reply, write_confirmation
from plaudit.quickstart.requests import Request, draw_request

Corruption = Callable[[Request, list[str], random.Random], list[str]]
"""Takes a request, the sentences of a reply and a random generator; returns at least one sentence or fragment."""

_WORDS = [word for word in vocabulary() if word not in ".,!?"]


def repeat_sentence(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Repeat one sentence two or three times."""
    place = random_numbers.randrange(len(sentences))
    return sentences[:place] + [sentences[place]] * random_numbers.randint(1, 2) + sentences[place:]


def pile_up_courtesy(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Add more sentences of one kind of courtesy, before or after the rest."""
    extra = list(random_numbers.choice(list(COURTESY.values())))[: random_numbers.randint(2, 3)]
    return extra + sentences if random_numbers.random() < 0.5 else sentences + extra


def break_off(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Stop in the middle of a sentence."""
    place = random_numbers.randrange(len(sentences))
    kept = sentences[place].rstrip(".").split()
    return [*sentences[:place], " ".join(kept[: random_numbers.randint(1, len(kept))])]


def shuffle_sentences(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Shuffle the sentences."""
    return random_numbers.sample(sentences, len(sentences))


def shuffle_words(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Shuffle the words of one sentence."""
    place = random_numbers.randrange(len(sentences))
    jumbled = sentences[place].rstrip(".").split()
    random_numbers.shuffle(jumbled)
    return [*sentences[:place], " ".join(jumbled) + ".", *sentences[place + 1 :]]


def change_words(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Replace, repeat or drop a few words."""
    text = words(" ".join(sentences))
    for _ in range(random_numbers.randint(1, 3)):
        place = random_numbers.randrange(len(text))
        text[place : place + 1] = random_numbers.choice(
            [[random_numbers.choice(_WORDS)], [text[place]] * 2, [text[place]] if len(text) == 1 else []]
        )
    return ["".join(word if word in ".,!?" else f" {word}" for word in text).strip()]


def leave_out_confirmation(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Leave out the sentence that grants the request."""
    heads = request.kind.heads
    rest = [sentence for sentence in sentences if not sentence.startswith(heads)]
    return rest or [random_numbers.choice(FILLERS)]


def answer_something_else(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Grant a request of another kind."""
    other = draw_request(random_numbers)
    while other.kind == request.kind:
        other = draw_request(random_numbers)
    values = {**other.values, **{slot: value for slot, value in request.values.items() if slot in other.values}}
    confirmation = write_confirmation(other, values, random_numbers)
    heads = request.kind.heads
    return [confirmation if sentence.startswith(heads) else sentence for sentence in sentences]


def contradict(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Confirm a second time, with new random values."""
    again = write_confirmation(request, plan_reply(request, MIXED, random_numbers).slots, random_numbers)
    place = random_numbers.randrange(len(sentences) + 1)
    return [*sentences[:place], again, *sentences[place:]]


def list_values(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Name many values of a slot instead of one sentence."""
    values = VALUES[random_numbers.choice(request.kind.slots)]
    listed = " ".join(random_numbers.sample(values, random_numbers.randint(2, len(values) // 2)))
    place = random_numbers.randrange(len(sentences))
    return [*sentences[:place], f"{listed}.", *sentences[place + 1 :]]


def ramble(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Add three to five fillers before the last sentence."""
    fillers = random_numbers.sample(FILLERS, random_numbers.randint(3, 5))
    return [*sentences[:-1], *fillers, sentences[-1]]


CORRUPTIONS: tuple[Corruption, ...] = (
    repeat_sentence,
    pile_up_courtesy,
    break_off,
    shuffle_sentences,
    shuffle_words,
    change_words,
    leave_out_confirmation,
    answer_something_else,
    contradict,
    list_values,
    ramble,
)


def corrupt(request: Request, sentences: list[str], random_numbers: random.Random) -> list[str]:
    """Corrupt a reply in one of these ways, chosen uniformly."""
    return random_numbers.choice(CORRUPTIONS)(request, sentences, random_numbers)
