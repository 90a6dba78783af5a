"""TRL's side of a training comparison, used as its documentation recommends.

Run as a child process of compare.py, in an environment that has TRL.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

from comparison.meter import Meter, read_task
from comparison.rewards import for_trl


class Watch(TrainerCallback):
    """Runs the stopwatch during the trainer's loop."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start."""
        self.meter.start()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        self.meter.stop()


def main() -> None:
    """Train and write the measurements."""
    task, result = read_task()
    torch.set_num_threads(task["threads"])
    rows = [json.loads(line) for line in (Path(task["folder"]) / "ids.jsonl").read_text(encoding="utf-8").splitlines()]
    meter, counted = Meter(task["device"]), {"episodes": 0, "updates": 0, "tokens": 0}
    makers = {"reward": _reward, "dpo": _dpo, "sft": _sft, "grpo": _grpo, "ppo": _ppo}
    trainer = makers[task["name"]](task, rows, meter, counted)
    trainer.add_callback(Watch(meter))
    with _counted_updates(counted):
        trainer.train()
    if meter.seconds == 0:
        raise RuntimeError("TRL did not say when its training began and ended")
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    meter.write(result, losses=losses, **counted)


@contextmanager
def _counted_updates(counted: dict[str, int]) -> Iterator[None]:
    """Count the steps that optimizers really take: TRL's PPO counts iterations, and some of its steps do nothing."""

    def count(*_: Any) -> None:
        counted["updates"] += 1

    handle = register_optimizer_step_post_hook(count)
    yield
    handle.remove()


def _settings(task: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of all trainers: the same optimizer and precision as Plaudit's, nothing written."""
    return {
        "output_dir": str(Path(task["folder"]) / "trl"),
        "use_cpu": task["device"] == "cpu",
        "bf16": True,
        "learning_rate": task["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 0,
    }


def _supervised(task: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of trainers over a dataset; rows of similar length share a batch, or keep their order."""
    return _settings(task) | {
        "per_device_train_batch_size": task["peer_batch_size"],
        "gradient_accumulation_steps": task["batch_size"] // task["peer_batch_size"],
        "max_steps": task["updates"],
        "train_sampling_strategy": "sequential" if task["same_order"] else "group_by_length",
        "remove_unused_columns": False,
        "max_length": None,
    }


def _counting(trainer_class: Any, counted: dict[str, int], tokens: Any) -> Any:
    """Return the trainer class, counting the trained tokens of each forward pass."""

    class Counting(trainer_class):
        def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
            counted["tokens"] += int(tokens(inputs))
            return super().compute_loss(model, inputs, *arguments, **options)

    return Counting


def _reward(task: dict[str, Any], rows: list[Any], meter: Meter, counted: dict[str, int]) -> Any:
    from trl import RewardConfig, RewardTrainer  # type: ignore[import-not-found]

    data = [
        {"chosen_ids": chosen, "rejected_ids": rejected, "length": max(len(chosen), len(rejected))}
        for chosen, rejected in ([row["prompt"] + response for response in row["responses"]] for row in rows)
    ]
    return _counting(RewardTrainer, counted, lambda inputs: inputs["attention_mask"].sum())(
        model=_model(task, "scorer"),
        args=RewardConfig(**_supervised(task)),
        train_dataset=Dataset.from_list(data),
        processing_class=_tokenizer(task),
    )


def _dpo(task: dict[str, Any], rows: list[Any], meter: Meter, counted: dict[str, int]) -> Any:
    from trl import DPOConfig, DPOTrainer

    data = [
        {"prompt_ids": row["prompt"], "chosen_ids": row["responses"][0], "rejected_ids": row["responses"][1]}
        | {"length": len(row["prompt"]) + max(map(len, row["responses"]))}
        for row in rows
    ]
    meter.measure(DPOTrainer, "_precompute_ref_logps")
    # The trainer accepts only texts; these rows already have the columns that it would create from them.
    setattr(DPOTrainer, "_prepare_dataset", lambda self, dataset, *_: dataset)  # noqa: B010
    return _counting(DPOTrainer, counted, lambda inputs: inputs["completion_mask"].sum())(
        model=_model(task, "policy"),
        args=DPOConfig(**_supervised(task), beta=0.1, precompute_ref_log_probs=True),
        train_dataset=Dataset.from_list(data),
        processing_class=_tokenizer(task),
    )


def _sft(task: dict[str, Any], rows: list[Any], meter: Meter, counted: dict[str, int]) -> Any:
    from trl import SFTConfig, SFTTrainer

    data = [
        {"input_ids": row["prompt"] + response, "completion_mask": [0] * len(row["prompt"]) + [1] * len(response)}
        | {"length": len(row["prompt"]) + len(response)}
        for row in rows
        for response in row["responses"]
    ]
    return _counting(SFTTrainer, counted, lambda inputs: (inputs["labels"] != -100).sum())(
        model=_model(task, "policy"),
        args=SFTConfig(**_supervised(task), completion_only_loss=True),
        train_dataset=Dataset.from_list(data),
        processing_class=_tokenizer(task),
    )


def _grpo(task: dict[str, Any], rows: list[Any], meter: Meter, counted: dict[str, int]) -> Any:
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = _tokenizer(task)

    def tokens(inputs: Any) -> Any:
        counted["episodes"] += len(inputs["completion_mask"])
        return inputs["completion_mask"].sum()

    return _counting(GRPOTrainer, counted, tokens)(
        model=_model(task, "policy"),
        reward_funcs=for_trl,
        args=GRPOConfig(
            **_settings(task),
            per_device_train_batch_size=task["peer_batch_size"],
            gradient_accumulation_steps=task["episodes"] // task["peer_batch_size"],
            num_generations=task["group"],
            num_iterations=task["passes"],
            max_completion_length=task["new_tokens"],
            generation_kwargs={"min_new_tokens": task["new_tokens"]},
            max_steps=task["iterations"],
            beta=0.04,
        ),
        train_dataset=Dataset.from_list([{"prompt": tokenizer.decode(row["prompt"])} for row in rows]),
        processing_class=tokenizer,
    )


def _ppo(task: dict[str, Any], rows: list[Any], meter: Meter, counted: dict[str, int]) -> Any:
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"  # its Accelerator ignores the settings
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer  # type: ignore[import-not-found]

    tokenizer = _tokenizer(task)
    tokenizer.padding_side = "left"
    trainer = PPOTrainer(
        args=PPOConfig(
            **_settings(task),
            # With gradient_accumulation_steps above 1 it would take fewer optimizer steps than it has minibatches.
            per_device_train_batch_size=task["episodes"],
            gradient_accumulation_steps=1,
            num_mini_batches=task["minibatches"],
            num_ppo_epochs=task["passes"],
            local_rollout_forward_batch_size=task["peer_batch_size"],
            total_episodes=task["episodes"] * task["iterations"],
            num_sample_generations=0,
            response_length=task["new_tokens"],
            temperature=1.0,
        ),
        processing_class=tokenizer,
        model=_model(task, "policy"),
        ref_model=_model(task, "policy"),
        reward_model=_model(task, "scorer"),
        value_model=_model(task, "scorer"),
        train_dataset=Dataset.from_list([{"input_ids": row["prompt"]} for row in rows for _ in range(task["group"])]),
        eval_dataset=Dataset.from_list([{"input_ids": rows[0]["prompt"]}]),
    )
    _count_ppo(ppo_trainer, counted)
    # It samples and scores outside of its model's autocast, in float32, which would be even slower.
    trainer.train = torch.autocast(task["device"], torch.bfloat16)(trainer.train)
    return trainer


def _count_ppo(module: Any, counted: dict[str, int]) -> None:
    """Count the sampled episodes, and the tokens whose log-probabilities are trained on."""
    sample, log_probabilities = module.batch_generation, module.selective_log_softmax

    @wraps(sample)
    def counting_episodes(model: Any, queries: Any, *arguments: Any) -> Any:
        counted["episodes"] += len(queries)
        return sample(model, queries, *arguments)

    @wraps(log_probabilities)
    def counting_tokens(logits: Any, tokens: Any) -> Any:
        counted["tokens"] += tokens.numel() if torch.is_grad_enabled() else 0
        return log_probabilities(logits, tokens)

    module.batch_generation, module.selective_log_softmax = counting_episodes, counting_tokens


def _model(task: dict[str, Any], name: str) -> Any:
    kind = AutoModelForSequenceClassification if name == "scorer" else AutoModelForCausalLM
    return kind.from_pretrained(Path(task["models"]) / name, dtype=torch.float32)


def _tokenizer(task: dict[str, Any]) -> Any:
    return AutoTokenizer.from_pretrained(Path(task["models"]) / "policy")


if __name__ == "__main__":
    main()
