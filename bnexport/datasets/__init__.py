"""Pictures from folders, lists, manifests and tar shards, here or at a URL, as labelled batches."""

from bnexport.datasets.decode import SUFFIXES, decode_image, pixels, thumbnail
from bnexport.datasets.find import find
from bnexport.datasets.fingerprint import fingerprint
from bnexport.datasets.listing import Listing, Picture
from bnexport.datasets.reader import Batch, Reader, Unreadable

__all__ = [
    "SUFFIXES",
    "Batch",
    "Listing",
    "Picture",
    "Reader",
    "Unreadable",
    "decode_image",
    "find",
    "fingerprint",
    "pixels",
    "thumbnail",
]
