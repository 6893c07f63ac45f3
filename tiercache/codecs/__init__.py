"""Codecs: between a user's values and the bytes that shared tiers keep.

A codec is any object with ``name``, ``encode`` and ``decode`` (`Codec`). Those here hold no state that
changes: one object serves any number of caches and threads. Importing them imports neither numpy nor
cryptography nor zstd.
"""

from tiercache.codecs.compressed import ZstdCodec
from tiercache.codecs.encrypted import EncryptedCodec
from tiercache.codecs.json import JSONCodec
from tiercache.codecs.text import BytesCodec, TextCodec
from tiercache.codecs.vectors import VectorCodec
from tiercache.protocols import Codec

__all__ = ["BytesCodec", "Codec", "EncryptedCodec", "JSONCodec", "TextCodec", "VectorCodec", "ZstdCodec"]
