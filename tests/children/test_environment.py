"""What a child sees of our environment."""

from ollamad.children.environment import child_environment, loggable


def test_only_allowed_variables_pass() -> None:
    """Paths, locale, devices and native libraries pass; keys, sockets and our own options do not."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HIP_X", "ROCR_X", "GGML_X")
    more = ("LLAMA_ARG_FIT_TARGET", "FAKE_STEP_US", "PYTHONPATH", "OMP_NUM_THREADS")
    allowed = dict.fromkeys(names + more, "x")
    refused = dict.fromkeys(("NOTIFY_SOCKET", "WATCHDOG_USEC", "OLLAMA_HOST", "OPENAI_API_KEY", "HTTPS_PROXY"), "x")
    seen = child_environment(allowed | refused)
    ours = {"GGML_NO_BACKTRACE": "1", "OPENBLAS_NUM_THREADS": "1"}
    assert seen == {**allowed, **ours, "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}


def test_the_user_may_overrule_our_defaults() -> None:
    """A variable that the user set is kept, and how threads wait is left to who says anything of it."""
    seen = child_environment({"OMP_WAIT_POLICY": "active"})
    assert seen["OMP_WAIT_POLICY"] == "active"
    assert "GOMP_SPINCOUNT" not in seen
    assert child_environment({"GOMP_SPINCOUNT": "0"})["GOMP_SPINCOUNT"] == "0"


def test_the_log_shows_devices_and_no_secrets() -> None:
    """Only what decides about devices is logged; a name that sounds of a secret has its value blanked."""
    environment = {"PATH": "/bin", "HOME": "/root", "GGML_X": "1", "CUDA_API_KEY": "hush", "HIP_Y": "2"}
    assert loggable(environment) == {"PATH": "/bin", "GGML_X": "1", "CUDA_API_KEY": "[redacted]", "HIP_Y": "2"}


def test_the_daemons_own_allocator_stays_with_the_daemon() -> None:
    """What `ollamad serve` sets for itself does not reach a child; other Python settings do."""
    ours = {"PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "1"}
    seen = child_environment({**ours, "PYTHONPATH": "x"})
    assert seen["PYTHONPATH"] == "x"
    assert not ours.keys() & seen.keys()
