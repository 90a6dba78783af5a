"""The results of a run, as Python objects."""

import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.errors import PlauditError
from plaudit.registries.stages import STAGES
from plaudit.runs.directory import RunDirectory, StageDirectory
from plaudit.runs.jsonl import read_json_lines

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Run(os.PathLike[str]):
    """A run's folder and what is in it. ``Path(run)`` is the folder; a notebook shows a table of the stages.

    Args:
        folder: the run's folder. It is read when a method is called, so the run may be in progress.

    Raises:
        PlauditError: the folder is not that of a run.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise PlauditError(f"{folder!r}: expected the folder of a run, such as 'runs/quickstart'")
        self.folder = Path(folder)
        if not RunDirectory(self.folder).configuration.is_file():
            raise PlauditError(f"{self.folder}: not the folder of a run; name one that holds a config.yaml")

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        unfinished = f"; unfinished: {', '.join(self.unfinished)}" if self.unfinished else ""
        return f"Run({str(self.folder)!r}, finished: {', '.join(self.finished) or 'nothing'}{unfinished})"

    def _repr_html_(self) -> str:
        rows = [[name, "finished", self._headline(name)] for name in self.finished]
        rows += [[name, "unfinished", self._headline(name)] for name in self.unfinished]
        cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        return f"<table><caption>Run {escape(str(self.folder))}</caption>{body}</table>"

    def _headline(self, stage: str) -> str:
        """Return the first and the last value of the stage's headline metric in words."""
        name, words = STAGES[stage].headline or ("", "")
        values = [line[name] for line in self.metrics(stage) if line.get(name) is not None]
        return f"{words}: {values[0]:.4g} → {values[-1]:.4g}" if values else ""

    @property
    def finished(self) -> list[str]:
        """Names of the finished stages, in the order in which they run."""
        return [name for name in STAGES if self._directory(name).finished]

    @property
    def unfinished(self) -> list[str]:
        """Names of the stages that have begun and can be resumed, in the order in which they run."""
        return [name for name in STAGES if self._directory(name).begun and name not in self.finished]

    def model(self, stage: str | None = None) -> Path:
        """Return the folder of a stage's model, which transformers loads.

        Args:
            stage: name of the stage; by default the last one that trained a model.

        Returns:
            The folder, which also holds the tokenizer.

        Raises:
            PlauditError: the stage has not finished, or it trains no model.
        """
        models, stage = self._models(), stage or self._last_model()
        if stage is None or stage not in models:
            raise PlauditError(
                f"{self.folder}: there is no model of {stage or 'any stage'}; stages with a model: "
                f"{', '.join(models) or 'none'}"
            )
        return models[stage]

    def load_model(self, stage: str | None = None, **options: Any) -> "PreTrainedModel":
        """Return a stage's model, loaded with transformers, ready for inference on the CPU.

        Args:
            stage: name of the stage; by default the last one that trained a model.
            options: for ``from_pretrained`` of transformers, such as ``dtype=torch.bfloat16`` or ``device_map="cuda"``.

        Returns:
            A causal language model or, of a reward model, a sequence classifier with one output.

        Raises:
            PlauditError: the stage has not finished, it trains no model, or the model cannot be loaded.
        """
        import transformers

        from plaudit.models.loading.pretrained import load_from

        folder, stage = str(self.model(stage)), stage or self._last_model()
        is_reward_model = stage is not None and STAGES[stage].makes == "reward model"
        kind: Any = getattr(transformers, f"AutoModelFor{'SequenceClassification' if is_reward_model else 'CausalLM'}")
        model: PreTrainedModel = load_from(f"model {folder}", kind.from_pretrained, folder, **options).eval()
        return model

    def load_tokenizer(self, stage: str | None = None) -> "PreTrainedTokenizerBase":
        """Return the tokenizer of a stage's model.

        Args:
            stage: name of the stage; by default the last one that trained a model.

        Returns:
            The tokenizer, loaded with transformers.

        Raises:
            PlauditError: the stage has not finished, or it trains no model.
        """
        from transformers import AutoTokenizer

        from plaudit.models.loading.pretrained import load_from

        folder = str(self.model(stage))
        tokenizer: PreTrainedTokenizerBase = load_from(f"tokenizer {folder}", AutoTokenizer.from_pretrained, folder)
        return tokenizer

    def metrics(self, stage: str) -> list[dict[str, Any]]:
        """Return the metrics of a stage so far.

        Args:
            stage: name of the stage.

        Returns:
            The lines of ``metrics.jsonl``, one dictionary with ``step`` and ``seconds`` each; empty without the file.

        Raises:
            PlauditError: the file is damaged or has changed, or there is no stage of this name.
        """
        directory = self._directory(stage)
        file = directory.metrics
        directory.verify(file)
        if not file.parent.is_dir():
            STAGES[stage]  # raises an error with the nearest name; a plugin's stage need not be registered here
        return list(read_json_lines(file)) if file.exists() else []

    def result(self, stage: str) -> dict[str, Any]:
        """Return the closing numbers of a stage.

        Args:
            stage: name of the stage.

        Returns:
            The content of ``result.json``, with ``seconds``.

        Raises:
            PlauditError: the stage has not finished, or its file has changed since.
        """
        if stage not in self.finished:
            raise PlauditError(
                f"{self.folder}: {stage} has not finished; run it first (finished: "
                f"{', '.join(self.finished) or 'none'})"
            )
        directory = self._directory(stage)
        directory.verify(directory.result_file)
        return directory.result()

    def summary(self) -> dict[str, Any]:
        """Return the comparison of models that the stage ``evaluate`` wrote.

        Returns:
            The content of ``summary.json``.

        Raises:
            PlauditError: the stage has not finished, or its file has changed since.
        """
        self.result("evaluate")
        directory = self._directory("evaluate")
        directory.verify(directory.summary_file)
        return directory.summary()

    def _models(self) -> dict[str, Path]:
        return {name: self._directory(name).model for name in self.finished if self._directory(name).model.is_dir()}

    def _last_model(self) -> str | None:
        return next(reversed(self._models()), None)

    def _directory(self, stage: str) -> StageDirectory:
        return RunDirectory(self.folder).stage(stage)
