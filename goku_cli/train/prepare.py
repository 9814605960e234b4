"""Preparation of a run: rows exported from the manifest, and the run's folder.

A run's folder is named by its recipe and its data (`runs/shapes-1a2b3c4d`); which run a recipe goes on with is said in
`runs.py`.
"""

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from goku_cli.errors import UsageError
from goku_cli.manifest.held_out import mark_held_out
from goku_cli.manifest.shards import ShardReader, check_shards
from goku_cli.manifest.store import Manifest, Row
from goku_cli.model.network.packing import token_count
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.objective.objective import Objective
from goku_cli.model.text.encoders import from_stored
from goku_cli.model.vae.codec import codec_fingerprint, load_codec
from goku_cli.model.weights import checkpoint
from goku_cli.publish import publish
from goku_cli.recipe import build
from goku_cli.train.data.class_labels import classes_of
from goku_cli.train.data.index import NEEDED, write_index
from goku_cli.train.logs.loggers import check_boards
from goku_cli.train.recipe import Recipe, sized_model
from goku_cli.train.runs import choose, samples

# Latents of one encoder with the weight and the encoded captions of their clip: the caption that was chosen, with
# and without what was appended to it. A clip whose caption contradicts what was measured is not trained on.
LATENTS = """
SELECT latents.clip, latents.start_us, latents.flipped, latents.shard, latents.key, latents.shape, latents.frames,
    latents.logvar, latents.crc,
    latents.clip IN (SELECT clip FROM held_out) AS held_out, selections.weight,
    texts.text_shards, texts.text_keys, texts.text_tokens, texts.text_sources, texts.text_crcs
FROM latents JOIN selections USING (clip) JOIN (
    SELECT c.clip, list(t.shard ORDER BY t.key) AS text_shards, list(t.key ORDER BY t.key) AS text_keys,
        list(t.tokens ORDER BY t.key) AS text_tokens, list(c.source ORDER BY t.key) AS text_sources,
        list(t.crc ORDER BY t.key) AS text_crcs
    FROM (SELECT c.clip, c.text, min(coalesce(c.model, c.kind)) AS source
          FROM captions AS c JOIN captions AS m USING (clip)
          WHERE m.kind = 'merged' AND starts_with(m.text, c.text) AND m.conflict IS NULL
          GROUP BY c.clip, c.text) AS c
    JOIN text_states AS t ON t.text_id = left(sha256(c.text), 32) AND t.encoder = $text
    GROUP BY c.clip
) AS texts USING (clip)
WHERE latents.encoder = $vae AND selections.name = $selection AND selections.reason IS NULL AND selections.weight > 0
ORDER BY latents.key
"""
CLIPS = """
SELECT clip_files.id AS clip, source_path, fields, start_us, end_us, weight,
    clip_files.id IN (SELECT clip FROM held_out) AS held_out
FROM clip_files
JOIN selections ON selections.clip = clip_files.id WHERE name = $selection AND reason IS NULL AND weight > 0
ORDER BY clip_files.id
"""

ENCODERS = {
    "vae": "SELECT encoders.* FROM encoders JOIN latents ON latents.encoder = encoders.id JOIN selections USING (clip)"
    " WHERE selections.name = ? GROUP BY ALL ORDER BY count(DISTINCT clip) DESC, encoders.run DESC",
    "text": "SELECT encoders.* FROM encoders JOIN text_states AS t ON t.encoder = encoders.id"
    " JOIN captions ON t.text_id = left(sha256(captions.text), 32) JOIN selections USING (clip)"
    " WHERE selections.name = ? GROUP BY ALL ORDER BY count(DISTINCT clip) DESC, encoders.run DESC",
}


@dataclass(frozen=True)
class Run:
    """A run that is ready to start, or to go on."""

    folder: Path
    recipe: Recipe
    clips: int
    remark: str = ""
    """What there is to say of its choice."""

    @property
    def finished(self) -> Path | None:
        """The last step's checkpoint, when it is there."""
        last = checkpoint.step_folder(self.folder, self.recipe.train.steps)
        return last if (last / checkpoint.COMPLETE).exists() else None


def prepare(
    manifest: Manifest, selection: str, recipe: Recipe, name: str, runs: Path, named: Path | None = None
) -> Run:
    """Write `recipe.json` and the rows into the run's folder and return the run; with `named` it is that one.

    Raises:
        UsageError: the selection has no clips, no latents or no encoded captions, or its latents are not of the VAE
            that lies there now, or not of the one that the first checkpoint was trained with; or a package that
            [watch] wants is not installed; or the run that was named cannot go on with these.
        GokuError: a shard is missing or not as long as it was written.
    """
    check_boards(recipe.watch)
    plan: dict[str, Any] = {}
    data = {"manifest": str(manifest.path.absolute()), "selection": selection}
    if recipe.kind == "vae":
        mark_held_out(manifest)
        query, values = CLIPS, {"selection": selection}
    else:
        query, values, plan = latents_of(manifest, selection, recipe)
        data |= plan.pop("data")
    with exported(manifest, query, values, runs) as found:
        if not found.count:
            where = f"{manifest.path}#{selection}"
            raise UsageError(f"nothing to train on in {where}; look with: goku show {manifest.path}")
        if recipe.kind != "vae":
            _check_lengths(found, recipe)
            check_shards(manifest, found.shards())
        plan |= {
            "recipe": asdict(recipe), "data": data, "root": str(manifest.path.parent.absolute()),
            "samples": samples(found.path),
        }  # fmt: skip
        chosen = choose(plan, name, runs, named)
        chosen.keep(plan)
        _keep_data(found.path, chosen.folder, anew=named is not None, latents=recipe.kind != "vae")
        clips = found.clips()
    with publish(chosen.folder / "recipe.json") as temporary:
        temporary.write_text(json.dumps(plan, indent=1) + "\n")
    return Run(chosen.folder, recipe, clips, chosen.remark)


@dataclass(frozen=True)
class Exported:
    """The rows that a run reads, in a file, with the manifest that can be asked about them."""

    path: Path
    manifest: Manifest

    @property
    def count(self) -> int:
        """Return how many there are."""
        return int(pq.ParquetFile(self.path).metadata.num_rows)

    def clips(self) -> int:
        """Return how many clips they are of."""
        return int(self._value("count(DISTINCT clip)"))

    def shards(self) -> set[str]:
        """Return all files of latents and of text states."""
        texts = self._value("list(DISTINCT name)", ", unnest(text_shards) AS _(name)")
        return {*self._value("list(DISTINCT shard)"), *texts}

    def longest(self) -> int:
        """Return the vision tokens of the longest latent."""
        return max(map(token_count, self._value("list(DISTINCT shape)")))

    def _value(self, told: str, more: str = "") -> Any:
        return self.manifest.value(f"SELECT {told} FROM read_parquet(?){more}", [str(self.path)])


@contextmanager
def exported(manifest: Manifest, query: str, values: Row, folder: Path) -> Iterator[Exported]:
    """Write a query's rows into a file that is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{uuid.uuid4().hex[:8]}.parquet"
    try:
        manifest.export(query, path, values)
        yield Exported(path, manifest)
    finally:
        path.unlink(missing_ok=True)


def _keep_data(found: Path, folder: Path, *, anew: bool, latents: bool) -> None:
    """Let a run's folder have the rows, as they are and as columns, where they are not there yet."""
    there = folder / "data.parquet"
    needed = NEEDED if latents else {"held_out", "fields"}
    if anew or not there.exists() or not needed <= set(pq.read_schema(there).names):
        with publish(there) as temporary:
            shutil.copyfile(found, temporary)
        shutil.rmtree(folder / "index", ignore_errors=True)
    if latents and not (folder / "index").exists():
        write_index(there, folder / "index")


def _check_lengths(found: Exported, recipe: Recipe) -> None:
    longest = found.longest()
    most = recipe.train.max_tokens * recipe.parallel.sequence
    if most and longest > most:
        raise UsageError(f"a latent has {longest} tokens, more than the {most} that max_tokens and sequence allow; "
                         "raise one of them")  # fmt: skip


def latents_of(manifest: Manifest, selection: str, recipe: Recipe) -> tuple[str, Row, dict[str, Any]]:
    """Return the query, its values, and the plan for the encoders of this selection; the query reads the marks of
    what is held out, which are made here."""
    mark_held_out(manifest)
    learned = None
    if recipe.init_from:
        found = checkpoint.resolve(Path(recipe.init_from))
        learned = checkpoint.read_config(found)
        learned["data"]["codec"] = str(found.absolute() / learned["data"]["codec"])
    vae = _vae(manifest, selection, learned)
    text = _encoders(manifest, selection, "text")[0]
    null = manifest.query(
        "SELECT shard, key, crc FROM text_states WHERE encoder = ? AND text_id = left(sha256(''), 32)",
        [text["id"]],
    )[0]
    states = from_stored(ShardReader(manifest.path.parent).read(null["shard"], null["key"]))
    shape = manifest.value("SELECT shape FROM latents WHERE encoder = ? LIMIT 1", [vae["id"]])
    plan: dict[str, Any] = {
        "null_text": [null["shard"], null["key"], null["crc"]],
        **_model(recipe, latent_channels=shape[0], text_dim=states.shape[1]),
        "data": {
            "codec": vae["path"],
            "encoder": vae["id"],
            "statistics": _statistics(manifest, vae, learned),
            "text": text["name"],
            **json.loads(vae["settings"]),
        },
    }
    if wanted := plan["model"]["classes"]:
        before = None if learned is None else learned["data"].get("classes")
        plan["data"]["classes"] = classes_of(manifest, selection, wanted, before)
    return LATENTS, {"vae": vae["id"], "text": text["id"], "selection": selection}, plan


def _vae(manifest: Manifest, selection: str, learned: dict[str, Any] | None) -> Row:
    """Return the encoder whose latents are trained on: the one of most clips, of those that a checkpoint knows.

    Raises:
        UsageError: the checkpoint knows none of them, or the VAE's folder holds another one by now.
    """
    encoders = _encoders(manifest, selection, "vae")
    made_with = [json.loads(encoder["settings"]) for encoder in encoders]
    known = None if learned is None else learned["data"].get("codec_sha256")
    for encoder, settings in zip(encoders, made_with, strict=True):
        if known is not None and settings["codec_sha256"] != known:
            continue
        if codec_fingerprint(Path(encoder["path"])) != settings["codec_sha256"]:
            raise UsageError(f"{encoder['path']} is not the VAE that made these latents ({encoder['id']}); "
                             f"encode again with: goku encode-latents {manifest.path}#{selection}")  # fmt: skip
        return encoder
    there = ", ".join(
        f"{encoder['id']} ({encoder['name']}, {settings['size']}, {settings['frames']} frames)"
        for encoder, settings in zip(encoders, made_with, strict=True)
    )
    raise UsageError(f"the latents of {manifest.path}#{selection} are of {there}, not of the VAE that the checkpoint "
                     f"to begin with was trained with; encode with --vae {learned and learned['data']['codec']}"
                     )  # fmt: skip


def _statistics(manifest: Manifest, vae: Row, learned: dict[str, Any] | None) -> dict[str, Any]:
    """Return mean and standard deviation by channel: the codec's own, else those that the checkpoint to begin with
    was trained with, else those of all that this encoder encoded."""
    own = load_codec(Path(vae["path"])).statistics
    if own is not None:
        return asdict(own)
    if learned is not None and "statistics" in learned["data"]:
        return dict(learned["data"]["statistics"])
    sql = "SELECT mean, std FROM latent_statistics WHERE encoder = ? ORDER BY channel"
    rows = manifest.query(sql, [vae["id"]])
    # A channel that never changes has nothing to be scaled.
    return {"mean": [row["mean"] for row in rows], "std": [row["std"] or 1.0 for row in rows]}


def _model(recipe: Recipe, *, latent_channels: int, text_dim: int) -> dict[str, Any]:
    """Return the model's configuration, what it learns, and the checkpoint that it begins with.

    Raises:
        UsageError: the checkpoint is of another size than the recipe, or learned other latents or texts, or predicts
            something else.
    """
    if not recipe.init_from:
        config = sized_model(recipe, latent_channels=latent_channels, text_dim=text_dim)
        return {"model": asdict(config), "objective": asdict(recipe.objective or Objective()), "init_from": ""}
    found = checkpoint.resolve(Path(recipe.init_from))
    learned = checkpoint.read_config(found)
    if learned["kind"] != "flow":
        raise UsageError(f"{found} holds a VAE; init_from wants a transformer's checkpoint")
    config = build(ModelConfig, {**learned["model"], **recipe.model}, where=f"{found}, [model]")
    if recipe.size:
        wanted = sized_model(recipe, latent_channels=config.latent_channels, text_dim=config.text_dim)
        if (wanted.layers, wanted.dim, wanted.heads) != (config.layers, config.dim, config.heads):
            raise UsageError(f"{found} is no model of size {recipe.size}; leave size out, or give another init_from")
    for what, has, gets in (
        ("channels of the latents", config.latent_channels, latent_channels),
        ("width of the text states", config.text_dim, text_dim if config.text_dim else 0),
    ):
        if has != gets:
            raise UsageError(f"{found} was trained for {what} of {has}, the manifest's are {gets}; encode again with "
                             "the VAE and text encoder of that checkpoint")  # fmt: skip
    if recipe.lora.rank and config.image_condition and not learned["model"].get("image_condition"):
        raise UsageError("[lora] adapts the layers that there are; train all weights first to add image_condition")
    check_predicts(recipe, found, learned)
    objective = asdict(recipe.objective) if recipe.objective else learned["objective"]
    return {"model": asdict(config), "objective": objective, "init_from": str(found.absolute())}


def check_predicts(recipe: Recipe, found: Path, learned: dict[str, Any]) -> None:
    """Refuse weights whose output means something else than the recipe's objective says.

    Raises:
        UsageError: the checkpoint predicts data and the recipe the velocity, or the other way round.
    """
    if recipe.objective is None:
        return
    wanted, has = recipe.objective, build(Objective, learned.get("objective", {}), where=f"{found}, [objective]")
    if wanted.predicts != has.predicts:
        raise UsageError(f'{found} was trained with predicts = "{has.predicts}", the recipe has "{wanted.predicts}"; '
                         f'set predicts = "{has.predicts}" in [objective], or leave [objective] out')  # fmt: skip


def _encoders(manifest: Manifest, selection: str, kind: str) -> list[Row]:
    """Return the encoders of a selection, the one that encoded most of it first; of several such, the newest."""
    rows = manifest.query(ENCODERS[kind], [selection])
    if not rows:
        where = f"{manifest.path}#{selection}"
        raise UsageError(f"{where} has no latents yet; make them with: goku encode-latents {where}")
    return rows
