# `./just` lists the recipes; the first call installs everything into .venv.

export PATH := justfile_directory() / ".venv/bin:" + env("PATH")
set shell := ["bash", "-euo", "pipefail", "-c"]

# List the recipes.
_list:
    @just --list --unsorted

# Make .venv when `just` was called without the wrapper.
_ready:
    @test -x .venv/bin/goku || ./just --version > /dev/null

# From raw synthetic videos to a trained model, its clips and their scores, in under ten minutes.
[group: 'run']
demo: _ready
    #!/usr/bin/env bash
    set -euo pipefail
    goku synth shapes demo/raw --videos 40 --images 600 --seed 0 > /dev/null
    goku ingest demo/raw -m demo/demo.duckdb \
      | goku split | goku filter --tier shapes | goku caption | goku balance --taxonomy shapes \
      | goku encode-latents | goku train recipes/demo.toml --runs demo/runs \
      | goku sample --bench shapes | goku eval --bench shapes
    goku show demo/demo.duckdb --html demo/report.html
    echo "Open demo/report.html in a browser: the funnel, the clips, the curves and what the model drew." >&2

# The longer recipe: about 40 minutes on two CPU cores.
[group: 'run']
shapes: _ready
    #!/usr/bin/env bash
    set -euo pipefail
    goku synth shapes shapes/raw --videos 120 --images 1600 --seed 0 > /dev/null
    goku ingest shapes/raw -m shapes/shapes.duckdb \
      | goku split | goku filter --tier shapes | goku caption | goku balance --taxonomy shapes \
      | goku encode-latents | goku train recipes/shapes.toml --runs shapes/runs \
      | goku sample --bench shapes | goku eval --bench shapes
    goku show shapes/shapes.duckdb --html shapes/report.html
    echo "Open shapes/report.html in a browser." >&2

# Curate your own folder: ingest, split, filter, caption, balance, and a report.
[group: 'run']
curate dir manifest="manifests/curated.duckdb" tier="480p": _ready
    #!/usr/bin/env bash
    set -euo pipefail
    goku ingest "{{dir}}" -m "{{manifest}}" | goku split | goku filter --tier "{{tier}}" | goku caption | goku balance
    goku show "{{manifest}}" --html "{{without_extension(manifest)}}.html"

# Lint, types and the whole test suite.
[group: 'check']
test *args: lint
    pytest {{args}}

# Ruff and mypy.
[group: 'check']
lint: _ready
    ruff check .
    ruff format --check .
    mypy

# Format the code.
[group: 'check']
fmt: _ready
    ruff format .
    ruff check --fix .

# Delete what demo and shapes wrote.
[group: 'check']
clean:
    rm -rf demo shapes runs
