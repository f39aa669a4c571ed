"""The formats of picture files, and the endings by which a folder's pictures are told from its other files."""

import importlib.util

#: The formats as Pillow names them, and the endings of their files' names.
PICTURE_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
#: The endings of all formats.
ENDINGS = tuple(ending for endings in PICTURE_FORMATS.values() for ending in endings)
# The format that needs a package of the extra `heic`.
_HEIF, _HEIF_PACKAGE = "HEIF", "pillow_heif"


def missing_package(ending: str) -> str | None:
    """Returns what must be installed for pictures with this ending to be read; None if nothing is missing."""
    if ending in PICTURE_FORMATS[_HEIF] and importlib.util.find_spec(_HEIF_PACKAGE) is None:
        return "nnclr[heic]"
    return None


def readable_formats() -> list[str]:
    """Returns Pillow's names of the formats that can be decoded here, and registers their decoders."""
    if importlib.util.find_spec(_HEIF_PACKAGE) is None:
        return [name for name in PICTURE_FORMATS if name != _HEIF]
    import pillow_heif

    pillow_heif.register_heif_opener()
    return list(PICTURE_FORMATS)
