"""Requests per second of `goku caption` against a bare load generator that sends the same payloads.

python bench/caption.py [PICTURES] [LATENCY_SECONDS]

A server in a process of its own answers after a fixed time. The bare generator (httpx2, asyncio, 64 in flight) posts
what goku posted. The steady state leaves out the first and the last tenth of the requests of both.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import httpx2
import numpy as np
from aiohttp import web

from goku_cli.manifest.store import Manifest
from goku_cli.media.ffmpeg import write_image

IN_FLIGHT = 64
REPLY = json.dumps({
    "id": "x", "object": "chat.completion", "model": "bench",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A red wall."}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 5},
})  # fmt: skip


def serve(latency: float) -> None:
    """Answer everything after `latency` seconds; /times tells when requests came, /bodies what they were."""
    times: list[float] = []
    bodies: list[bytes] = []

    async def complete(request: web.Request) -> web.Response:
        times.append(time.time())
        body = await request.read()
        if request.headers.get("X-Bare") is None:
            bodies.append(body)
        await asyncio.sleep(latency)
        return web.Response(text=REPLY, content_type="application/json")

    async def told(request: web.Request) -> web.Response:
        found = list(times)
        times.clear()
        return web.json_response(found)

    app = web.Application(client_max_size=1 << 26)
    models = {"object": "list", "data": [{"id": "bench", "object": "model"}]}
    app.add_routes([
        web.post("/v1/chat/completions", complete), web.get("/times", told),
        web.get("/bodies", lambda _: _async(web.json_response([body.decode() for body in bodies]))),
        web.get("/v1/models", lambda _: _async(web.json_response(models))),
    ])  # fmt: skip
    web.run_app(app, host="127.0.0.1", port=8767, print=None)


async def _async(value: web.Response) -> web.Response:
    return value


def told(name: str) -> list:
    """Ask the server."""
    with urllib.request.urlopen(f"http://127.0.0.1:8767/{name}") as reply:
        return json.load(reply)


async def bare(bodies: list[str]) -> None:
    """Post every body once, IN_FLIGHT at a time."""
    waiting = iter(bodies)
    headers = {"Content-Type": "application/json", "X-Bare": "1"}
    async with httpx2.AsyncClient(timeout=60) as client:

        async def worker() -> None:
            for body in waiting:
                (await client.post("http://127.0.0.1:8767/v1/chat/completions", content=body, headers=headers)).json()

        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


def steady(times: list[float]) -> float:
    """Requests per second without the first and the last tenth."""
    middle = sorted(times)[len(times) // 10 : -len(times) // 10]
    return (len(middle) - 1) / (middle[-1] - middle[0])


def make_manifest(folder: Path, pictures: int) -> Path:
    """Small PNGs whose decoding is cheap."""
    rng = np.random.default_rng(0)
    path = folder / "m.duckdb"
    with Manifest(path, create=True) as manifest:
        rows = []
        for number in range(pictures):
            file = folder / f"{number:05}.png"
            write_image(file, rng.integers(0, 255, (24, 32, 3), np.uint8))
            rows.append((f"{number:05}", file, file.stat()))
        manifest.insert("sources", [{"id": name, "kind": "image"} for name, _, _ in rows])
        manifest.insert("source_paths", [
            {"source": name, "path": str(file), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
            for name, file, status in rows
        ])  # fmt: skip
        manifest.insert("clips", [{"id": name, "source": name, "start_us": 0, "end_us": 0} for name, _, _ in rows])
        manifest.insert("selections", [{"name": "all", "clip": name, "weight": 1.0} for name, _, _ in rows])
    return path


def main(pictures: int, latency: float) -> None:
    """Print both rates and their ratio."""
    server = subprocess.Popen([sys.executable, __file__, "serve", str(latency)])
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = make_manifest(Path(folder), pictures)
            words = ["goku", "caption", f"{path}#all", "--captioner", "openai:http://127.0.0.1:8767/v1"]
            started = time.monotonic()
            subprocess.run([*words, "--in-flight", str(IN_FLIGHT)], check=True)
            took = time.monotonic() - started
            ours, bodies = steady(told("times")), told("bodies")
            asyncio.run(bare(bodies))
            theirs = steady(told("times"))
        ideal = IN_FLIGHT / latency
        print(f"goku {ours:.0f}/s ({pictures / took:.0f}/s with start-up), bare {theirs:.0f}/s, ideal {ideal:.0f}/s,")
        print(f"ratio {ours / theirs:.3f}")
    finally:
        server.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(float(sys.argv[2]))
    else:
        main(int((sys.argv[1:] or ["2000"])[0]), float((sys.argv[2:] or ["0.1"])[0]))
