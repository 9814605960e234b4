"""The C++ compiler of this machine, which torch.compile and DeepSpeed call."""

import os
import shutil


def cxx_compiler() -> str | None:
    """Return its path; None where there is none."""
    return shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")
