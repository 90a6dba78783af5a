"""The page's Jinja2 templates. Everything that is not ``Markup`` is escaped."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from plaudit.reporting.numbers import ABSENT, THIN_SPACE, duration, fixed, interval, percent, significant


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("plaudit.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration,
        "fixed": fixed,
        "percent": percent,
        "significant": significant,
    }
    environment.globals |= {"interval": interval, "ABSENT": ABSENT, "THIN_SPACE": THIN_SPACE}
    return environment


def render(template: str, **values: object) -> Markup:
    """Render one of ``reporting/templates/``. A name that a template uses and that is not given is an error."""
    return Markup(_environment().get_template(template).render(**values))
