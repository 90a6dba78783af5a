"""``plaudit recipes``: list the shipped recipes, or print one."""

from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this recipe's YAML.")] = None,
) -> None:
    """List the shipped recipes, or print one.

    To write your own recipe, save a printed one to a file and change it.
    """
    from plaudit.config.load import shipped_recipe, shipped_recipes

    if name is not None:
        typer.echo(shipped_recipe(name), nl=False)
        return
    _print_list(shipped_recipes())


def _print_list(texts: dict[str, str]) -> None:
    from rich.table import Table

    from plaudit.config.yaml_text import parse_yaml
    from plaudit.log import new_console

    table = Table("recipe", "what it does", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, text in texts.items():
        table.add_row(name, parse_yaml(text, name)["description"])
    new_console().print(table)
