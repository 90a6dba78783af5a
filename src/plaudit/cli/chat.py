"""``plaudit chat``: chat with a run, a model folder or a hub model."""

from typing import Annotated

import typer

from plaudit.cli.console import DeviceOption, MaxNewTokensOption, PlainOption, SeedOption, TemperatureOption, TopPOption


def chat(
    target: Annotated[
        str, typer.Argument(metavar="RUN", help="A run (name or folder), a model folder, or a hub name.")
    ],
    best_of: Annotated[int, typer.Option("--best-of", help="Candidates per turn; the best is the reply.", min=1)] = 1,
    reward: Annotated[
        list[str] | None, typer.Option("--reward", help="Another reward model: run, folder or hub name; repeatable.")
    ] = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    max_new_tokens: MaxNewTokensOption = None,
    plain: PlainOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Talk to a model. Type /help in the chat for its commands.

    Given a run, chat with the model of its latest stage; its reward model scores the candidates.

    Example: plaudit chat quickstart --best-of 8
    """
    from plaudit import api

    chosen = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
    sampling = {key: value for key, value in chosen.items() if value is not None}
    api.chat(target, best_of=best_of, rewards=reward or [], plain=plain, seed=seed, device=device, **sampling)
