"""What the daemon remembers of its own, in a directory that no Ollama touches."""

from ollamad.state.learned import LearnedMemory
from ollamad.state.state import State

__all__ = ["LearnedMemory", "State"]
