"""Peak memory and speed of `goku ingest` against the number of files, which must not matter for the memory.

python bench/ingest_memory.py 2000 20000
"""

import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def image(number: int) -> bytes:
    """Return a gray picture of 8x8 pixels, no two alike."""
    rows = b"".join(b"\0" + struct.pack(">Q", number * 2_654_435_761 + row) for row in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def measure(count: int) -> None:
    """Ingest `count` images, a thousand to a folder, and say what it took."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            path = Path(name, "raw", f"{number // 1000:04}", f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image(number))
        started = time.monotonic()
        words = ["goku", "ingest", f"{name}/raw", "-m", f"{name}/a.duckdb", "--rules", "none"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        print(f"{count} files: {usage.ru_maxrss / 1024:.0f} MB, {count / seconds:.0f} files/s, exit {status}")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        measure(int(argument))
