"""The models on disk: names to manifests, digests to blobs, in Ollama's own layout.

Owns what lies below the store's root. Knows digests and bytes; does not know the network or what a
Modelfile means. Synchronous: callers use threads. No error text holds a path.
"""

from ollamad.store.blobs import BlobWriter, Pins, WrittenBlob
from ollamad.store.bodies import (
    decode_config,
    decode_messages,
    decode_parameters,
    encode_config,
    encode_messages,
    encode_parameters,
)
from ollamad.store.lock import FileLock
from ollamad.store.manifests import Layer, Manifest, StoredManifest
from ollamad.store.prune import Pruned
from ollamad.store.store import Store

__all__ = [
    "BlobWriter",
    "FileLock",
    "Layer",
    "Manifest",
    "Pins",
    "Pruned",
    "Store",
    "StoredManifest",
    "WrittenBlob",
    "decode_config",
    "decode_messages",
    "decode_parameters",
    "encode_config",
    "encode_messages",
    "encode_parameters",
]
