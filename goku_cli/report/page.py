"""The reports: HTML files that need nothing but themselves, without a script, safe against what they show."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from goku_cli.manifest.store import Manifest
from goku_cli.publish import publish
from goku_cli.report.charts import HEIGHT, WIDTH
from goku_cli.report.gather import gather
from goku_cli.report.scores import Scores
from goku_cli.report.training import Training, previews


def write_report(manifest: Manifest, selection: str | None, path: Path) -> None:
    """Publish the report of a selection (the newest when None) at `path`."""
    _write(path, "manifest.html.j2", title=manifest.path.name, report=gather(manifest, selection))


def write_training(run: Training, path: Path) -> None:
    """Publish the report of a training run at `path`."""
    _write(path, "training.html.j2", title=run.folder.name, run=run, previews=previews(run.folder))


def write_scores(scores: Scores, path: Path) -> None:
    """Publish the page of a set of samples at `path`."""
    _write(path, "scores.html.j2", title=scores.name, scores=scores)


def _write(path: Path, template: str, **shown: object) -> None:
    loader = PackageLoader("goku_cli.report", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = figure
    page = environment.get_template(template).render(width=WIDTH, height=HEIGHT, **shown)
    with publish(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def figure(value: float | str | None) -> str:
    """Write a number with four digits, a whole one without a point; text stays as it is."""
    if isinstance(value, str):
        return value
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
