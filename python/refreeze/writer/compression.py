"""Codecs by a text such as ``blosc:zstd:3``: any that zarr has, by name and options. Pure."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["codecs_of"]

_LEVELS = {"zstd": (-131072, 22), "gzip": (0, 9)}


def codecs_of(compression: Any) -> dict[str, Any]:
    """Return the keywords ``compressors`` and ``filters`` of an array that is to be created.

    Parameters
    ----------
    compression
        ``none``; ``blosc[:CNAME[:LEVEL[:SHUFFLE]]]``, ``zstd[:LEVEL]``, ``gzip[:LEVEL]``; any
        other codec as ``NAME[:LEVEL]``, ``NAME:KEY=VALUE,KEY=VALUE`` or ``NAME:{JSON}``; a codec
        of zarr; or a list of these, which follow each other. None: what zarr takes by default.

    Raises
    ------
    ValueError
        There is no such codec, or it does not know the options.
    """
    if compression is None:
        return {}
    from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec

    parts = compression if isinstance(compression, list | tuple) else [compression]
    codecs = [codec for part in parts if (codec := _codec(part)) is not None]
    for codec in codecs:
        if isinstance(codec, ArrayBytesCodec):
            raise ValueError(f"{compression!r} is a serializer, not a compressor")  # noqa: TRY004 as its kin
    keywords: dict[str, Any] = {
        "compressors": tuple(c for c in codecs if not isinstance(c, ArrayArrayCodec))
    }
    if filters := tuple(c for c in codecs if isinstance(c, ArrayArrayCodec)):
        keywords["filters"] = filters
    return keywords


def _codec(part: Any) -> Any:
    if not isinstance(part, str):
        if hasattr(part, "to_dict"):
            return part
        raise TypeError(f"compression is a text such as blosc:zstd:3, not {type(part).__name__}")
    name, _, options = part.strip().partition(":")
    name = name.strip().lower()
    if name in {"", "none", "null"}:
        return None
    try:
        return _made(name, options.strip())
    except (TypeError, KeyError, OverflowError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"compression {part!r} is not understood: {error}") from None
    except ValueError as error:
        raise ValueError(f"compression {part!r}: {error}") from None


def _made(name: str, options: str) -> Any:
    from zarr import codecs

    if name == "blosc" and "=" not in options and not options.startswith("{"):
        cname, level, shuffle, *more = [*options.split(":"), "", "", ""][:4]
        if any(more) or options.count(":") > 2:  # noqa: PLR2004 CNAME:LEVEL:SHUFFLE
            raise ValueError("blosc takes CNAME:LEVEL:SHUFFLE")
        known: Any = {"0": "noshuffle", "1": "shuffle", "2": "bitshuffle", "": "shuffle"}
        clevel = int(level or 5)
        if not 0 <= clevel <= 9:  # noqa: PLR2004 blosc's levels
            raise ValueError(f"blosc's levels are 0 to 9, not {clevel}")
        cname = cname or "zstd"
        return codecs.BloscCodec(
            cname=cname,  # type: ignore[arg-type]
            clevel=clevel,
            shuffle=known.get(shuffle, shuffle),
        )
    if options.startswith("{"):
        settings = json.loads(options)
    elif "=" in options:
        settings = {
            key.strip(): _value(value)
            for key, _, value in (pair.partition("=") for pair in options.split(","))
        }
    else:
        settings = {"level": int(options)} if options else {}
    if name in _LEVELS and "level" in settings:
        least, most = _LEVELS[name]
        if not least <= settings["level"] <= most:
            raise ValueError(f"{name}'s levels end at {most}")
    if name == "zstd":
        return codecs.ZstdCodec(**settings)
    if name == "gzip":
        return codecs.GzipCodec(**settings)
    return _registered(name).from_dict({"name": name, "configuration": settings})


def _registered(name: str) -> Any:
    import zarr.codecs.numcodecs  # noqa: F401 registers them
    from zarr.registry import get_codec_class

    for candidate in (name, f"numcodecs.{name.removeprefix('numcodecs.')}"):
        try:
            found: Any = get_codec_class(candidate)
        except (KeyError, ValueError):
            continue
        return _Named(found, candidate)
    raise ValueError("zarr knows no codec of that name")


class _Named:
    """A codec class under the name that it is registered by."""

    def __init__(self, kind: Any, name: str) -> None:
        self.kind = kind
        self.name = name

    def from_dict(self, document: dict[str, Any]) -> Any:
        codec = self.kind.from_dict({**document, "name": self.name})
        if hasattr(codec, "_codec"):
            _ = codec._codec  # noqa: SLF001 made when first asked for: wrong options show now
        return codec


def _value(text: str) -> Any:
    try:
        return json.loads(text.strip())
    except json.JSONDecodeError:
        return text.strip()
