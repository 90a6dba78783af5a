"""Command-line options that all benchmarks share."""

import argparse
from pathlib import Path

import torch

from comparison.dialogues import write_dialogues
from comparison.environment import FOLDER
from comparison.materials import SHAPES


def common_options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows data, model, repeats, threads and device."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        help="pairs in the form of hh-rlhf, .jsonl.gz; default: dialogues of the embedded world",
    )
    parser.add_argument(
        "--model", choices=tuple(SHAPES), default="30m", help="size of the model; its weights are random"
    )
    parser.add_argument("--repeats", type=positive, default=3, help="number of measured runs of each side")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options and set this process's threads. Ends the program if the device or the data is missing."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device: cuda requested, but torch finds no CUDA device; set --device cpu")
    if options.data is None:
        options.data = FOLDER / "dialogues.jsonl.gz"
        write_dialogues(options.data)
    elif not options.data.exists():
        raise SystemExit(f"--data: {options.data}: no such file; give a file with pairs in the form of hh-rlhf")
    torch.set_num_threads(options.threads)
    return options
