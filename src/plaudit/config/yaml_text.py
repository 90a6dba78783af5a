"""Reads and writes YAML. Unlike with PyYAML, ``1e-4`` is a number and a key given twice is an error."""

import re
from pathlib import Path
from typing import Any

import yaml

from plaudit.errors import PlauditError

# PyYAML follows YAML 1.1, where a float needs a point and a signed exponent. This pattern follows YAML 1.2.
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")


class _Loader(yaml.SafeLoader):
    """Rejects a key that is given twice, where PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping. Raises MarkedYAMLError at the second of two equal keys."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that the loader would otherwise read as numbers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def parse_yaml(text: str, source: str) -> Any:
    """Parse ``text``; ``source`` names it in errors. Raises PlauditError, with the line, for invalid YAML."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark and "\n" in text else ""
        raise PlauditError(
            f"{source}{line}: not valid YAML: {error.problem or error.context}; correct this line"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise PlauditError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file. Raises PlauditError if it is missing or cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PlauditError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise PlauditError(f"{path}: this is a folder; give a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlauditError(f"{path}: cannot be read: {error}") from None
    return parse_yaml(text, str(path))


def write_yaml(value: Any) -> str:
    """Return YAML text that ``parse_yaml`` turns into the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
