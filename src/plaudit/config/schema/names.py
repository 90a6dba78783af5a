"""Values that name a catalogue entry or a user-defined function."""

import re
from collections.abc import Collection
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from plaudit.plugins import GIVEN, GivenFunction

_FUNCTION = re.compile(rf"([\w.]+:\w+|{GIVEN}.+)")


class NameOf:
    """A constraint on a string: a name in ``entries`` or ``others`` or, with ``functions``, a function.

    A function is ``module:name``, or what ``GivenFunction`` records. Use it as ``Annotated[str, NameOf(entries)]``.
    Entries may be added later.
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
        def check(value: Any, inner: core_schema.ValidatorFunctionWrapHandler) -> str:
            is_given = isinstance(value, GivenFunction)
            name = self._check(inner(str(value) if is_given else value))
            return value if is_given else name  # pydantic would return the text without the function

        return core_schema.no_info_wrap_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        names = {"enum": [*self.others, *self.entries]}
        functions = [{"type": "string", "pattern": f"^{_FUNCTION.pattern}$"}] if self.functions else []
        return {"anyOf": [names, *functions]}
