"""A row as the model sees it."""

from chat_templates import SHORT, tokenizer_of
from plaudit.config.schema import DataConfig
from plaudit.data.mask import ending, masked_tokens
from plaudit.data.rows import Message, Origin, ResponseRow
from plaudit.data.tokenization import tokenize_rows


def test_tokens_say_whether_they_are_learned_and_where_the_row_ends() -> None:
    tokenizer, config = tokenizer_of("chatml"), DataConfig.model_validate({"sources": ["rows.jsonl"]})
    *prompt, final = (Message(t["role"], t["content"], learned=t["role"] == "assistant") for t in SHORT)
    row = tokenize_rows([ResponseRow(tuple(prompt), final.content, Origin("f", 1))], tokenizer, config, 512).rows[0]
    tokens = list(masked_tokens(row, tokenizer))
    assert [token.id for token in tokens] == [*row.tree.prompt, *row.tree.responses[0]]
    learned = "".join(token.text for token in tokens if token.learned)
    assert learned == "Hello.<|im_end|>\\nSee you.<|im_end|>\\n"
    assert {token.part for token in tokens if token.learned} == {"response 1"}
    assert ending(row, 0, tokenizer) == "response 1 ends with <|im_end|> and 1 more tokens of the template"
