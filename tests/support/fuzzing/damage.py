"""Random damage to files, with a record of which rows it touched."""

from collections.abc import Callable
from random import Random

from fuzzing.writers import Written, width

_INSERTED = (
    *(b'"', b'""', b",", b"\t", b";", b"|", b"\n", b"\r", b"\r\n", b'\n"', b'",\n', b"'", b":", b"\\"),
    *(b"{", b"}", b"[", b"]", b"NaN", b"Infinity", b"1e999", b"nan", b"\\ud800", b'{"prompt": 1, "prompt": 2}'),
    *(b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x1a", b"9" * 5000, b"[" * 3000),
)

# The beginning decides the encoding of the whole file.
_BEGINNING = 4


def damage_content(file: Written, random: Random) -> None:
    """Change the bytes of one to three pieces before compression, and mark what may change with them as touched."""
    for _ in range(random.randint(1, 3)):
        index = random.choice([index for index, piece in enumerate(file.pieces) if piece.content])
        piece = file.pieces[index]
        before = piece.content
        piece.content = random.choice(_EDITS)(before, random)
        _mark(file, index, before)
    if random.random() < 0.1:
        _truncate(file, random)


def damage_bytes(content: bytes, random: Random) -> bytes:
    """Return the bytes of a file on disk with damage anywhere."""
    if random.random() < 0.3:
        return content[: random.randrange(len(content))]
    if random.random() < 0.1:
        return content + random.randbytes(random.randint(1, 20))
    for _ in range(random.randint(1, 3)):
        content = random.choice(_EDITS)(content, random)
    return content


def _mark(file: Written, index: int, before: bytes) -> None:
    piece = file.pieces[index]
    if piece.content == before:
        return
    piece.touched = True
    start = sum(len(earlier.content) for earlier in file.pieces[:index])
    shifted = (len(piece.content) - len(before)) % width(file)
    if piece.record is None or start < _BEGINNING or shifted:
        for other in file.pieces if not shifted or start < _BEGINNING else file.pieces[index:]:
            other.touched = True
    if piece.content[-2 * width(file) :] != before[-2 * width(file) :] and index + 1 < len(file.pieces):
        # The next record may now be in the same line.
        file.pieces[index + 1].touched = True


def _truncate(file: Written, random: Random) -> None:
    left = random.randrange(len(file.content))
    for piece in file.pieces:
        if len(piece.content) > left:
            piece.touched = True
        piece.content = piece.content[:left]
        left -= len(piece.content)
    if not file.by_line:
        for piece in file.pieces:
            piece.touched = True


def _flip(content: bytes, random: Random) -> bytes:
    if not content:
        return content
    place = random.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << random.randrange(8))]) + content[place + 1 :]


def _insert(content: bytes, random: Random) -> bytes:
    place = random.randint(0, len(content))
    return content[:place] + random.choice(_INSERTED) + content[place:]


def _replace(content: bytes, random: Random) -> bytes:
    inserted = random.choice(_INSERTED)
    place = random.randint(0, len(content))
    return content[:place] + inserted + content[place + len(inserted) :]


def _delete(content: bytes, random: Random) -> bytes:
    place = random.randint(0, len(content))
    return content[:place] + content[place + random.randint(1, 8) :]


def _repeat(content: bytes, random: Random) -> bytes:
    place = random.randint(0, len(content))
    end = random.randint(place, len(content))
    return content[:end] + content[place:end] + content[end:]


def _quote(content: bytes, random: Random) -> bytes:
    """Insert a quotation mark beside a delimiter or line end, where it opens or closes a cell."""
    places = [place for place in range(len(content)) if content[place : place + 1] in (b",", b"\t", b";", b"|", b"\n")]
    if not places:
        return b'"' + content
    place = random.choice(places) + random.randint(0, 1)
    return content[:place] + b'"' + content[place:]


_EDITS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip,
    _flip,
    _insert,
    _replace,
    _delete,
    _repeat,
    _quote,
    _quote,
)
