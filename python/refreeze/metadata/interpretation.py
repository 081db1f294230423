"""An array's document to what the target holds: version 3 metadata, and where the chunks are.

Of a plain document that is found here; of every other, zarr-python is asked about this one
document, without any store. Whatever a library raises about a document is the document's fault.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refreeze.exceptions import RefreezeError, UnsupportedArrayError
from refreeze.metadata.documents import check_storable
from refreeze.metadata.layout import ARRAY_DIMENSIONS, given_names, layout_of
from refreeze.metadata.plain_reader import plain_document
from refreeze.metadata.plain_reader_version_2 import plain_version_2_document
from refreeze.stores.reading_errors import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refreeze.metadata.attributes import Attributes
    from refreeze.metadata.layout import Layout

__all__ = ["Described", "described"]

_V2 = 2


@dataclass(frozen=True)
class Described:
    """An array: how the target holds it, and where the source has its chunks."""

    document: bytes = field(repr=False)
    """Version 3 metadata, with Icechunk's chunk keys."""
    layout: Layout
    attributes: Attributes = field(repr=False)
    """Those of the document, and what of them had to be changed."""
    source_format: int = 3
    loses_mask: bool = False
    """Whether xarray masks values of it that it cannot mask in the target."""


def described(document: Mapping[str, Any]) -> Described:
    """Describe an array.

    Parameters
    ----------
    document
        ``zarr.json`` of version 3, or ``.zarray`` of version 2 with ``attributes`` beside.

    Raises
    ------
    UnsupportedArrayError
        It cannot be referenced; names what is wrong, not the array.
    """
    layout = layout_of(document)
    try:
        found = _plainly(document, layout) or _through_zarr(document, layout)
        check_storable(json.loads(found.document))
    except RefreezeError:
        raise
    except RecursionError:
        raise UnsupportedArrayError("its metadata is nested too deeply") from None
    except Exception as error:  # libraries raise anything at documents that are damaged
        said = one_line(error)
        if not isinstance(error, TypeError | ValueError):
            # Others say too little without their name: of a key that is missing, only the key.
            said = f"{type(error).__name__}: {said}"
        raise UnsupportedArrayError(said) from error
    return found


def _plainly(document: Mapping[str, Any], layout: Layout) -> Described | None:
    if document.get("zarr_format") == _V2:
        found = plain_version_2_document(document, layout)
        return None if found is None else Described(found[0], layout, found[1], source_format=_V2)
    found = plain_document(document)
    return None if found is None else Described(found[0], layout, found[1])


def _through_zarr(document: Mapping[str, Any], layout: Layout) -> Described:
    from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

    from refreeze.metadata.conversion import array_document, loses_mask

    names = given_names(document)
    if names is not None and layout.dimension_names is None:
        raise UnsupportedArrayError(
            f"its dimension names are not text for each of its {len(layout.shape)} dimensions"
        )
    with warnings.catch_warnings():
        # They are about zarr's own future, or about what it reads another way than it is written,
        # which has been refused.
        warnings.simplefilter("ignore")
        metadata: Any
        if document.get("zarr_format") == _V2:
            attributes = document["attributes"]
            if layout.dimension_names is not None:
                attributes = attributes | {ARRAY_DIMENSIONS: list(layout.dimension_names)}
            metadata = ArrayV2Metadata.from_dict({**document, "attributes": attributes})
        else:
            metadata = ArrayV3Metadata.from_dict(dict(document))
        stored, converted = array_document(metadata)
        return Described(
            document=stored,
            layout=layout,
            attributes=converted,
            source_format=metadata.zarr_format,
            loses_mask=loses_mask(metadata),
        )
