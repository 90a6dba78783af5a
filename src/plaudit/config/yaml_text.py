"""Reads and writes YAML. Unlike with PyYAML, ``1e-4`` is a number and a key given twice is an error."""

import re
from pathlib import Path
from typing import Any

import yaml

from plaudit.errors import PlauditError

# PyYAML follows YAML 1.1, where a float needs a point and a signed exponent. This pattern follows YAML 1.2.
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")


LONGEST_TEXT = 1_000_000
"""Characters of a YAML text. Recipes are far shorter."""
DEEPEST = 50
"""Levels of nesting."""
MOST_VALUES = 100_000
"""Values of a YAML text after its aliases have been replaced by what they stand for."""
LARGEST_INTEGER = 2**63 - 1


class _Loader(yaml.SafeLoader):
    """Rejects what PyYAML accepts: a key that is given twice, deep nesting, and aliases that explode."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node. Raises MarkedYAMLError if it is nested too deeply."""
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {DEEPEST} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node. Raises MarkedYAMLError if it does not fit its tag."""
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except (ValueError, KeyError, AttributeError, TypeError, IndexError, OverflowError):
            tag = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                problem=f"{str(node.value)[:60]!r} is not a value of type {tag}", problem_mark=node.start_mark
            ) from None
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise yaml.MarkedYAMLError(problem="a number above 2^63", problem_mark=node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping. Raises MarkedYAMLError at the second of two equal keys."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _check_size(node: yaml.Node, sizes: dict[yaml.Node, int | None], depth: int = 0) -> int:
    """Return the number of values in a node, counting those of an alias each time.

    ``sizes`` holds the counts of finished nodes, and None for those that contain ``node``. Raises MarkedYAMLError if
    a node contains itself, or for too many values or levels.
    """
    if node not in sizes:
        sizes[node] = None
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        sizes[node] = 1 + sum(_check_size(child, sizes, depth + 1) for child in children)
    size = sizes[node]
    problem = "an anchor that contains itself" if size is None else ""
    if (size or 0) > MOST_VALUES:
        problem = f"aliases that stand for more than {MOST_VALUES} values"
    if depth > DEEPEST:
        problem = f"nested deeper than {DEEPEST} levels"
    if problem or size is None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return size


class _Dumper(yaml.SafeDumper):
    """Quotes strings that the loader would otherwise read as numbers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_multi_representer(str, lambda dumper, text: dumper.represent_str(str(text)))
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def parse_yaml(text: str, source: str) -> Any:
    """Parse ``text``; ``source`` names it in errors. Raises PlauditError, with the line, for invalid YAML."""
    if len(text) > LONGEST_TEXT:
        raise PlauditError(f"{source}: {len(text)} characters, but a recipe has at most {LONGEST_TEXT}; name a recipe")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, {})
        return loader.construct_document(node)
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
        inside = path / "config.yaml"
        remedy = f"give {inside}" if inside.is_file() else "give a YAML file"
        raise PlauditError(f"{path}: this is a folder; {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlauditError(f"{path}: cannot be read: {error}") from None
    return parse_yaml(text, str(path))


def write_yaml(value: Any) -> str:
    """Return YAML text that ``parse_yaml`` turns into the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
