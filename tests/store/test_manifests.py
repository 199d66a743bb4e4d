"""Manifests as bytes: Ollama's own when written, anybody's when read."""

import json

import pytest

from ollamad.store.manifests import Layer, Manifest, decode_manifest, encode_manifest

D1, D2 = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def test_bytes_of_a_manifest() -> None:
    """The encoder's JSON, fields in order, empty `from` and `name` left out, a newline at the end."""
    manifest = Manifest(
        Layer("application/vnd.docker.container.image.v1+json", D1, 7),
        (
            Layer("application/vnd.ollama.image.model", D2, 9, from_name="a&b:latest"),
            Layer("application/vnd.ollama.image.tensor", D2, 9, name="x<y>"),
        ),
    )
    assert (
        encode_manifest(manifest)
        == (
            '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
            f'"config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{D1}","size":7}},'
            f'"layers":[{{"mediaType":"application/vnd.ollama.image.model","digest":"{D2}","size":9,'
            '"from":"a\\u0026b:latest"},'
            f'{{"mediaType":"application/vnd.ollama.image.tensor","digest":"{D2}","size":9,'
            '"name":"x\\u003cy\\u003e"}]}\n'
        ).encode()
    )
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_hand_written_manifest() -> None:
    """Any order and whitespace, unknown fields and media types, and missing fields are accepted."""
    text = json.dumps(
        {
            "layers": [{"size": 3, "digest": D2, "mediaType": "x/y", "extra": [1]}],
            "annotations": {},
            "config": {"digest": "", "rootfs": None},
        },
        indent=3,
    )
    manifest = decode_manifest(text.encode())
    assert manifest == Manifest(Layer("", "", 0), (Layer("x/y", D2, 3),), 0, "")
    assert manifest.digests() == {D2}
    assert decode_manifest(b"{}") == Manifest(None, (), 0, "")
    assert decode_manifest(b'{"layers":null}').layers == ()


def test_sizes_and_types() -> None:
    """Duplicate layers count each time; layers are found by media type, in order."""
    layer = Layer("a/b", D1, 10)
    manifest = Manifest(layer, (layer, layer, Layer("c/d", D2, 5)))
    assert manifest.size_bytes == 35
    assert manifest.of_type("a/b") == (layer, layer)
    assert manifest.digests() == {D1, D2}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"text", b"[]", b"1", b'{"layers":{}}', b'{"layers":[1]}', b'{"config":"x"}'),
        *(b'{"layers":[{"size":"1"}]}', b'{"layers":[{"digest":1}]}', b'{"schemaVersion":true}'),
        *(b"\xff\xfe", b"[" * 100_000),
    ],
)
def test_what_is_no_manifest(data: bytes) -> None:
    """Anything else is a `ValueError`."""
    with pytest.raises(ValueError):  # noqa: PT011 - json's own texts vary
        decode_manifest(data)
