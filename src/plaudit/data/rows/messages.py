"""The turns of a dialogue."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

TOOLS = "tools"
"""The role of a first entry whose content is the JSON text of the functions that the assistant may call."""


@dataclass(frozen=True)
class ToolCall:
    """A call of a function by the assistant; ``arguments`` is JSON text."""

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True, repr=False)
class Message:
    """One turn of a dialogue.

    ``role`` is system, user, assistant, tool (the result of a call) or tools (the functions that may be called).
    ``learned``: whether SFT may learn this turn of the assistant although other turns follow.
    """

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    learned: bool = False

    def __repr__(self) -> str:
        """Return only what differs from the defaults, so that texts derived from it stay the same."""
        if not (self.tool_calls or self.learned) and self.name is None and self.tool_call_id is None:
            return f"Message(role={self.role!r}, content={self.content!r})"
        values = ((name, getattr(self, name), default) for name, default in _DEFAULTS)
        return f"Message({', '.join([f'{name}={value!r}' for name, value, default in values if value != default])})"

    @property
    def text(self) -> str:
        """The content, followed by the calls as JSON if there are any."""
        if not self.tool_calls:
            return self.content
        calls = [
            json.dumps({"name": call.name, "arguments": parsed_arguments(call.arguments)}) for call in self.tool_calls
        ]
        return "\n".join([*([self.content] if self.content else []), *calls])

    def as_mapping(self) -> dict[str, Any]:
        """Return the turn in the form that chat templates of transformers read."""
        turn: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.name is not None:
            turn["name"] = self.name
        if self.tool_call_id is not None:
            turn["tool_call_id"] = self.tool_call_id
        if self.tool_calls:
            turn["tool_calls"] = [_as_call(call) for call in self.tool_calls]
        return turn


_DEFAULTS = tuple((field.name, field.default) for field in fields(Message))


def tools_of(dialogue: Sequence[Message]) -> list[Any]:
    """Return the JSON schemas of the functions that the assistant of a dialogue may call."""
    return [schema for message in dialogue if message.role == TOOLS for schema in json.loads(message.content)]


def parsed_arguments(arguments: str) -> Any:
    """Return arguments as an object, as most templates expect; text that is not JSON is not changed."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _as_call(call: ToolCall) -> dict[str, Any]:
    given = {} if call.id is None else {"id": call.id}
    return {**given, "type": "function", "function": {"name": call.name, "arguments": parsed_arguments(call.arguments)}}
