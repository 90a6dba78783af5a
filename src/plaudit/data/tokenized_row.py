"""A row and its tokens."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from plaudit.batching.trees import PromptTree
from plaudit.data.rows import Row

R_co = TypeVar("R_co", bound=Row, covariant=True)


@dataclass(frozen=True)
class TokenizedRow(Generic[R_co]):
    """A row and its tokens; ``prompt_text`` is the prompt as text, with its template but without special tokens."""

    row: R_co
    tree: PromptTree
    prompt_text: str
