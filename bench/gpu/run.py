"""All checks, what is worth most first: python bench/gpu/run.py OUT [--only a,b] [--seconds 720] [--device cpu --smoke]

Each runs in a process of its own with its own time, prints what it finds line by line, and is ended with all that it
started when its time is over. OUT/results.json and OUT/results.md are written after every check.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHECKS = {"correct": 70, "speed": 190, "quality": 380, "train": 80, "sampling": 60, "encoders": 60}
"""Seconds of each, in order."""
SMOKE = 6
"""A machine without a GPU takes so many times as long even for tiny sizes."""
GRACE = 5.0
LEAST = 15.0
"""Seconds below which a check is not begun."""


def main() -> None:
    """Run them, and say where the results are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default=",".join(CHECKS))
    parser.add_argument("--seconds", type=float, default=720.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in CHECKS]:
        sys.exit(f"no check {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine(), "smoke": options.smoke, "checks": {}}
    if options.device == "cuda" and "gpu" not in results["machine"]:
        sys.exit("no GPU that PyTorch can use; look with: goku doctor --gpu, or try it with: --device cpu --smoke")
    end = time.monotonic() + options.seconds
    for name in [name for name in CHECKS if name in chosen]:
        seconds = min(CHECKS[name] * (SMOKE if options.smoke else 1), end - time.monotonic())
        if seconds < LEAST:
            results["checks"][name] = {"seconds": 0.0, "ended": "not begun: the time is over", "rows": []}
        else:
            results["checks"][name] = run(name, seconds, options)
        write(options.out, results)
    print(options.out / "results.md")


def machine() -> dict[str, Any]:
    """Return what ran: asked of a process of its own, so that none of the GPU is held here."""
    script = (
        "import json, torch; print(json.dumps({'torch': torch.__version__, 'cuda': torch.version.cuda, **({'gpu': "
        "torch.cuda.get_device_name(0)} if torch.cuda.is_available() else {})}))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return {"python": platform.python_version(), "cores": os.cpu_count(), **json.loads(told)}


def run(name: str, seconds: float, options: argparse.Namespace) -> dict[str, Any]:
    """Return a check's rows, how long it took, and why it ended where it did not end well."""
    words = [sys.executable, str(HERE / f"{name}.py"), "--device", options.device, "--out", str(options.out)]
    words += ["--seconds", f"{seconds:.0f}", *(["--smoke"] if options.smoke else [])]
    print(f"{name}: at most {seconds:.0f} s", file=sys.stderr)
    started = time.monotonic()
    log = options.out / f"{name}.log"
    found = options.out / f"{name}.jsonl"
    with log.open("wb") as errors, found.open("wb") as lines:
        process = subprocess.Popen(words, stdout=lines, stderr=errors, env=environment(), start_new_session=True)
        try:
            code = process.wait(seconds)
            ended = "" if code == 0 else f"exit code {code}; {log.name} ends with: {last_line(log)}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {seconds:.0f} s"
        finally:
            end(process)
    rows = [json.loads(line) for line in found.read_text().splitlines() if line.endswith("}")]
    for row in rows:
        print("  ", row, file=sys.stderr)
    return {"seconds": round(time.monotonic() - started, 1), "ended": ended, "rows": rows}


def environment() -> dict[str, str]:
    """Return what a check finds the package and bench/transformer.py by."""
    places = [str(HERE.parent), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a check and its group, after a while in which it ends the training that it started."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "nothing"


def write(out: Path, results: dict[str, Any]) -> None:
    """Write both files whole, or leave those of before."""
    for name, text in (("results.json", json.dumps(results, indent=1) + "\n"), ("results.md", table(results))):
        temporary = out / f".{name}"
        temporary.write_text(text)
        temporary.replace(out / name)


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown: a table for each check, with a column for each figure that it has."""
    about = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [f"# {about}", ""] + (["Tiny sizes: the figures mean nothing.", ""] if results["smoke"] else [])
    for name, check in results["checks"].items():
        lines += [f"## {name} ({check['seconds']:g} s)", ""]
        lines += [f"Ended early: {check['ended']}", ""] if check["ended"] else []
        columns = list(dict.fromkeys(key for row in check["rows"] for key in row))
        if columns:
            lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
            lines += ["| " + " | ".join(shown(row.get(key)) for key in columns) + " |" for row in check["rows"]]
            lines.append("")
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    """Return a figure as a cell."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


if __name__ == "__main__":
    main()
