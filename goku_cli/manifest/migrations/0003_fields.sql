-- Which field of its frames comes first (tff or bff) where that was measured, because they are interlaced and have no
-- flag; and the same beside each clip, so that whoever reads its frames makes them whole (goku_cli/media/interlace.py).
ALTER TABLE sources ADD COLUMN fields TEXT;
CREATE OR REPLACE VIEW clip_files AS
SELECT clips.* EXCLUDE (thumbnail, key_colors), sources.kind, sources.rejected, sources.fields,
    files.path AS source_path, files.bytes AS source_bytes, files.mtime_ns AS source_mtime_ns
FROM clips JOIN sources ON sources.id = clips.source LEFT JOIN source_files AS files ON files.source = clips.source;
