"""Training and held-out data."""

from typing import Annotated, Any, Literal

from pydantic import Field

from plaudit.config.schema.base import NAMES_DATA, NAMES_FORMAT, Fraction, NamedBy, Positive, Section

_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet")
_COMPRESSIONS = ("", ".gz", ".bz2", ".xz", ".zst")
FILE_ENDINGS = tuple(kind + compression for kind in _KINDS for compression in _COMPRESSIONS)
"""Endings of local data files; ``data/readers/`` reads them."""


class SourceConfig(Section):
    """Files on disk or a hub dataset. A plain string means ``path``."""

    path: str = Field(
        description="file (jsonl, json, csv, tsv, txt, parquet; also compressed), folder of files of one kind, pattern "
        "such as data/*.jsonl.gz, hub dataset name, or stage:NAME/FILE",
        json_schema_extra=NAMES_DATA,
    )
    subset: str | None = Field(None, description="configuration name of a hub dataset")
    split: str = Field("train", description="split of a hub dataset")
    files: str | None = Field(
        None,
        description="file or pattern in the repository of a hub dataset; only matching files are downloaded, as split "
        "train",
    )
    revision: str | None = Field(None, description="commit, branch or tag of a hub dataset; default: the newest commit")
    streaming: bool = Field(
        False, description="read a hub dataset over the network row by row instead of downloading it first"
    )
    format: str = Field(
        "auto", description="name of a row format; auto: recognized by the columns", json_schema_extra=NAMES_FORMAT
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="columns to rename: name in the file -> expected name"
    )
    ignore_columns: list[str] = Field(
        default_factory=list,
        description="columns, or keys in them such as metadata.label, that are not read although they look like a "
        "judgement or a part of the prompt",
    )
    weight: Annotated[float, Field(gt=0)] = Field(
        1.0, description="how often each row appears per epoch; 2.5: twice, and half of the rows a third time"
    )
    limit: Positive | None = Field(None, description="use only this many rows, from the beginning")

    def without_effect(self) -> dict[str, str]:
        """Return the keys without effect: files have no splits."""
        if self.files is not None:
            return {"split": "with files, which make up the split train"}
        if self.path.startswith("stage:") or self.path.lower().endswith(FILE_ENDINGS):
            return dict.fromkeys(("split", "subset", "revision", "streaming"), "on a file; it is for hub datasets")
        return {}


SourceReference = Annotated[SourceConfig, NamedBy("path")]


class DataConfig(Section):
    """Data to train on, and the part that is held out."""

    sources: list[SourceReference] = Field(min_length=1, description="files and hub datasets")
    held_out: list[SourceReference] = Field(
        default_factory=list,
        description="sources for held-out measurements; default: a fraction of the prompts in sources",
    )
    held_out_fraction: Fraction = Field(0.1, description="fraction of prompts held out if held_out is empty")
    max_bad_fraction: Fraction = Field(
        0.01,
        description="the run stops if a larger fraction of the records is bad, or is not what the chat template writes",
    )
    prompt_template: str = Field("{prompt}", description="text around a plain prompt")
    conversation: Literal["auto", "chat_template", "human_assistant"] = Field(
        "auto",
        description="how dialogues become text; auto: the tokenizer's chat template if it has one, otherwise "
        "human_assistant",
    )
    special_tokens: Literal["text", "token"] = Field(
        "text",
        description="what strings such as <eos> in the data are; text: ordinary text; token: special tokens, for data "
        "in which they were written on purpose",
    )
    max_unknown_fraction: Fraction = Field(
        0.05, description="a stage stops if the tokenizer cannot write a larger fraction of the tokens"
    )
    max_prompt_tokens: Positive | None = Field(
        None, description="maximum number of tokens of a prompt; default: as many as the context allows"
    )
    max_response_tokens: Positive | None = Field(
        None, description="maximum number of tokens of a response; default: as many as the context allows"
    )
    overlong: Literal["drop", "truncate", "error"] = Field(
        "drop", description="what happens to rows that are too long; they are always counted and reported"
    )

    def without_effect(self) -> dict[Any, str]:
        """Return the keys without effect: held-out sources replace the held-out fraction, and are never repeated."""
        if not self.held_out:
            return {}
        weights = {("held_out", number, "weight"): "on held-out rows" for number in range(len(self.held_out))}
        return {"held_out_fraction": "with held_out", **weights}
