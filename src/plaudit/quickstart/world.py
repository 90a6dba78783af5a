"""Writing the embedded task's data: who says what, and which use each text is put to."""

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from plaudit.config.schema import WorldConfig
from plaudit.quickstart.annotators import ANNOTATORS, rank
from plaudit.quickstart.corruptions import corrupt
from plaudit.quickstart.gold import gold_score
from plaudit.quickstart.overheard import write_overheard_reply
from plaudit.quickstart.qualities import read_reply
from plaudit.quickstart.replies import MIXED, plan_reply, write_reply, write_sentences
from plaudit.quickstart.requests import USES, Request, draw_prompts, read_prompt
from plaudit.quickstart.tokenizer import save_tokenizer
from plaudit.seeding import python_generator

CORRUPTED_SHARE = 0.25
"""Share of the compared replies that are spoiled."""

COMPARED_AT_A_TIME = (2, 4)
"""How many replies are compared at a time; each size is equally likely."""

README = """This folder was made by code: a small simulated world.

The texts are simulated: no guest and no concierge has ever said them. The annotators are simulated: each comparison in
comparisons.jsonl was made by a formula with random noise, not by a person. Only the annotators' choices are written
here; the gold score that evaluation uses is computed by plaudit.quickstart.gold and never shown to a model.

tokenizer/            one token per word or punctuation mark
pretrain.jsonl        requests with replies in which slips are corrected, to pre-train on
demonstrations.jsonl  requests with replies of mixed quality, to fine-tune on
comparisons.jsonl     replies to one request as an annotator ranks them (rank 0 is best), for the reward model
prompts.jsonl         requests alone, for reinforcement learning
test_prompts.jsonl    requests alone, for evaluation

No request occurs in two of these files.
"""


@dataclass(frozen=True)
class Comparison:
    """Replies to a prompt, the annotator's ranks, and, for the summary alone, their gold scores."""

    prompt: str
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    annotator: str
    gold: tuple[float, ...]

    def row(self) -> dict[str, Any]:
        """Return what is written: everything but the gold scores."""
        return {
            "prompt": self.prompt,
            "responses": self.responses,
            "ranks": self.ranks,
            "annotator": self.annotator,
        }

    def agreement(self) -> list[bool]:
        """Return for each pair with different gold scores whether the annotator orders it as they do."""
        pairs = [(i, j) for i in range(len(self.ranks)) for j in range(i) if self.gold[i] != self.gold[j]]
        return [(self.ranks[i] < self.ranks[j]) == (self.gold[i] > self.gold[j]) for i, j in pairs]


def compared_reply(request: Request, random_numbers: random.Random) -> str:
    """Return a reply as annotators see them: of mixed quality, and now and then spoiled."""
    sentences = write_sentences(request, plan_reply(request, MIXED, random_numbers), random_numbers)
    if random_numbers.random() < CORRUPTED_SHARE:
        sentences = corrupt(request, sentences, random_numbers)
    return " ".join(sentences)


def compare(prompt: str, random_numbers: random.Random) -> Comparison:
    """Let an annotator, drawn at random, rank replies to ``prompt``."""
    request = read_prompt(prompt)
    annotator = random_numbers.choice(ANNOTATORS)
    replies = tuple(compared_reply(request, random_numbers) for _ in range(random_numbers.choice(COMPARED_AT_A_TIME)))
    utilities = [annotator.utility(read_reply(request, reply)) for reply in replies]
    return Comparison(
        prompt=prompt,
        responses=replies,
        ranks=tuple(rank(utilities, annotator.noise, random_numbers)),
        annotator=annotator.name,
        gold=tuple(gold_score(prompt, reply) for reply in replies),
    )


def make_world(config: WorldConfig, seed: int, folder: Path) -> dict[str, float]:
    """Write the world's tokenizer and data files into ``folder`` and return numbers that sum them up.

    The numbers: ``count/USE`` prompts, mean gold score of the demonstrations and of the compared replies, and
    ``agreement``: share of the compared pairs with different gold scores that the annotator orders as they do. The same
    configuration and seed give the same bytes. Raises PlauditError when more prompts are asked for than the
    world has.
    """
    counts = {
        "pretraining": config.pretraining_texts,
        "demonstrations": config.demonstrations,
        "comparisons": config.comparisons,
        "prompts": config.prompts,
        "test": config.test_prompts,
    }
    prompts = {use: draw_prompts(use, counts[use], python_generator(seed, "world", "prompts", use)) for use in USES}

    def each(use: str) -> Iterator[tuple[str, random.Random]]:
        for index, prompt in enumerate(prompts[use]):
            yield prompt, python_generator(seed, "world", "replies", use, index)

    overheard = [(prompt, write_overheard_reply(read_prompt(prompt), draws)) for prompt, draws in each("pretraining")]
    shown = [(prompt, write_reply(read_prompt(prompt), MIXED, draws)) for prompt, draws in each("demonstrations")]
    comparisons = [compare(prompt, draws) for prompt, draws in each("comparisons")]

    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder / "tokenizer")
    (folder / "README.txt").write_text(README, encoding="utf-8")
    _write_rows(folder / "pretrain.jsonl", ({"prompt": prompt, "response": reply} for prompt, reply in overheard))
    _write_rows(folder / "demonstrations.jsonl", ({"prompt": prompt, "response": reply} for prompt, reply in shown))
    _write_rows(folder / "comparisons.jsonl", (comparison.row() for comparison in comparisons))
    _write_rows(folder / "prompts.jsonl", ({"prompt": prompt} for prompt in prompts["prompts"]))
    _write_rows(folder / "test_prompts.jsonl", ({"prompt": prompt} for prompt in prompts["test"]))
    agreement = [agrees for comparison in comparisons for agrees in comparison.agreement()]
    return {
        **{f"count/{use}": float(count) for use, count in counts.items()},
        "gold/demonstrations": mean(gold_score(prompt, reply) for prompt, reply in shown),
        "gold/compared_replies": mean(score for comparison in comparisons for score in comparison.gold),
        "agreement": mean(agreement) if agreement else 0.0,
    }


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
