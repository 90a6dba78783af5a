"""Pairs of dialogues from the embedded world, in the form of hh-rlhf: the default data of the benchmarks."""

import gzip
import json
import random
from pathlib import Path

from plaudit.quickstart.replies import MIXED, write_reply
from plaudit.quickstart.requests import draw_prompts, read_prompt
from plaudit.quickstart.world import compared_reply
from plaudit.seeding import python_generator

COUNT = 2400
TURNS = (1, 12)  # of the guest; hh-rlhf's prompts have a median of 70 words and a long tail


def write_dialogues(path: Path, count: int = COUNT, seed: int = 0) -> None:
    """Write ``count`` pairs, whose sides differ only in the last reply. The same seed gives the same bytes."""
    draws = python_generator(seed, "benchmarks", "dialogues")
    requests = draw_prompts("comparisons", 4 * count, python_generator(seed, "benchmarks", "requests"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as file:
        for _ in range(count):
            file.write(json.dumps(_pair(requests, draws)).encode() + b"\n")


def _pair(requests: list[str], draws: random.Random) -> dict[str, str]:
    # Short dialogues are more frequent than long ones, as between people.
    turns = draws.choices(range(TURNS[0], TURNS[1] + 1), weights=[1 / number for number in range(1, TURNS[1] + 1)])[0]
    *earlier, last = draws.sample(requests, turns)
    before = "".join(
        f"\n\nHuman: {request}\n\nAssistant: {write_reply(read_prompt(request), MIXED, draws)}" for request in earlier
    )
    prompt = f"{before}\n\nHuman: {last}\n\nAssistant: "
    chosen = rejected = compared_reply(read_prompt(last), draws)
    while rejected == chosen:
        rejected = compared_reply(read_prompt(last), draws)
    return {"chosen": prompt + chosen, "rejected": prompt + rejected}
