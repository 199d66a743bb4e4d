"""The start-up line."""

from pathlib import Path

from ollamad.config.announce import environment_line
from ollamad.config.load import load

KEYS = """CUDA_VISIBLE_DEVICES GGML_VK_VISIBLE_DEVICES GPU_DEVICE_ORDINAL HIP_VISIBLE_DEVICES HSA_OVERRIDE_GFX_VERSION
HTTPS_PROXY HTTP_PROXY LLAMA_ARG_FIT LLAMA_ARG_FIT_TARGET NO_PROXY OLLAMA_CONTEXT_LENGTH OLLAMA_DEBUG
OLLAMA_DEBUG_LOG_REQUESTS OLLAMA_EDITOR OLLAMA_FLASH_ATTENTION OLLAMA_GO_TEMPLATE OLLAMA_GPU_OVERHEAD OLLAMA_HOST
OLLAMA_IGPU_ENABLE OLLAMA_KEEP_ALIVE OLLAMA_KV_CACHE_TYPE OLLAMA_LLM_LIBRARY OLLAMA_LOAD_TIMEOUT
OLLAMA_MAX_LOADED_MODELS OLLAMA_MAX_QUEUE OLLAMA_MAX_TRANSFER_STREAMS OLLAMA_MODELS OLLAMA_NOHISTORY OLLAMA_NOPRUNE
OLLAMA_NO_CLOUD OLLAMA_NUM_PARALLEL OLLAMA_ORIGINS OLLAMA_REMOTES OLLAMA_SCHED_SPREAD OLLAMA_VULKAN
ROCR_VISIBLE_DEVICES http_proxy https_proxy no_proxy"""


def line(**environ: str) -> str:
    config = load(environ={"HOME": "/h", **environ}, default_file=Path("/nonexistent"))
    return environment_line(config, ["http://a", "app://*"])


def value(text: str, key: str) -> str:
    after = text.removeprefix("map[").removesuffix("]").split(f"{key}:", 1)[1]
    return after.split("]")[0] + "]" if after.startswith("[") else after.split(" ")[0]


def test_keys_and_their_order() -> None:
    """All keys of the contract are there in byte order."""
    text = line()
    positions = [text.index(f"{key}:") for key in KEYS.split()]
    assert positions == sorted(positions)
    assert text.startswith("map[CUDA_VISIBLE_DEVICES: GGML_VK_VISIBLE_DEVICES: ")


def test_values_as_ollama_prints_them() -> None:
    """Durations are Go text, the host a URL, lists in brackets, what is unset empty."""
    text = line(OLLAMA_KEEP_ALIVE="-1", OLLAMA_HOST="::1", OLLAMA_REMOTES="a,b", OLLAMA_VULKAN="0")
    assert value(text, "OLLAMA_KEEP_ALIVE") == "2562047h47m16.854775807s"
    assert value(text, "OLLAMA_LOAD_TIMEOUT") == "5m0s"
    assert value(text, "OLLAMA_HOST") == "http://[::1]:11434"
    assert value(text, "OLLAMA_ORIGINS") == "[http://a app://*]"
    assert value(text, "OLLAMA_REMOTES") == "[a b]"
    assert value(text, "OLLAMA_MODELS") == "/h/.ollama/models"
    assert value(text, "OLLAMA_DEBUG") == "INFO"
    assert value(text, "OLLAMA_VULKAN") == "false"
    assert value(text, "OLLAMA_FLASH_ATTENTION") == ""
    assert value(text, "OLLAMA_KV_CACHE_TYPE") == ""


def test_credentials_of_proxies_are_masked() -> None:
    """Q5: user and password of a proxy are not logged."""
    text = line(HTTPS_PROXY="http://user:secret@proxy:3128/", no_proxy="localhost")
    assert value(text, "HTTPS_PROXY") == "http://***@proxy:3128/"
    assert value(text, "no_proxy") == "localhost"
    assert "secret" not in text
