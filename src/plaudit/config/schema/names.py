"""Values that name a catalogue entry or a user-defined function."""

import re
from collections.abc import Collection
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_FUNCTION = re.compile(r"[\w.]+:\w+")


class NameOf:
    """A constraint on a string: a name in ``entries`` or ``others`` or, with ``functions``, a ``module:name``.

    Use it as ``Annotated[str, NameOf(entries)]``. Entries may be added later.
    """

    def __init__(self, entries: Collection[str], *others: str, functions: bool = False) -> None:
        self.entries, self.others, self.functions = entries, others, functions

    @property
    def choices(self) -> list[str]:
        """The accepted values, for messages."""
        return [*self.others, *self.entries, *(["module:function"] if self.functions else [])]

    def _check(self, name: str) -> str:
        if name in self.entries or name in self.others or (self.functions and _FUNCTION.fullmatch(name)):
            return name
        raise PydanticCustomError("literal_error", "unknown name")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        names = {"enum": [*self.others, *self.entries]}
        functions = [{"type": "string", "pattern": f"^{_FUNCTION.pattern}$"}] if self.functions else []
        return {"anyOf": [names, *functions]}
