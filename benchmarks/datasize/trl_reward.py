"""TRL's reward trainer on the same file, for two steps, used as its documentation recommends. Prints rows as JSON.

Runs in an environment that has TRL.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer  # type: ignore[import-not-found]


def main() -> None:
    """Train on the file in the first argument, from the model in the second; write into the folder in the third."""
    data, model, folder = sys.argv[1:4]
    torch.set_num_threads(1)
    dataset = load_dataset("json", data_files=data, split="train")
    config = RewardConfig(
        output_dir=str(Path(folder) / "trl"),
        use_cpu=True,
        max_steps=2,
        per_device_train_batch_size=16,
        max_length=1024,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(model, num_labels=1),
        args=config,
        train_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    trainer.train()
    print(json.dumps({"rows": len(dataset), "kept": len(trainer.train_dataset)}))


if __name__ == "__main__":
    main()
