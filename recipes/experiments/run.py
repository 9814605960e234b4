"""python recipes/experiments/run.py NAME: run one of the paper's experiments at toy size (./just experiment NAME)."""

import importlib
import sys

NAMES = ("objectives", "sizes", "joint", "cascade", "image-to-video")

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        sys.exit(f"usage: ./just experiment NAME, one of: {', '.join(NAMES)}")
    importlib.import_module(sys.argv[1].replace("-", "_")).run()
