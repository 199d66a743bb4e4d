"""What the daemon remembers of its own, in a directory that no Ollama touches."""

from ollamad.state.state import State

__all__ = ["State"]
