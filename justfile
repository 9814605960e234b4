# `./just` lists the recipes; the first call installs everything into .venv.

export PATH := justfile_directory() / ".venv/bin:" + env("PATH")
set shell := ["bash", "-euo", "pipefail", "-c"]

# List the recipes.
_list:
    @just --list --unsorted

# Make .venv when `just` was called without the wrapper.
_ready:
    @test -x .venv/bin/goku || ./just --version > /dev/null

# From raw synthetic videos to a trained model, its clips and their scores: ten minutes on two CPU cores.
[group: 'run']
demo: _ready
    #!/usr/bin/env bash
    set -euo pipefail
    goku synth shapes demo/raw --videos 40 --images 1200 --seed 0 \
      --tasks single_object,motion --size 480x480 --radius 0.22,0.26 --seconds 1.2 > /dev/null
    goku ingest demo/raw -m demo/demo.duckdb \
      | goku split | goku filter --tier shapes | goku caption --no-motion-score | goku balance --taxonomy shapes \
      | goku encode-latents --size 32x32 --text words | goku train recipes/demo.toml --runs demo/runs \
      | goku sample --bench shapes --part single_object --part motion --count 4 --guidance 2 | goku eval --bench shapes
    goku show demo/demo.duckdb --html demo/report.html
    echo "Open demo/report.html in a browser: the funnel, the clips, the curves and what the model drew." >&2

# The longer recipe: all tasks at 48x80, up to an hour on two CPU cores.
[group: 'run']
shapes: _ready
    #!/usr/bin/env bash
    set -euo pipefail
    goku synth shapes shapes/raw --videos 120 --images 3600 --seconds 1.2 --seed 0 > /dev/null
    goku ingest shapes/raw -m shapes/shapes.duckdb \
      | goku split | goku filter --tier shapes | goku caption --no-motion-score | goku balance --taxonomy shapes \
      | goku encode-latents --text words | goku train recipes/shapes.toml --runs shapes/runs \
      | goku sample --bench shapes --count 4 --guidance 2 | goku eval --bench shapes
    goku show shapes/shapes.duckdb --html shapes/report.html
    echo "Open shapes/report.html in a browser." >&2

# The same for one GPU: more scenes and a wider network, meant for five minutes of training. Not run on a GPU yet.
[group: 'run']
shapes-gpu: _ready
    #!/usr/bin/env bash
    set -euo pipefail
    goku synth shapes shapes-gpu/raw --videos 500 --images 12000 --seconds 1.2 --seed 0 > /dev/null
    goku ingest shapes-gpu/raw -m shapes-gpu/shapes.duckdb \
      | goku split | goku filter --tier shapes | goku caption --no-motion-score | goku balance --taxonomy shapes \
      | goku encode-latents --text words | goku train recipes/shapes-gpu.toml --runs shapes-gpu/runs \
      | goku sample --bench shapes --count 4 --guidance 2 | goku eval --bench shapes
    goku show shapes-gpu/shapes.duckdb --html shapes-gpu/report.html
    echo "Open shapes-gpu/report.html in a browser." >&2

# The stages of the paper at toy size: images, images and videos, twice the size, image-to-video.
[group: 'run']
ladder: _ready
    #!/usr/bin/env bash
    set -euo pipefail
    goku synth shapes ladder/raw --videos 40 --images 600 --seed 0 > /dev/null
    goku ingest ladder/raw -m ladder/shapes.duckdb \
      | goku split | goku filter --tier shapes | goku caption | goku balance --taxonomy shapes | goku encode-latents
    for stage in 1-images 2-joint-48x80; do
        goku train "recipes/shapes/$stage.toml" ladder/shapes.duckdb --runs ladder/runs
    done
    if [ -f ladder/large.duckdb ]; then at=(ladder/large.duckdb); else at=(ladder/shapes.duckdb -o ladder/large.duckdb); fi
    goku encode-latents "${at[@]}" --size 96x160 --vae ladder/shapes.latents/linear-*
    for stage in 3-joint-96x160 4-image-to-video; do
        goku train "recipes/shapes/$stage.toml" ladder/large.duckdb --runs ladder/runs
    done
    goku show ladder/large.duckdb --html ladder/report.html

# One of the paper's experiments at toy size: objectives, sizes, joint, cascade or image-to-video.
[group: 'run']
experiment name: _ready
    python recipes/experiments/run.py "{{name}}"

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
    pytest -n auto --maxprocesses 4 --dist loadfile {{args}}

# Proofs that take minutes each, such as all checks for a GPU at tiny size.
[group: 'check']
test-long *args: _ready
    pytest -m long --timeout 1800 {{args}}

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

# Write the generated pages of docs/ anew and build the site into site/; needs no network.
[group: 'check']
docs: _ready
    python docs/generate.py
    NO_MKDOCS_2_WARNING=1 mkdocs build --strict
    @echo "Open site/index.html in a browser; with the search box: mkdocs serve" >&2

# Which small mistakes in the model, training, sampling and evaluation would no test notice? Hours.
[group: 'check']
mutants *args: _ready
    python bench/mutants.py {{args}}

# Delete what demo, shapes, ladder, the experiments and docs wrote.
[group: 'check']
clean:
    rm -rf demo shapes shapes-gpu ladder experiments runs site
