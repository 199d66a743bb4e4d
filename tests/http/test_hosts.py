"""The guard against DNS rebinding; ids from http-api contract A.2."""

import pytest

from ollamad.http.hosts import judge_host


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        pytest.param("evil.test", "refused", id="CO-13"),
        pytest.param("192.168.1.10:11434", "address", id="CO-14"),
        pytest.param("8.8.8.8", "refused", id="CO-15"),
        pytest.param("foo.local", "name", id="CO-16a"),
        pytest.param("foo.internal", "name", id="CO-16b"),
        pytest.param("a.localhost", "name", id="CO-16c"),
        pytest.param("LOCALHOST:11434", "name", id="CO-17"),
        pytest.param("localhost", "name", id="CO-18"),
        pytest.param("127.0.0.1", "address", id="CO-19"),
        pytest.param("0.0.0.0:11434", "address", id="CO-21"),
        ("", "name"),
        ("Box", "name"),
        ("box:80", "name"),
        ("FOO.LOCAL", "name"),
        ("local", "refused"),
        ("10.0.0.1", "address"),
        ("172.16.3.4:1", "address"),
        ("172.32.0.1", "refused"),
        ("169.254.1.1", "refused"),
        ("[::1]:11434", "address"),
        ("[::1]", "refused"),
        ("::1", "address"),
        ("[fd00::1]:80", "address"),
        ("[2001:4860:4860::8888]:80", "refused"),
        ("::ffff:10.0.0.1", "address"),
        ("127.0.0.1.evil.test", "refused"),
        ("224.0.0.1", "refused"),
        ("255.255.255.255", "refused"),
        ("localhost:evil:80", "refused"),
    ],
)
def test_hosts(host: str, verdict: str) -> None:
    """Near addresses and local names pass, all else is refused; brackets go only with a port."""
    assert judge_host(host, "box") == verdict
