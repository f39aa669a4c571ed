"""Random changes of valid files, for `fuzzing`."""

import random
import re
import struct

# Texts that are special to some reader: of numbers, JSON, YAML, CSV, paths, terminals or text encodings.
_TOKENS = (
    *(b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\x1b[31m", b"\n", b"\r", b"\t", b",", b'"', b"'", b":", b"{", b"}"),
    *(b"[]", b"{}", b"null", b"true", b"NaN", b"-Infinity", b"-1", b"0", b"1e999", b"0.5", b"9" * 40, b"9" * 5_000),
    *(b"../../../etc/passwd", b"2001-99-99", b"!!python/object:os.system", b"&a [*a]", b"<<: 1", b"[" * 2_000),
    *(b'{"a":' * 2_000, b"? [a]", b"%", b"\\", b"\xf0\x9f\x98\x80", b"=", b"\xef\xbb\xbf"),
)
_INTEGERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_WORD = re.compile(rb"[A-Za-z_0-9.]+")
_LONGEST_PIECE = 64
_MOST_CHANGES = 4


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Returns a file with one to four random changes, of bits, integers, texts, order or length."""
    for _ in range(rng.randint(1, _MOST_CHANGES)):
        content = rng.choice(_CHANGES)(content, rng)
    return content


def _flip_a_bit(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_an_integer(content: bytes, rng: random.Random) -> bytes:
    size = rng.choice((1, 2, 4))
    value = rng.choice(_INTEGERS) % (1 << 8 * size)
    return _replaced(content, rng.randint(0, len(content)), size, value.to_bytes(size, rng.choice(("little", "big"))))


def _set_a_float(content: bytes, rng: random.Random) -> bytes:
    value = rng.choice((float("nan"), float("inf"), -1.0, 1e30))
    return _replaced(content, rng.randint(0, len(content)), 4, struct.pack("<f", value))


def _insert_a_token(content: bytes, rng: random.Random) -> bytes:
    return _replaced(content, rng.randint(0, len(content)), 0, rng.choice(_TOKENS))


def _replace_a_number(content: bytes, rng: random.Random) -> bytes:
    return _replace_a_match(_NUMBER, content, rng)


def _replace_a_word(content: bytes, rng: random.Random) -> bytes:
    return _replace_a_match(_WORD, content, rng)


def _replace_a_match(pattern: re.Pattern[bytes], content: bytes, rng: random.Random) -> bytes:
    found = pattern.search(content, rng.randint(0, len(content))) or pattern.search(content)
    if not found:
        return _flip_a_bit(content, rng)
    return content[: found.start()] + rng.choice(_TOKENS) + content[found.end() :]


def _cut_off(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randint(0, len(content))]


def _delete_a_piece(content: bytes, rng: random.Random) -> bytes:
    return _replaced(content, rng.randint(0, len(content)), rng.randint(1, _LONGEST_PIECE), b"")


def _repeat_a_piece(content: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(content))
    piece = content[start : start + rng.randint(1, _LONGEST_PIECE)]
    return _replaced(content, rng.randint(0, len(content)), 0, piece * rng.choice((1, 1, 100)))


def _swap_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


def _replaced(content: bytes, start: int, length: int, piece: bytes) -> bytes:
    return content[:start] + piece + content[start + length :]


_CHANGES = (
    *(_flip_a_bit, _set_an_integer, _set_a_float, _insert_a_token, _replace_a_number, _replace_a_word),
    *(_cut_off, _delete_a_piece, _repeat_a_piece, _swap_lines),
)
