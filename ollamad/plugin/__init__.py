"""The whole public API for plugin authors; nothing else of ollamad is promised to them."""

from ollamad.config.schema import Option
from ollamad.plugin.backend import (
    Backend,
    BackendError,
    BackendOutOfMemory,
    Batch,
    Context,
    ContextKind,
    KVCacheFull,
    LoadProgress,
    Model,
    ModelDescription,
    ModelRejected,
    Sampler,
)
from ollamad.plugin.frontend import (
    PROFILES,
    Admin,
    Answer,
    BodyTooLarge,
    CreateRequest,
    EmbedAnswer,
    EmbedRequest,
    Frontend,
    Handler,
    HttpRequest,
    Inference,
    InferenceRequest,
    Library,
    ListedModel,
    Listener,
    Principal,
    Profile,
    Rendered,
    Reply,
    RequestContext,
    Route,
    RunningModel,
    Services,
    ShownModel,
    Stream,
    TransferProgress,
)
from ollamad.plugin.hookspecs import hookimpl, hookspec
from ollamad.types import Device, Memory, Placed, SamplingParameters
from ollamad.wire.messages import LoadSpec

__all__ = [name for name in dir() if not name.startswith("_")]
