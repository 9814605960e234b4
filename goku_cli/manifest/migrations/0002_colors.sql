-- What a file's numbers become RGB by, and whether its frames are mirrored (goku_cli/media/color/color.py, orientation.py); its
-- rate without gaps, and whether it is interlaced. Files that were ingested before have none until they are ingested again.
ALTER TABLE sources ADD COLUMN color TEXT;
ALTER TABLE sources ADD COLUMN mirrored BOOLEAN;
ALTER TABLE sources ADD COLUMN usual_fps DOUBLE;
ALTER TABLE sources ADD COLUMN interlaced BOOLEAN;
