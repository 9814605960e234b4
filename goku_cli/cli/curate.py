"""The curation commands: ingest, split, filter, caption, balance."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from goku_cli.balance import taxonomy as balance_taxonomy
from goku_cli.caption.settings import CaptionSettings
from goku_cli.chat.settings import SERVER as SERVED
from goku_cli.chat.settings import ServerSettings
from goku_cli.cli.console import reference_from, say, stderr, stdout, table, working
from goku_cli.cli.options import TIMEOUT, AsJson, Output, Reference, Strict, Timeout, Workers
from goku_cli.filter import tier as filter_tier
from goku_cli.filter.scorers import in_use
from goku_cli.ingest import rules as ingest_rules
from goku_cli.split.settings import SplitSettings, WriteSettings

if TYPE_CHECKING:
    from goku_cli.balance.balance import Balanced
    from goku_cli.cli.console import Session

CAPTION = CaptionSettings()
SERVER = ServerSettings()
SPLIT = SplitSettings()
WRITE = WriteSettings()


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Files, folders, quoted globs, lists (csv, tsv, parquet, jsonl), tars, http, s3 URLs; -: stdin.",
        ),
    ],
    manifest: Annotated[
        Path, typer.Option("-m", "--manifest", help="The manifest to write, e.g. manifests/my.duckdb.")
    ],
    rules: Annotated[
        str, typer.Option(help="Cheap rules: a packaged name (paper, none) or a TOML file.")
    ] = ingest_rules.DEFAULT,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Also follow links out of the folders.")] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Also fetch from private addresses, such as 127.0.0.1.")
    ] = False,
    encoding: Annotated[
        str, typer.Option(help="Of captions and lists without a byte order mark, e.g. cp1252, gb18030.")
    ] = "utf-8",
    workers: Workers = 0,
    timeout: Timeout = TIMEOUT,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Bring videos and images into a manifest, measured, with their captions (x.txt, x.json, a column of a list).

    A file whose bytes are known already adds a name, not a source. What comes from a URL or a tar is kept beside the
    manifest, in NAME.files. Run again, it does what is new or changed, and what failed.

    Example: goku ingest videos/ -m manifests/my.duckdb
    """
    from goku_cli.ingest.ingest import ingest as ingest_media
    from goku_cli.ingest.ingest import rejections
    from goku_cli.ingest.walk import find_media

    media, limits = find_media(paths, follow_links, encoding), ingest_rules.load_rules(rules)
    arguments = {
        "paths": paths, "rules": rules, "follow_links": follow_links, "allow_private": allow_private,
        "encoding": encoding,
    }  # fmt: skip
    with working("ingest", str(manifest), arguments=arguments, create=True, as_json=as_json) as session:
        outcome = ingest_media(
            session.manifest, media, limits, allow_private=allow_private, encoding=encoding, workers=workers,
            timeout=timeout, progress=session.bar,
        )  # fmt: skip
        session.count(outcome, "ingest")
        session.counts["rejected"] = dict(rejections(session.manifest))
        for rule, count in rejections(session.manifest):
            say(f"  {count} rejected for their {rule} (rules {rules})")
        outcome.check("ingest", strict)


def split(
    manifest: Reference = None,
    detector: Annotated[
        str,
        typer.Option(help="Shot detector: adaptive, content, hash, histogram, threshold, or module:function."),
    ] = SPLIT.detector,
    threshold: Annotated[
        float | None, typer.Option(help="The detector's threshold; its own default when absent.")
    ] = SPLIT.threshold,
    frame_skip: Annotated[
        int, typer.Option(min=0, help="Frames that the detector skips after each one; cuts stay exact.")
    ] = SPLIT.frame_skip,
    similarity: Annotated[
        str, typer.Option(help="Feature of the second cut: layout, dinov2, or module:function.")
    ] = SPLIT.similarity,
    min_similarity: Annotated[
        float | None,
        typer.Option(help="Cut between frames a second apart that are less alike; the feature's own figure if absent."),
    ] = SPLIT.min_similarity,
    min_seconds: Annotated[float, typer.Option(help="Drop shorter clips.")] = SPLIT.min_seconds,
    max_seconds: Annotated[float, typer.Option(help="Divide longer clips evenly.")] = SPLIT.max_seconds,
    write_clips: Annotated[
        Path | None, typer.Option(help="Also cut every clip to an H.264 file in this folder.")
    ] = None,
    crf: Annotated[int, typer.Option(min=0, max=51, help="Quality of those files: less is better.")] = WRITE.crf,
    preset: Annotated[str, typer.Option(help="x264's preset for those files.")] = WRITE.preset,
    output: Output = None,
    workers: Workers = 0,
    timeout: Timeout = TIMEOUT,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Split sources into clips: shot boundaries, then frames a second apart that are too unlike, then length.

    Clips are ranges of time; nothing is copied unless --write-clips asks for it. No clip holds a frame of a fade or
    a dissolve, or a place that does not decode.

    Example: goku split manifests/my.duckdb --max-seconds 8
    """
    from goku_cli.split.split import split as split_sources
    from goku_cli.split.write import write_clips as cut_files

    settings = SplitSettings(
        detector=detector, threshold=threshold, frame_skip=frame_skip, similarity=similarity,
        min_similarity=min_similarity, min_seconds=min_seconds, max_seconds=max_seconds,
    )  # fmt: skip
    encoding = WriteSettings(crf=crf, preset=preset)
    arguments = {**vars(settings), "write_clips": write_clips, **vars(encoding)}
    with working("split", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        outcome = split_sources(session.manifest, settings, workers=workers, timeout=timeout, progress=session.bar)
        session.count(outcome, "split")
        session.counts["clips"] = session.manifest.value("SELECT count(*) FROM clips")
        say(f"  {session.counts['clips']} clips in the manifest")
        outcome.check("split", strict)
        if write_clips is not None:
            cut = cut_files(
                session.manifest, write_clips, encoding, workers=workers, timeout=timeout, progress=session.bar
            )
            session.count(cut, "write-clips")
            cut.check("write-clips", strict)


def filter_(
    manifest: Reference = None,
    tier: Annotated[
        str, typer.Option(help="Limits: a packaged name (480p, 720p, 1080p, shapes) or a TOML file.")
    ] = filter_tier.DEFAULT,
    scorer: Annotated[
        list[str] | None,
        typer.Option(help="Use this scorer for its metric (dinov2, laion, ..., module:function); may be repeated."),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="CLIP", help="Print each rule's value, bound and verdict for one clip.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be kept by the figures there are; write nothing.")
    ] = False,
    output: Output = None,
    workers: Workers = 0,
    timeout: Timeout = TIMEOUT,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Measure every clip once and keep those within a tier's limits, as the selection named after the tier.

    Every clip gets a row: kept, or dropped with the first limit that it breaks. Other limits need no second look.
    Scorers of models need their weights on disk: goku doctor lists them and says how to get them.

    Example: goku filter manifests/my.duckdb --tier 480p
    """
    from goku_cli.filter import decide as deciding
    from goku_cli.filter.measure import measure

    scorers = in_use(scorer or ())
    limits = filter_tier.load_tier(tier, scorers)
    if explain is not None or dry_run:
        _look_at_tier(manifest, limits, explain, as_json)
        return
    arguments = {"tier": tier, "scorers": scorers}
    with working("filter", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        outcome = measure(session.manifest, scorers, workers=workers, timeout=timeout, progress=session.bar)
        session.count(outcome, "filter")
        deciding.decide(session.manifest, limits)
        changed = deciding.keep(session.manifest, limits)
        rows = deciding.summary(session.manifest)
        session.counts["selection"] = dict(rows)
        _funnel(f"selection {limits.name}{'' if changed else ' (unchanged)'}", rows)
        outcome.check("filter", strict)
        session.output = f"{session.output}#{limits.name}"


def _look_at_tier(reference: str | None, limits: filter_tier.Tier, clip: str | None, as_json: bool) -> None:
    """Say what a tier would do, to all clips or to one; nothing is measured and nothing is written."""
    from goku_cli.filter import decide as deciding
    from goku_cli.manifest.store import Manifest, parse_reference

    path, _ = parse_reference(reference_from(reference))
    with Manifest(path, read_only=True) as opened:
        deciding.decide(opened, limits)
        if clip is None:
            told = deciding.summary(opened)
            if as_json:
                sys.stdout.write(json.dumps({"reference": str(path), "selection": dict(told)}) + "\n")
            else:
                _funnel(f"selection {limits.name} would be", told, to=stdout)
            return
        found = opened.clip(clip)
        rules = deciding.explain(opened, limits, found)
        if as_json:
            sys.stdout.write(json.dumps({"clip": found["id"], "rules": rules}) + "\n")
        else:
            title = f"{found['id']} by {limits.name}"
            table(title, list(rules[0]), [list(rule.values()) for rule in rules], to=stdout)


def _funnel(title: str, rows: list[tuple[str, int]], to: Console = stderr) -> None:
    total = sum(count for _, count in rows)
    shares = [[rule, count, f"{count / total:.1%}" if total else ""] for rule, count in rows]
    table(title, ["", "clips", "share"], shares, to=to)


def caption(
    manifest: Reference = None,
    captioner: Annotated[
        str,
        typer.Option(help="Captioners joined by +: given, measured, openai:URL, transformers:PATH, module:function."),
    ] = CAPTION.captioner,
    motion_score: Annotated[
        bool, typer.Option(help="Append the motion score to the captions of videos.")
    ] = CAPTION.motion_score,
    model: Annotated[str | None, typer.Option(help="The server's model; its first one when absent.")] = CAPTION.model,
    merge_model: Annotated[
        str | None, typer.Option(help="The server's model that merges captions; the same when absent.")
    ] = CAPTION.merge_model,
    prompts: Annotated[
        Path | None, typer.Option(help="A folder with frame.txt, video.txt and merge.txt, to ask in other words.")
    ] = CAPTION.prompts,
    key_frames: Annotated[
        int, typer.Option(min=1, max=64, help="Most frames of a video that a model sees, at most one a second.")
    ] = CAPTION.key_frames,
    frame_captions: Annotated[
        int, typer.Option(min=1, max=64, help="How many of them get a caption of their own.")
    ] = CAPTION.frame_captions,
    in_flight: Annotated[int, typer.Option(min=1, max=1000, help="Requests at once.")] = SERVER.in_flight,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Most requests per minute.")] = SERVER.rate,
    tokens_budget: Annotated[
        int | None, typer.Option(min=0, help="Stop asking when so many tokens are spent; the other clips wait.")
    ] = SERVER.tokens_budget,
    price_in: Annotated[float, typer.Option(min=0, help="Price of a million tokens read.")] = SERVER.price_in,
    price_out: Annotated[float, typer.Option(min=0, help="Price of a million tokens written.")] = SERVER.price_out,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for one answer.")] = SERVER.timeout,
    without: Annotated[
        list[str] | None,
        typer.Option(help="What the server does not take: max_tokens, temperature, seed. Found out when absent."),
    ] = None,
    output: Output = None,
    workers: Workers = 0,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Caption the clips that the selection keeps: what came with them, was measured, a model says; and one merged text.

    A model describes key frames and the whole video, and merges both. Its replies are kept beside the manifest, in
    NAME.replies.sqlite, and never asked for twice; a key is taken from OPENAI_API_KEY. The merged caption's row says
    where it contradicts what was measured, or holds instructions: training leaves such clips out.

    Example: goku caption manifests/my.duckdb#480p --captioner openai:http://localhost:8000/v1
    """
    from goku_cli.caption import caption as room
    from goku_cli.chat.spending import Spending

    settings = CaptionSettings(
        captioner=captioner, motion_score=motion_score, model=model, merge_model=merge_model, prompts=prompts,
        key_frames=key_frames, frame_captions=frame_captions,
    )  # fmt: skip
    asking = ServerSettings(
        in_flight=in_flight, rate=rate, tokens_budget=tokens_budget, price_in=price_in, price_out=price_out,
        timeout=timeout, without=tuple(without or ()),
    )  # fmt: skip
    arguments = {**vars(settings), **vars(asking)}
    with working("caption", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        name = session.manifest.selection(session.name)
        spending = Spending(asking, session.bar.describe)
        outcome = room.caption(
            session.manifest, name, settings, spending=spending, workers=workers, progress=session.bar
        )
        session.count(outcome, "caption")
        if settings.models():
            session.counts.update(requests=spending.requests, tokens=spending.tokens, cost=round(spending.cost, 4))
            say(f"  {spending}")
        conflicts = session.manifest.value(
            "SELECT count(*) FROM captions WHERE kind = 'merged' AND conflict IS NOT NULL"
        )
        session.counts["conflicts"] = conflicts
        if conflicts:
            say(f"  {conflicts} captions contradict what was measured, or instruct")
        spending.finish()
        outcome.check("caption", strict)
        session.output = f"{session.output}#{name}"


def balance(
    manifest: Reference = None,
    taxonomy: Annotated[
        str, typer.Option(help="Classes of content: a packaged name (default, shapes) or a TOML file.")
    ] = balance_taxonomy.DEFAULT,
    tagger: Annotated[
        str,
        typer.Option(
            help="Who tells the classes: rules over captions, clip (zero-shot on frames), openai:URL, or kept."
        ),
    ] = "rules",
    model: Annotated[str | None, typer.Option(help="The server's model; its first one when absent.")] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Keep so many clips, drawn by weight; without it, all with weights.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other clips.")] = 0,
    explain: Annotated[bool, typer.Option("--explain", help="Print the SQL that would run; write nothing.")] = False,
    output: Output = None,
    workers: Workers = 0,
    as_json: AsJson = False,
) -> None:
    """Weigh the kept clips so that sub-categories of a class are drawn equally often, as selection NAME-balanced.

    Example: goku balance manifests/my.duckdb#480p --taxonomy default
    """
    from goku_cli.balance import balance as room
    from goku_cli.registry import load

    classes = balance_taxonomy.load_taxonomy(taxonomy)
    if explain:
        _explain_balance(manifest, classes, size, seed)
        return
    arguments = {"taxonomy": taxonomy, "tagger": tagger, "model": model, "size": size, "seed": seed}
    with working("balance", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        name = session.manifest.selection(session.name).removesuffix(room.SUFFIX)
        if tagger.startswith(SERVED):
            _ask_for_tags(session, name, classes, tagger, model)
        elif tagger != "kept":
            tag = load(tagger, TAGGERS, "tagger")
            session.count(tag(session.manifest, name, classes, session.bar), "tag")
        done = room.balance(session.manifest, name, classes, size, seed)
        session.counts.update(clips=done.clips, effective=round(done.effective, 1), untagged=done.untagged)
        _distribution(done)
        session.output = f"{session.output}#{done.name}"


TAGGERS = {"rules": "goku_cli.balance.tags:tag_by_rules", "clip": "goku_cli.balance.look:tag_by_looking"}
BAR = 24


def _ask_for_tags(
    session: "Session", name: str, classes: balance_taxonomy.Taxonomy, url: str, model: str | None
) -> None:
    from goku_cli.balance.asked import tag_by_asking
    from goku_cli.chat.spending import Spending

    spending = Spending(ServerSettings(), session.bar.describe)
    outcome = tag_by_asking(session.manifest, name, classes, session.bar, url=url, model=model, spending=spending)
    session.count(outcome, "tag")
    say(f"  {spending}")
    spending.finish()
    outcome.check("tag", strict=False)


def _distribution(done: "Balanced") -> None:
    """Print how often each class is there, and how often it is drawn."""
    clips, drawn = sum(c.clips for c in done.classes), sum(c.drawn for c in done.classes)
    most = max(max(c.clips / clips, c.drawn / drawn) for c in done.classes)
    rows = []
    for entry in done.classes:
        shares = entry.clips / clips, entry.drawn / drawn
        bars = [f"{share:6.1%} {'█' * round(BAR * share / most)}" for share in shares]
        rows.append([f"{entry.primary} / {entry.subcategory}", entry.clips, entry.weight, *bars])
    title = f"selection {done.name}{'' if done.changed else ' (unchanged)'}"
    table(title, ["class", "clips", "weight", "before", "after"], rows)
    varied = f"as varied as {done.effective:.0f} equally weighted ones"
    say(f"  {done.clips} clips, {varied}; {done.moved:.0%} of the draws went to other classes")
    if done.untagged:
        say(f"  {done.untagged} clips have no tag and are left out")


def _explain_balance(reference: str | None, classes: balance_taxonomy.Taxonomy, size: int | None, seed: int) -> None:
    from goku_cli.balance import balance as room
    from goku_cli.manifest.store import Manifest, parse_reference

    path, name = parse_reference(reference_from(reference))
    with Manifest(path, read_only=True) as opened:
        selection = opened.selection(name).removesuffix(room.SUFFIX)
        sys.stdout.write(";\n\n".join(room.explain(opened, selection, classes, size, seed)) + ";\n")


COMMANDS: dict[str, Callable[..., None]] = {
    "ingest": ingest,
    "split": split,
    "filter": filter_,
    "caption": caption,
    "balance": balance,
}
