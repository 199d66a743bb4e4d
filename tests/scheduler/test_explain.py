"""What a failed load means."""

from __future__ import annotations

from ollamad.errors import LoadFailed, OutOfMemory
from ollamad.scheduler.explain import explain_load_failure, is_out_of_memory


def test_what_is_about_memory():
    """The type alone is enough, and so are the words, in any letter case; other words are not."""
    assert is_out_of_memory(OutOfMemory("no"))
    assert is_out_of_memory(LoadFailed("llama: CUDAMALLOC FAILED at 3"))
    assert not is_out_of_memory(LoadFailed("server parse failed"))


def test_incompatible_is_said_once(model):
    """The advice is added to a file that cannot be loaded, once, and to nothing else."""
    once = explain_load_failure(RuntimeError("failed to load model"), model())
    assert str(once).startswith("failed to load model: this model may be incompatible with your version of Ollama.")
    assert explain_load_failure(once, model()) is once
    other = RuntimeError("exit status 1")
    assert explain_load_failure(other, model()) is other
