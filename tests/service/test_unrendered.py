"""Models whose prompts cannot be made yet."""

import pytest

from ollamad.errors import RunnerFailed, Unsupported
from ollamad.service.unrendered import refuse_unrendered
from ollamad.types import ModelConfig, ModelName, PromptPath, ResolvedModel


def model(path: PromptPath, renderer: str = "") -> ResolvedModel:
    name = ModelName("h", "n", "m", "t")
    return ResolvedModel("m", name, "m:t", "d", (), config=ModelConfig(renderer=renderer), prompt_path=path)


@pytest.mark.parametrize("path", ["native", "none"])
def test_others_pass(path: PromptPath) -> None:
    """A model with its own Jinja template, or with none, is not refused."""
    refuse_unrendered(model(path))


def test_what_is_missing_is_named() -> None:
    """A Go template and a known renderer are not available; an unknown renderer is an error of the model."""
    with pytest.raises(Unsupported, match="Go templates are not available in this version of ollamad"):
        refuse_unrendered(model("go"))
    with pytest.raises(Unsupported, match="renderer gemma4 is not available in this version of ollamad"):
        refuse_unrendered(model("go", "gemma4"))
    with pytest.raises(RunnerFailed, match='unknown renderer "custom-renderer"'):
        refuse_unrendered(model("go", "custom-renderer"))
