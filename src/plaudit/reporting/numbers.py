"""How numbers are written, on the page and in the terminal."""

import math

MINUS = "\N{MINUS SIGN}"
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
ABSENT = "\N{EN DASH}"


def fixed(value: float, decimals: int) -> str:
    """A number with ``decimals`` decimals and a true minus sign; never minus zero."""
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def significant(value: float) -> str:
    """A number with three significant digits: 0.0123, 4.56, 789, 0, 1.23e−05."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}".replace("-", MINUS)
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude <= 6:
        return f"{value:.3g}".replace("-", MINUS)
    return fixed(value, max(0, 2 - magnitude))


def decimals_for(standard_error: float) -> int:
    """Decimals that show two digits of a standard error, between 1 and 4; 3 if there is none."""
    if not math.isfinite(standard_error) or standard_error <= 0:
        return 3
    return min(4, max(1, 1 - math.floor(math.log10(standard_error))))


def percent(fraction: float, decimals: int = 0) -> str:
    """A fraction as a percentage: 0.94 is "94 %"."""
    return f"{fixed(100 * fraction, decimals)}{THIN_SPACE}%"


def interval(low: float, high: float, decimals: int = 0) -> str:
    """Bounds of a fraction in percent: "[91, 97]"."""
    return f"[{fixed(100 * low, decimals)}, {fixed(100 * high, decimals)}]"


def duration(seconds: float) -> str:
    """Seconds as "0.4 s", "42 s", "3 min 05 s" or "2 h 07 min"."""
    if seconds < 10:
        return f"{seconds:.1f}{THIN_SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{THIN_SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{THIN_SPACE}min {whole % 60:02d}{THIN_SPACE}s"
    return f"{whole // 3600}{THIN_SPACE}h {whole % 3600 // 60:02d}{THIN_SPACE}min"


def file_size(count: int) -> str:
    """Bytes as "812 B", "4.2 kB", "1.3 MB", "2.0 GB" (powers of 1000)."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f}{THIN_SPACE}{unit}" if unit == "B" else f"{size:.1f}{THIN_SPACE}{unit}"
        size /= 1000
    return f"{size:.1f}{THIN_SPACE}GB"
