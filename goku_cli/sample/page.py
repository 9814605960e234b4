"""The page of `goku play`, by Gradio (its only import), an optional package.

Nothing leaves the machine: no analytics, no tunnel, and browsers are told to load nothing from elsewhere.
"""

import contextlib
import html
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from goku_cli.errors import GokuError, Interrupted
from goku_cli.manifest.store import Row
from goku_cli.model.sampling.solvers import SOLVERS
from goku_cli.sample.conditions import read_image
from goku_cli.sample.play import Asked, Player
from goku_cli.sample.prompts import MOST_CHARACTERS
from goku_cli.sample.settings import SampleSettings
from goku_cli.sizes import parse_size

CAPTION = 40
"""Characters of a prompt below a sample."""
UPLOAD = "32mb"
"""Largest picture."""
WAITING = 16
"""Most draws that wait for their turn."""
POLICY = (
    b"default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"
)
CSS = """
.app {width: 100%; max-width: 1100px !important; margin: auto}
.grid-wrap {min-height: 0 !important}
.caption-label {white-space: normal !important; left: 0; max-width: 100% !important; max-height: 100%}
"""


def serve(player: Player, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve the page until somebody interrupts; `ready` gets its address when it can be opened.

    Raises:
        GokuError: the port is taken, or this machine has no such address.
    """
    guards = [Middleware(_OwnFilesOnly)]
    if host == "127.0.0.1":  # a page from elsewhere whose name leads here (DNS rebinding) is not let in
        guards.append(Middleware(TrustedHostMiddleware, allowed_hosts=[host, "localhost"]))
    with tempfile.TemporaryDirectory() as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page = _page(player).queue(max_size=WAITING)
        try:
            _listen(page, host, port, [str(player.samples)], guards)
            ready(page.local_url)
            threading.Event().wait()
        except Interrupted:
            return
        finally:
            player.stop()  # the server is a thread that ends with the program


def _listen(page: Any, host: str, port: int, folders: list[str], guards: list[Any]) -> None:
    try:
        page.launch(
            server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True,
            allowed_paths=folders, max_file_size=UPLOAD, footer_links=[], run_history=False, ssr_mode=False, pwa=False,
            mcp_server=False, enable_monitoring=False, css=CSS, app_kwargs={"middleware": guards},
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        )  # fmt: skip
    except OSError as error:
        raise GokuError(
            f"port {port} of {host} cannot be had; give another --port, e.g. {port + 1}, or --host"
        ) from error


class _OwnFilesOnly:
    """Tells browsers to load nothing from other machines, whatever a library's page asks for."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY)]
            await send(message)

        await self.app(scope, receive, with_policy)


def _page(player: Player) -> Any:
    """Return the page: fields and the result side by side, past samples below."""
    title = f"{player.folder.resolve().parent.name}/{player.folder.name}"
    with gr.Blocks(title=f"goku play: {title}", analytics_enabled=False) as page:
        gr.Markdown(f"### goku play\n{html.escape(title)}, {player.weights} weights")
        with gr.Row():
            with gr.Column(scale=2):
                fields = _fields(player)
                button = gr.Button("Draw", variant="primary")
            with gr.Column(scale=3):
                saving: Any = ["download"]  # and no button that shares with other sites
                video = gr.Video(
                    label="Result", autoplay=True, loop=True, interactive=False, height=420, buttons=saving
                )
                image = gr.Image(label="Result", interactive=False, visible=False, height=420, buttons=saving)
        gr.Markdown("Samples, newest first; click one to see how it was drawn.")
        gallery = gr.Gallery(
            show_label=False, columns=6, fit_columns=False, height="auto", object_fit="contain",
            interactive=False, allow_preview=False, buttons=[],
        )  # fmt: skip
        settings = gr.JSON(label="How it was drawn", visible=False, max_height=360)
        rows = gr.State([])

        def draw(values: dict[Any, Any], progress: Any = gr.Progress()) -> list[Any]:  # noqa: B008
            with _told():
                asked = Asked(**{name: values[field] for name, field in fields.items()})
                kept = player.draw(asked, lambda done, total: progress((done, total), desc="Drawing"))
            for line in kept.remarks:
                gr.Info(html.escape(line))
            still = kept.path.suffix == ".png"
            return [
                gr.Video(None if still else str(kept.path), visible=not still),
                gr.Image(str(kept.path) if still else None, visible=still),
                kept.seed,
            ]

        def past() -> list[Any]:
            with _told():
                found = player.past()
            captions = [(str(row["path"]), f"{row['prompt'][:CAPTION]} · seed {row['seed']}") for row in found]
            return [captions, [_how(row) for row in found]]

        def look(found: list[Row], event: gr.SelectData) -> Any:
            return gr.JSON(found[event.index], visible=True)

        results = [video, image, fields["seed"]]
        drawn = button.click(draw, set(fields.values()), results, show_progress_on=[video, image], api_name="draw")
        drawn.success(past, None, [gallery, rows])  # apart: a manifest that is held now does not cost the clip
        gallery.select(look, [rows], settings)
        page.load(past, None, [gallery, rows])
    return page


def _fields(player: Player) -> dict[str, Any]:
    """Return the fields by the names of `Asked`, as far as this checkpoint has a use for them."""
    generator, data = player.generator, player.generator.config["data"]
    fields: dict[str, Any] = {}
    if generator.classes:
        fields["prompt"] = gr.Dropdown(generator.classes, value=generator.classes[0], label="Class")
    else:
        fields["prompt"] = gr.Textbox(label="Prompt", lines=3, max_length=MOST_CHARACTERS, autofocus=True)
        fields["negative"] = gr.Textbox(label="Negative prompt", lines=1, max_length=MOST_CHARACTERS)
    if generator.model.config.image_condition:
        with gr.Row():
            fields["image"] = gr.File(label="First frame", file_types=["image"], height=120, scale=2)
            seen = gr.Image(label="Cropped", visible=False, interactive=False, height=120, buttons=[],
                            min_width=90)  # fmt: skip
    with gr.Row():
        fields["size"] = gr.Textbox(str(data["size"]), label="Size", info="HEIGHTxWIDTH", min_width=90)
        fields["frames"] = gr.Number(int(data["frames"]), label="Frames", info="4k+1, or 1", precision=0,
                                     min_width=90)  # fmt: skip
        if not generator.classes:
            fields["motion"] = gr.Textbox(label="Motion score", info="if any", min_width=90)
    fitting = [name for name, solver in SOLVERS.items() if solver.flow == (generator.objective.kind == "flow")]
    with gr.Row():
        fields["steps"] = gr.Number(SampleSettings.steps, label="Steps", precision=0, min_width=90)
        fields["guidance"] = gr.Number(SampleSettings.guidance, label="Guidance", step=0.5, min_width=90)
        fields["solver"] = gr.Dropdown(fitting, value=fitting[0], label="Solver", min_width=90)
    with gr.Row():
        fields["seed"] = gr.Number(0, label="Seed", precision=0, min_width=90)
        fields["any_seed"] = gr.Checkbox(True, label="random", container=False, min_width=90)
    if "image" in fields:
        fields["image"].change(_seen, [fields["image"], fields["size"]], seen)
    return fields


def _seen(path: str | None, size: str) -> Any:
    """Return a picture as the model will see it; uploads are opened by our own reader alone."""
    with _told():
        return gr.Image(read_image(Path(path), *parse_size(size)) if path else None, visible=bool(path))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Whatever goes wrong is one line on the page, and the page goes on."""
    try:
        yield
    except Exception as error:
        line = str(error) if isinstance(error, GokuError) else f"{type(error).__name__}: {error}"
        raise gr.Error(html.escape(" ".join(line.split())), print_exception=False) from error


def _how(row: Row) -> Row:
    """Return what the page tells of a past sample."""
    drawn = {"prompt": row["prompt"], "seed": row["seed"], "set": row["name"], "checkpoint": row["checkpoint"]}
    read = {"text": row["text"]} if row["text"] != row["prompt"] else {}
    shape = {"frames": row["frames"], "pixels": f"{row['height']}x{row['width']}", "fps": row["fps"]}
    return drawn | read | shape | {"settings": json.loads(row["settings"])}
