-- One file is one dataset. Times are integer microseconds of presentation time. No primary keys: uniqueness is
-- kept by the stage loop (an item's rows are replaced in one transaction) and proved by `goku show --verify`;
-- an index per table would make 10 million clips slow and its log the fragile part of a crash.

CREATE TABLE runs (
    id BIGINT, command TEXT, arguments JSON, versions JSON, host TEXT,
    started TIMESTAMP, finished TIMESTAMP, status TEXT, counts JSON, seconds DOUBLE, output TEXT
);
CREATE TABLE receipts (stage TEXT, item TEXT, params TEXT, run BIGINT);
-- `cause` is one of a closed list (goku_cli/errors.py). A partial failure has a receipt too: what was good was kept.
CREATE TABLE failures (stage TEXT, item TEXT, cause TEXT, reason TEXT, partial BOOLEAN, failed TIMESTAMP, run BIGINT);

CREATE TABLE sources (
    id TEXT, kind TEXT, container TEXT, codec TEXT, width INTEGER, height INTEGER, rotation INTEGER, sar DOUBLE,
    fps DOUBLE, variable_fps BOOLEAN, frames BIGINT, start_us BIGINT, duration_us BIGINT, bitrate BIGINT,
    pixel_format TEXT, bit_depth INTEGER, hdr TEXT, audio BOOLEAN, missing DOUBLE, bytes BIGINT, rejected TEXT,
    run BIGINT
);
-- `item` is what was found: the path itself, a URL, or ARCHIVE.tar!MEMBER; two of them can be one file.
-- `origin` is where a file came from: what a list or a sidecar said of it, or the item when it was fetched.
CREATE TABLE source_paths (
    source TEXT, path TEXT, item TEXT, bytes BIGINT, mtime_ns BIGINT, origin TEXT, license TEXT, run BIGINT
);
-- `item` is what the text came with, as in source_paths; NULL times mean the whole file.
CREATE TABLE sidecars (source TEXT, start_us BIGINT, end_us BIGINT, text TEXT, item TEXT, run BIGINT);

CREATE TABLE clips (
    id TEXT, source TEXT, start_us BIGINT, end_us BIGINT, frames BIGINT, width INTEGER, height INTEGER, fps DOUBLE,
    opened_by TEXT, key_hash TEXT, key_colors UTINYINT[], thumbnail BLOB, path TEXT, run BIGINT
);
CREATE TABLE scores (clip TEXT, metric TEXT, value DOUBLE, scorer TEXT, run BIGINT);
-- `at_us` is the time within the clip of the key frame that a caption of kind `frame` speaks of.
CREATE TABLE captions (clip TEXT, kind TEXT, at_us BIGINT, text TEXT, model TEXT, conflict TEXT, run BIGINT);
CREATE TABLE tags (
    clip TEXT, "primary" TEXT, subcategory TEXT, confidence DOUBLE, tagger TEXT, run BIGINT
);
CREATE TABLE selections (name TEXT, clip TEXT, weight DOUBLE, reason TEXT, run BIGINT);
-- What made tensors: a VAE with its bucket and frame rate, or a text encoder. `id` is its fingerprint.
CREATE TABLE encoders (id TEXT, kind TEXT, name TEXT, path TEXT, settings JSON, run BIGINT);
-- Files of tensors; `path` is relative to the manifest's folder.
CREATE TABLE shards (path TEXT, bytes BIGINT, sha256 TEXT, run BIGINT);
-- `start_us` is the time within the clip at which the window of frames begins; `flipped` windows are mirrored. The
-- tensor `key` is the posterior's mean, and with `logvar` there is `key`.logvar beside it. `sums` and `squares` are
-- the mean's sums over positions per channel: the statistics of any set of rows follow from them. `crc` is the CRC-32
-- of the mean's bytes followed by the log-variance's.
CREATE TABLE latents (
    clip TEXT, start_us BIGINT, flipped BOOLEAN, encoder TEXT, bucket TEXT, frames INTEGER, fps DOUBLE,
    shard TEXT, key TEXT, shape INTEGER[], logvar BOOLEAN, sums DOUBLE[], squares DOUBLE[],
    crc BIGINT, run BIGINT
);
-- `text_id` is left(sha256(text), 32), so equal captions are encoded once. A text was cut when `full_tokens` > `tokens`.
CREATE TABLE text_states (
    text_id TEXT, encoder TEXT, shard TEXT, key TEXT, tokens INTEGER, full_tokens INTEGER, crc BIGINT,
    run BIGINT
);
-- What training saw: one row per sample of a step. `t` is its time (0 is noise), `caption` who wrote its text (or
-- `dropped`), `loss` the mean squared error of its tokens. `training` is the run's folder.
CREATE TABLE losses (
    training TEXT, step BIGINT, clip TEXT, key TEXT, t DOUBLE, frames INTEGER, height INTEGER, width INTEGER,
    tokens INTEGER, caption TEXT, loss DOUBLE, run BIGINT
);
-- `prompt` is what was asked for, `text` what the model read: the same, or rewritten, or with a motion score.
-- `latent_sha256` is that of the latent's bytes: the same seed on the same machine gives the same.
CREATE TABLE samples (
    id TEXT, name TEXT, prompt TEXT, text TEXT, metadata JSON, seed BIGINT, path TEXT, frames INTEGER, width INTEGER,
    height INTEGER, fps DOUBLE, settings JSON, checkpoint TEXT, sha256 TEXT, latent_sha256 TEXT, run BIGINT
);
-- What a metric gave a sample: what figures are made of, and what two sets are compared by.
CREATE TABLE sample_scores (sample TEXT, metric TEXT, value DOUBLE, implementation TEXT, run BIGINT);
-- One figure. Of `expected` samples `found` were there and `n` were scored; `low` and `high` are its 95 % interval.
-- `weights` is the SHA-256 of the weights that it rests on, and `license` theirs, or that of the tool that made it.
CREATE TABLE results (
    name TEXT, suite TEXT, metric TEXT, tag TEXT, value DOUBLE, n BIGINT, found BIGINT, expected BIGINT, low DOUBLE,
    high DOUBLE, implementation TEXT, weights TEXT, license TEXT, run BIGINT
);

-- Every scorer keeps its figures; this is the newest one of each metric.
CREATE VIEW current_scores AS
SELECT clip, metric, arg_max(value, run) AS value, arg_max(scorer, run) AS scorer FROM scores GROUP BY clip, metric;

-- Scores by metric as columns of one row: what people want to look at and filter by.
CREATE VIEW clip_scores AS
SELECT clip, map_from_entries(list((metric, value) ORDER BY metric)) AS scores FROM current_scores GROUP BY clip;

-- One place of each source: the first of its names.
CREATE VIEW source_files AS
SELECT source, min(path) AS path, arg_min(bytes, path) AS bytes, arg_min(mtime_ns, path) AS mtime_ns
FROM source_paths GROUP BY source;

-- Clips with what a worker needs to read their frames.
CREATE VIEW clip_files AS
SELECT clips.* EXCLUDE (thumbnail, key_colors), sources.kind, sources.rejected, files.path AS source_path,
    files.bytes AS source_bytes, files.mtime_ns AS source_mtime_ns
FROM clips JOIN sources ON sources.id = clips.source LEFT JOIN source_files AS files ON files.source = clips.source;

-- Mean and standard deviation of every latent channel of an encoder (channels count from 1).
CREATE VIEW latent_statistics AS
SELECT encoder, channel, total / n AS mean, sqrt(greatest(square / n - (total / n) ** 2, 0)) AS std
FROM (
    SELECT encoder, channel, fsum(total) AS total, fsum(square) AS square, sum(n)::DOUBLE AS n
    FROM (
        SELECT encoder, unnest(range(1, len(sums) + 1)) AS channel, unnest(sums) AS total,
            unnest(squares) AS square, shape[2] * shape[3] * shape[4] AS n
        FROM latents
    ) GROUP BY encoder, channel
);

-- How far the training losses of a clip lie, on average and in standard deviations, from what samples of the same kind
-- (image or video) gave at similar times in the same tenth of the run. An average of n draws varies by 1 / sqrt(n); so
-- `at_least` is what chance does not explain, but for one clip in twenty.
CREATE VIEW clip_losses AS
SELECT clip, avg(z) AS deviation, greatest(0, abs(avg(z)) - 2 / sqrt(count(*))) AS at_least, count(*) AS samples
FROM (
    SELECT clip, (loss - avg(loss) OVER alike) / stddev_samp(loss) OVER alike AS z
    FROM losses JOIN (SELECT training, max(step) AS last FROM losses GROUP BY training) USING (training)
    WINDOW alike AS (PARTITION BY training, 10 * step // (last + 1), floor(10 * t), frames > 1)
) WHERE isfinite(z) GROUP BY clip;
