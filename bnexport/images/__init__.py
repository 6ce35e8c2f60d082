"""Pictures from folders, lists, manifests and tar shards, here or at a URL, as labelled batches."""

from bnexport.images.decode import SUFFIXES, pixels, prepared, thumbnail
from bnexport.images.find import find
from bnexport.images.fingerprint import fingerprint
from bnexport.images.listing import Listing, Picture
from bnexport.images.reader import Batch, Reader, Unreadable

__all__ = [
    "SUFFIXES",
    "Batch",
    "Listing",
    "Picture",
    "Reader",
    "Unreadable",
    "find",
    "fingerprint",
    "pixels",
    "prepared",
    "thumbnail",
]
