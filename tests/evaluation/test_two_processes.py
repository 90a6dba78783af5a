"""Two processes share an evaluation and write the same files as one process."""

import json
import sys
from pathlib import Path

import pytest

from evaluation_world import ALONE, make_config, save_classifier, save_prompts
from plaudit.config.schema import EvaluateConfig
from plaudit.data.store.cache import DataCache
from plaudit.evaluation.compare import evaluate
from plaudit.evaluation.summary import flattened
from plaudit.parallel.processes import Processes, start_processes
from two_processes import TwoProcesses


def measure(config: str, folder: Path, processes: Processes) -> None:
    wanted, cache = EvaluateConfig.model_validate_json(config), DataCache(folder / "cache")
    evaluate(wanted, folder, seed=3, processes=processes, simulated=False, cache=cache)


def test_the_summary_is_that_of_one_process(tmp_path: Path) -> None:
    classifier = save_classifier(tmp_path / "classifier", ["fine", "rude"])
    prompts = {"sources": [save_prompts(tmp_path / "toxic.jsonl", ["rude night", "rude day", "bad"])]}
    toxicity = {"classifier": classifier, "labels": ["rude"], "activation": "softmax"}
    config = make_config(
        tmp_path,
        toxicity=toxicity | {"prompts": prompts | {"held_out_fraction": 1.0}},
        best_of=[1, 3],
        generation={"max_new_tokens": 6, "batch_size": 4},
    ).model_dump_json(exclude_unset=True)
    measure(config, tmp_path / "alone", ALONE)
    TwoProcesses(__file__, config, str(tmp_path / "shared")).finish()
    files = {path.name for path in (tmp_path / "alone").iterdir()}
    assert files == {path.name for path in (tmp_path / "shared").iterdir()} >= {"summary.json", "toxicity.csv"}
    expected, found = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("alone", "shared"))
    assert expected.keys() == found.keys() >= {"models", "toxicity", "best_of_n", "samples"}
    for key in expected.keys() - {"models", "toxicity"}:
        assert found[key] == expected[key], key
    # The other numbers come from batches of other prompts, whose sums are rounded differently.
    for key in ("models", "toxicity"):
        assert flattened(found[key]) == pytest.approx(flattened(expected[key]), rel=1e-6), key


if __name__ == "__main__":
    measure(sys.argv[1], Path(sys.argv[2]), start_processes(2, "cpu"))
