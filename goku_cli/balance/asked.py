"""Tags by asking: a language model behind an OpenAI-compatible server reads the caption and chooses a class."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from goku_cli.balance.tags import CAPTIONED, STAGE, tagged
from goku_cli.balance.taxonomy import Taxonomy, words_of
from goku_cli.chat.asking import Model, ask
from goku_cli.chat.replies import Replies
from goku_cli.chat.server import Server
from goku_cli.chat.settings import SERVER, check_url
from goku_cli.chat.spending import Spending
from goku_cli.errors import Cause, Fault
from goku_cli.manifest.store import Manifest
from goku_cli.recipe import fingerprint, packaged
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage

VERSION = 1


@dataclass(frozen=True)
class Asker:
    """What a thread needs to ask for the class of one caption."""

    model: Model
    replies: Replies
    spending: Spending
    prompt: str
    classes: tuple[tuple[str, str], ...]

    def __call__(self, job: tuple[str, str]) -> Rows:
        """Tag one clip.

        Raises:
            Fault: ANSWER, when the model names no class; or what the server failed with.
        """
        clip, caption = job
        lines = "\n".join(f"{primary} / {sub}" for primary, sub in self.classes)
        answer = ask(self.model, self.replies, self.spending, self.prompt.format(caption=caption, classes=lines))
        return tagged(clip, *read_class(answer, self.classes), 1.0, f"{self.model.name}@{VERSION}")


def read_class(answer: str, classes: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """Return the class that an answer names: both its names, or a sub-category that only one class has.

    Raises:
        Fault: ANSWER, when it names none, or several.
    """
    said = f" {' '.join(words_of(answer))} "
    both = [key for key in classes if f" {' '.join(words_of(' '.join(key)))} " in said]
    alone = [key for key in classes if f" {' '.join(words_of(key[1]))} " == said]
    found = both or alone
    if len(found) != 1:
        raise Fault(Cause.ANSWER, f"it names {'no class' if not found else 'several classes'}: {answer[:100]}")
    return found[0]


def tag_by_asking(
    manifest: Manifest, selection: str, taxonomy: Taxonomy, progress: Progress | None = None, *, url: str,
    model: str | None, spending: Spending,
) -> Outcome:  # fmt: skip
    """Tag the kept clips whose caption or taxonomy is new, by a model of a server: its first one when none is named.

    Raises:
        UsageError: the URL is none.
        GokuError: nothing answers there.
    """
    check_url(url.removeprefix(SERVER))
    asked = Server(url.removeprefix(SERVER), spending).model(model)
    prompt = packaged("prompts", "class.txt").read_text(encoding="utf-8").strip()
    classes = tuple((name, sub) for name, primary in taxonomy.classes.items() for sub in primary.subcategories)
    params = fingerprint([VERSION, asked.identity, prompt, taxonomy.fingerprint()])
    total = manifest.value(f"SELECT count(*) {CAPTIONED}", [selection])
    with Replies(manifest.path) as replies, spending.stopped_by_signals():
        return run_stage(
            manifest, STAGE, params, _items(manifest, selection, spending),
            Asker(asked, replies, spending, prompt, classes), total=total, workers=spending.settings.in_flight,
            threads=True, progress=progress,
        )  # fmt: skip


def _items(manifest: Manifest, selection: str, spending: Spending) -> Iterator[Item]:
    rows = manifest.stream(f"SELECT clip, text {CAPTIONED} ORDER BY clip", [selection])
    for row in takewhile(lambda _: spending.stopped is None, rows):
        yield Item(row["clip"], (row["clip"], row["text"]), fingerprint(row["text"]))
