"""vLLM's side of the comparison of sampling: in-process, eager, bfloat16, with the default prefix cache.

On a CPU its prefix cache holds blocks of 128 tokens by default, so shorter prompts are computed for every response.
With smaller blocks (``block_size``) they are shared.

Run as a child process of sampling.py, in an environment that has vLLM's build for CPUs.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from comparison.turns import timed


def main() -> None:
    """Load the model, then answer every line of the input with the cost of one pass over the prompts."""
    answers = os.dup(1)
    os.dup2(2, 1)  # vLLM writes its log to standard output, where the answers go
    side = timed(_work(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), "cpu")
    for _ in sys.stdin:
        os.write(answers, (json.dumps(side()) + "\n").encode())


def _work(task: dict[str, Any]) -> Any:
    from vllm import LLM, SamplingParams

    tokens = task["new_tokens"]
    engine = LLM(
        model=task["model"],
        dtype="bfloat16",
        enforce_eager=True,
        block_size=task["block_size"],
        skip_tokenizer_init=True,
        max_num_seqs=len(task["prompts"]),
        disable_log_stats=True,
        seed=0,
    )
    prompts = [{"prompt_token_ids": prompt} for prompt in task["prompts"]]
    settings = SamplingParams(temperature=1.0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, detokenize=False)

    def work() -> int:
        engine.reset_prefix_cache()  # so that earlier turns save no work
        answers = engine.generate(prompts, settings, use_tqdm=False)
        return sum(len(answer.outputs[0].token_ids) for answer in answers)

    return work


if __name__ == "__main__":
    main()
