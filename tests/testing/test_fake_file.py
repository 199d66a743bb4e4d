"""The written model file is a valid GGUF."""

from __future__ import annotations

from pathlib import Path

from ollamad import gguf
from ollamad.testing.fake_file import write_fake_model


def test_our_reader_reads_it(tmp_path: Path) -> None:
    """Header, metadata and the tensor are as GGUF has them."""
    path = write_fake_model(tmp_path / "m.gguf", metadata={"general.name": "mine"}, n_ctx_train=77, wide=True)
    header = gguf.read_header(path)
    facts = gguf.facts(header)
    assert (facts.architecture, facts.context_length, facts.embedding_length) == ("fake", 77, 16)
    assert header.metadata["general.name"] == "mine"
    assert header.metadata["fake.wide"] is True
    assert [(tensor.name, tuple(tensor.shape)) for tensor in header.tensors] == [("token_embd.weight", (8,))]
