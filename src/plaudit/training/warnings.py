"""Signs that a run does not learn what it should, each with what to do about it."""

import math

from rich.console import Console


def warn(text: str) -> None:
    """Print a warning that stands out."""
    Console(stderr=True).print(f"[bold yellow]warning[/] {text}", soft_wrap=True)


def warn_if_no_better_than_chance(accuracy: float, pairs: float) -> None:
    """Warn when a reward model's held-out accuracy is within two standard errors of one half."""
    if accuracy - 2 * math.sqrt(0.25 / pairs) <= 0.5:
        warn(
            f"the reward model is no better than chance: {accuracy:.1%} of {pairs:.0f} held-out pairs. "
            "More comparisons, more epochs or a stronger model are needed before optimising against it"
        )


def warn_about_rollouts(iteration: int, score_deviation: float, ended_share: float, kl: float, kl_error: float) -> None:
    """Warn about constant rewards, responses that never end, and a KL that is below zero by more than noise."""
    if score_deviation == 0:
        warn(f"iteration {iteration}: every response has the same reward: nothing is learned; look at the source")
    if ended_share == 0:
        warn(
            f"iteration {iteration}: every response was cut at the limit; raise generation.max_new_tokens or "
            "set missing_eos_penalty"
        )
    if kl < -4 * kl_error and kl < -0.01:
        warn(
            f"iteration {iteration}: the KL to the reference is {kl:.3f}, below zero by more than noise: sampling and "
            "training disagree about probabilities; set generation.top_p=1 and generation.top_k=0, or precision=fp32"
        )
