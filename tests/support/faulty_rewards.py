"""Faulty reward functions."""


def not_a_number(prompts: list[str], responses: list[str]) -> list[float]:
    return [float("nan") if index == 1 else 1.0 for index in range(len(responses))]


def constant(prompts: list[str], responses: list[str]) -> list[float]:
    return [0.1] * len(responses)
