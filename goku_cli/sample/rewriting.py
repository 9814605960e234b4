"""Prompts rewritten by a language model before they are drawn (paper, Table 5: GenEval 0.70 becomes 0.76).

Training captions are long and literal, prompts are short. Any OpenAI-compatible server may write the one from the
other; what it answered is kept beside the manifest, so the same prompt is asked for once.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from goku_cli.chat.asking import ask
from goku_cli.chat.replies import Replies
from goku_cli.chat.server import Server
from goku_cli.chat.settings import SERVER, ServerSettings, check_url
from goku_cli.chat.spending import Spending
from goku_cli.errors import Fault, GokuError, UsageError
from goku_cli.recipe import packaged
from goku_cli.sample.prompts import Prompt
from goku_cli.stage import Progress


def rewrite(rows: list[Prompt], server: str, model: str | None, manifest: Path, progress: Progress) -> list[Prompt]:
    """Return the rows, each with what a server made of its prompt as `rewritten`.

    Raises:
        UsageError: `server` is not openai:URL.
        GokuError: it does not answer, or gives no caption for a prompt.
    """
    if not server.startswith(SERVER):
        raise UsageError(f"--rewrite takes openai:URL, e.g. openai:http://localhost:8000/v1, not {server}")
    url = server.removeprefix(SERVER)
    check_url(url)
    settings = ServerSettings()
    instruction = packaged("prompts", "rewrite.txt").read_text(encoding="utf-8").strip()
    prompts = list(dict.fromkeys(str(row["prompt"]) for row in rows))
    progress.start("rewrite", len(prompts))
    spending = Spending(settings)
    asked = Server(url, spending).model(model)
    with Replies(manifest) as replies, ThreadPoolExecutor(settings.in_flight) as pool:

        def one(prompt: str) -> str:
            try:
                return ask(asked, replies, spending, f"{instruction} {prompt}")
            except Fault as fault:
                raise GokuError(f'"{prompt[:40]}" was not rewritten: {fault}; what was answered is kept') from fault
            finally:
                progress.advance()

        texts = dict(zip(prompts, pool.map(one, prompts), strict=True))
    return [row | {"rewritten": texts[str(row["prompt"])]} for row in rows]
