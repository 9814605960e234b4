"""The report: one HTML file that needs nothing but itself, without a script, safe against what it shows."""

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from goku_cli.manifest.store import Manifest
from goku_cli.publish import publish
from goku_cli.report.charts import HEIGHT, WIDTH
from goku_cli.report.gather import gather


def write_report(manifest: Manifest, selection: str | None, path: Path) -> None:
    """Publish the report of a selection (the newest when None) at `path`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = figure
    source = files("goku_cli.report").joinpath("template.html.j2").read_text(encoding="utf-8")
    template = environment.from_string(source)
    page = template.render(report=gather(manifest, selection), width=WIDTH, height=HEIGHT)
    with publish(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def figure(value: float | str | None) -> str:
    """Write a number with four digits, a whole one without a point; text stays as it is."""
    if isinstance(value, str):
        return value
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
