"""How many values a piece of msgpack holds and how deep it nests, found out before anything is made of it.

A decoder makes a list as long as the sender announces, on every level, before the first element has come: 3 KiB can
ask for 80 MiB. Bytes alone bound nothing either, since an empty list is one byte and 64 in memory. So what comes from
outside is walked head by head first, and what breaks a limit is refused with a text of ours: it says the same on every
replica and with every version of the library.
"""

from __future__ import annotations

from raftactors.errors import WireError

VALUES_MAX = 65_536
"""Values in one message: every element, key and container counts. Decoded they take at most 8 MiB beside the text."""

DEPTH_MAX = 128
"""Levels of lists and maps inside each other in one message."""

_ANNOUNCED_BYTES = 4 * 1024 * 1024
"""What announced and never filled lists may take, at 8 bytes an element, without a look at each of them."""

_HEADS = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))
_NO_HEADS = bytes(set(range(256)) - set(_HEADS))


def check_shape(content: bytes | memoryview) -> None:
    """Raise WireError for more than VALUES_MAX values, more than DEPTH_MAX levels, or fewer bytes than announced.

    Other malformations are left to the decoder.
    """
    length = len(content)
    if length <= DEPTH_MAX:
        return  # A level takes a byte, and so does a value.
    content = bytes(content)
    # Every list and map begins with one of 36 bytes, so a message with few of them cannot be deep or announce much.
    heads = len(content.translate(None, _NO_HEADS))
    if heads <= DEPTH_MAX and length <= VALUES_MAX and heads * length * 8 <= _ANNOUNCED_BYTES:
        return
    _walk(content, length)


def _walk(content: bytes, length: int) -> None:
    """Go from head to head, with `left` the values still to come on the present level."""
    sizes, announced = _FIXED_BYTES, 1
    position, left = 0, 1
    outer: list[int] = []
    try:
        while True:
            while not left:
                if not outer:
                    return
                left = outer.pop()
            left -= 1
            head = content[position]
            step = sizes[head]
            if step:
                position += step
                continue
            position += 1
            if head in _LENGTH_BYTES:
                width, beside = _LENGTH_BYTES[head]
                position += width + beside + int.from_bytes(content[position : position + width], "big")
                continue
            if head < 0xA0:
                count = (head & 0x0F) * (1 if head & 0x10 else 2)
            else:
                width = 4 if head & 1 else 2
                count = int.from_bytes(content[position : position + width], "big") * (1 if head < 0xDE else 2)
                position += width
            announced += count
            outer.append(left)
            left = count
            if announced > VALUES_MAX:
                raise WireError("msgpack_values", f"more than {VALUES_MAX} values in one message")
            if len(outer) > DEPTH_MAX:
                raise WireError("msgpack_depth", f"lists and dicts nested more than {DEPTH_MAX} deep")
            if count > length - position:
                raise WireError("msgpack_truncated", f"{count} values announced, {length - position} bytes left")
    except IndexError:
        raise WireError("msgpack_truncated", f"the value goes on after its {length} bytes") from None


def _fixed_bytes(head: int) -> int:
    """How long a value with this head is, head included; 0 where the bytes after it tell."""
    if head < 0x80 or head >= 0xE0 or head in {0xC0, 0xC1, 0xC2, 0xC3}:
        return 1
    if 0xA0 <= head < 0xC0:
        return 1 + (head & 0x1F)
    fixed = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
    fixed |= {0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18}
    return fixed.get(head, 0)


_FIXED_BYTES = tuple(map(_fixed_bytes, range(256)))
_LENGTH_BYTES = {
    0xC4: (1, 0),
    0xC5: (2, 0),
    0xC6: (4, 0),  # bin
    0xC7: (1, 1),
    0xC8: (2, 1),
    0xC9: (4, 1),  # ext, with a byte for its type
    0xD9: (1, 0),
    0xDA: (2, 0),
    0xDB: (4, 0),  # str
}
"""How many bytes tell the length of a value with this head, and how many stand beside them."""
