"""A model server that tells the truth."""

__version__ = "0.1.0"
#: What `/api/version` answers: the release of Ollama whose behaviour is served.
OLLAMA_VERSION = "0.32.1"
