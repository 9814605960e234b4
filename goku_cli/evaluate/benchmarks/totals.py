"""A benchmark's total, only when all its parts are there and whole; and the figures of a set kept together."""

from dataclasses import asdict, fields

from goku_cli.evaluate.benchmarks import aggregate
from goku_cli.evaluate.benchmarks.official_results import Scored
from goku_cli.evaluate.result import OWN, Figure
from goku_cli.manifest.store import Manifest

PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "vbench": {
        "quality": tuple(aggregate.QUALITY), "semantic": tuple(aggregate.SEMANTIC), "total": aggregate.DIMENSIONS,
    },
    "geneval": {"overall": aggregate.TASKS},
}  # fmt: skip
"""Figures that are made of others, and of which. The other benchmarks have one figure a part."""


def totals(bench: str, scored: list[Scored]) -> tuple[list[Scored], str]:
    """Return a benchmark's totals, of which all parts are there and whole, and "" or one line that says what lacks.

    A total's `n` counts what its parts scored, so a clip of several dimensions several times.
    """
    parts = {_part(bench, s): s for s in scored}
    wanted = PARTS.get(bench, {})
    lacking = dict.fromkeys(name for names in wanted.values() for name in names if name not in parts)
    notes = [f"{', '.join(lacking)} not scored"] if lacking else []
    notes += [f"{_label(s)} saw {s.found:,} of {s.expected:,} samples" for s in scored if not s.whole]
    if bench == "vbench" and (odd := aggregate.outside({name: s.figure.value for name, s in parts.items()})):
        notes.append(f"{', '.join(odd)} outside of the range that VBench normalizes by")
    whole = {name: s for name, s in parts.items() if s.whole}
    values = {name: s.figure.value for name, s in whole.items()}
    made = aggregate.vbench_scores(values) if bench == "vbench" else {}
    if bench == "geneval" and (overall := aggregate.geneval_overall(values)) is not None:
        made = {"overall": overall}
    found = [_made(bench, name, made[name], [whole[part] for part in wanted[name]]) for name in wanted if name in made]
    without = [name for name in wanted if name not in made]
    return found, (f"no {', '.join(without)} of {bench}: " if without else "") + "; ".join(notes)


def _label(scored: Scored) -> str:
    figure = scored.figure
    return figure.metric if figure.tag == "all" else f"{figure.metric}/{figure.tag}"


def _part(bench: str, scored: Scored) -> str:
    metric = scored.figure.metric.removeprefix(f"{bench}.")
    return scored.figure.tag if metric == "correct" else metric


def _made(bench: str, name: str, value: float, parts: list[Scored]) -> Scored:
    tools = dict.fromkeys(part.figure.implementation for part in parts)
    licenses = dict.fromkeys(part.figure.license for part in parts)
    count = sum(part.figure.n for part in parts)
    made = Figure(f"{bench}.{name}", value, count, implementation=f"{OWN}, of {', '.join(tools)}",
                  license=", ".join(licenses))  # fmt: skip
    return Scored(made, sum(part.expected for part in parts), sum(part.found for part in parts))


def kept(manifest: Manifest, name: str, bench: str) -> list[Scored]:
    """Return a benchmark's figures of a set of samples, as far as they are known."""
    rows = manifest.query("SELECT * FROM results WHERE name = ? AND suite = ?", [name, bench])
    known = {field.name for field in fields(Figure)}
    return [
        Scored(Figure(**{key: value for key, value in row.items() if key in known}), row["expected"], row["found"])
        for row in rows
    ]


def keep(manifest: Manifest, name: str, bench: str, scored: list[Scored]) -> tuple[list[Scored], str]:
    """Replace what is measured anew, leave the other parts, and make the totals again.

    Returns:
        all figures of the benchmark that the set has now, and "" or why there is no total.
    """
    made = {f"{bench}.{total}" for total in PARTS.get(bench, ())}
    parts = {(s.figure.metric, s.figure.tag): s for s in kept(manifest, name, bench) if s.figure.metric not in made}
    parts |= {(s.figure.metric, s.figure.tag): s for s in scored}
    found, note = totals(bench, list(parts.values()))
    everything = [*parts.values(), *found]
    with manifest.transaction():
        manifest.execute("DELETE FROM results WHERE name = ? AND suite = ?", [name, bench])
        counts = [{"name": name, "suite": bench, "expected": s.expected, "found": s.found} for s in everything]
        manifest.insert("results", [count | asdict(s.figure) for count, s in zip(counts, everything, strict=True)])
    return everything, note
