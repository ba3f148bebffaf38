"""Reads and writes `log.mark`, so that a copy of a log can be made to look like the log itself after a restart of the machine."""
import struct

MASK = (1 << 64) - 1


def checksum(data):
    """As src/store/log/sqlite/sum.rs computes it, for a kind of 0."""
    state = 0
    rest = data[len(data) // 8 * 8:].ljust(8, b"\0")
    words = [len(data), *struct.unpack(f"<{len(data) // 8}Q", data[:len(data) // 8 * 8]), *struct.unpack("<Q", rest)]
    for word in words:
        state = (state ^ word) * 0x9E3779B97F4A7C15 & MASK
        state ^= state >> 32
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    return state ^ (state >> 31)


def read(path):
    """The bytes of the mark, or None if there is none that is valid."""
    try:
        with open(path, "rb") as file:
            mark = file.read()
    except FileNotFoundError:
        return None
    valid = len(mark) == 64 and mark[:8] == b"GCSTMRK1" and struct.unpack("<Q", mark[48:56])[0] == checksum(mark[:48])
    return mark if valid else None


def inode(mark):
    return struct.unpack("<Q", mark[32:40])[0]


def clean(mark):
    """Whether the log was synced after its last commit."""
    return mark[40] == 1


def rewrite(path, mark, new_inode, boot=None):
    """Writes the mark with another inode of the log, and another boot of the machine if one is given."""
    head = mark[:8] + (boot or mark[8:24]) + mark[24:32] + struct.pack("<Q", new_inode) + mark[40:48]
    with open(path, "wb") as file:
        file.write(head + struct.pack("<Q", checksum(head)) + mark[56:])
