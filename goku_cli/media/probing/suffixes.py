"""File name suffixes of media; apart from `probe`, so that looking for files loads no decoder."""

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4", ".m4v", ".mkv", ".mov", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv",
        ".wmv", ".asf", ".3gp", ".ogv", ".vob",
    ]
)  # fmt: skip
IMAGE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl"]
)
MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
