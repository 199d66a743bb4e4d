"""Ollama's API keeps the contract of frontends."""

import hashlib

import pytest
from ollamad_ollama_api import OllamaApi

from ollamad.plugin import Frontend
from ollamad.testing.contracts import Example, FrontendContract

BLOB = "sha256:" + hashlib.sha256(b"blob").hexdigest()


class TestOllamaApi(FrontendContract):
    plugin_module = "ollamad_ollama_api"
    examples = (
        Example("GET", "/"),
        Example("GET", "/api/version"),
        Example("GET", "/api/tags"),
        Example("GET", "/api/ps"),
        Example("POST", "/api/show", b'{"model":"m"}'),
        Example("POST", "/api/generate", b'{"model":"m","prompt":"hi"}'),
        Example("POST", "/api/generate", b'{"model":"m","prompt":"hi","stream":false}'),
        Example("POST", "/api/chat", b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'),
        Example("POST", "/api/chat", b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":false}'),
        Example("POST", "/api/embed", b'{"model":"m","input":["a","b"]}'),
        Example("POST", "/api/embeddings", b'{"model":"m","prompt":"a"}'),
        Example("POST", "/api/copy", b'{"source":"m","destination":"n"}'),
        Example("DELETE", "/api/delete", b'{"model":"m"}'),
        Example("POST", f"/api/blobs/{BLOB}", b"blob"),
        Example("POST", "/api/create", b'{"model":"n","from":"m"}'),
    )

    @pytest.fixture
    def frontend(self) -> Frontend:
        return OllamaApi()
