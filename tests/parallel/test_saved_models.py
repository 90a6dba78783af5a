"""Under two processes, a stage whose saved model differs from the trained one does not finish, in any process."""

import copy
import json
from pathlib import Path
from typing import Any

from tiny_runs import FRESH, tiny_recipe
from two_processes import TwoProcesses

DAMAGING = """
import json, sys
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

save = PreTrainedModel.save_pretrained

def save_damaged(model, folder, *arguments, **options):
    save(model, folder, *arguments, **options)
    tensors = load_file(f"{folder}/model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"] *= 1.5
    save_file(tensors, f"{folder}/model.safetensors", {"format": "pt"})

PreTrainedModel.save_pretrained = save_damaged
from plaudit.cli.main import main

codes = []
for stage in ("pretrain", "reward"):
    sys.argv[1] = stage
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
print("exit codes", codes)
"""


def test_a_damaged_model_is_noticed_by_every_process(tmp_path: Path) -> None:
    # With smaller weights, a damaged layer would change the outputs by less than the check's tolerance.
    fresh: dict[str, Any] = copy.deepcopy(FRESH)
    fresh["options"]["initializer_range"] = 0.5
    model = {"fresh": fresh, "tokenizer": str(tmp_path / "tokenizer")}
    recipe = tiny_recipe(tmp_path, pretrain__model=model, reward__model=model)
    processes = TwoProcesses("-c", DAMAGING, "STAGE", str(recipe), "processes=2", "distributed=fsdp2")
    outputs = [process.communicate(timeout=300)[0] for process in processes.processes]
    for output in outputs:
        assert "exit codes [2, 2]" in output, output
        assert "Traceback" not in output
        for stage in ("pretrain", "reward"):
            folder = tmp_path / "runs/tiny" / stage
            assert f"{folder}/model: the saved model differs from the trained one" in output
            assert not (folder / "result.json").exists()
            [newest] = [json.loads(path.read_text())["step"] for path in folder.glob("checkpoints/*5/state.json")]
            assert newest == 5
