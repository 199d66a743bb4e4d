"""The contracts that a plugin author subclasses; each test in them is one rule."""

from ollamad.testing.backend_contract import BackendContract, EmbedContract
from ollamad.testing.frontend_contract import Example, FrontendContract

__all__ = ["BackendContract", "EmbedContract", "Example", "FrontendContract"]
