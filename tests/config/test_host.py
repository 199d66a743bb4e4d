"""``OLLAMA_HOST``: the tables of the runtime contract's 9.1."""

import pytest

from ollamad.config.host import parse_host
from ollamad.config.values import trim

HOSTS = {
    "HOST-02": ("1.2.3.4", "http://1.2.3.4:11434"),
    "HOST-03": (":1234", "http://:1234"),
    "HOST-04": ("1.2.3.4:1234", "http://1.2.3.4:1234"),
    "HOST-05": ("example.com", "http://example.com:11434"),
    "HOST-06": ("example.com:1234", "http://example.com:1234"),
    "HOST-07": (":0", "http://:0"),
    "HOST-10": ("[::1]", "http://[::1]:11434"),
    "HOST-11": ("[::]", "http://[::]:11434"),
    "HOST-12": ("::1", "http://[::1]:11434"),
    "HOST-13": ("[::1]:1337", "http://[::1]:1337"),
    "HOST-14": (" 1.2.3.4 ", "http://1.2.3.4:11434"),
    "HOST-15": ('"1.2.3.4"', "http://1.2.3.4:11434"),
    "HOST-16": (' " 1.2.3.4 " ', "http://1.2.3.4:11434"),
    "HOST-17": ("'1.2.3.4'", "http://1.2.3.4:11434"),
    "HOST-18": ("http://1.2.3.4", "http://1.2.3.4:80"),
    "HOST-19": ("http://1.2.3.4:4321", "http://1.2.3.4:4321"),
    "HOST-20": ("https://1.2.3.4", "https://1.2.3.4:443"),
    "HOST-21": ("https://1.2.3.4:4321", "https://1.2.3.4:4321"),
    "HOST-22": ("https://example.com/ollama", "https://example.com:443/ollama"),
    "HOST-23": ("ollama.com", "https://ollama.com:443"),
    "HOST-24": ("http://example.com", "http://example.com:80"),
    "HOST-25": ("https://example.com:1234", "https://example.com:1234"),
    "HOST-26": ("example.com/", "http://example.com:11434"),
    "HOST-27": ("example.com:1234/", "http://example.com:1234"),
    "HOST-30": ("https://[::1]", "https://[::1]:443"),
}
BAD_PORTS = {
    "HOST-08": (":66000", "http://:11434"),
    "HOST-09": (":-1", "http://:11434"),
    "HOST-28": ("1.2.3.4:", "http://1.2.3.4:11434"),
    "HOST-29": ("1.2.3.4:abc", "http://1.2.3.4:11434"),
}
CONNECTABLE = {
    "CONN-01": ("", "http://127.0.0.1:11434"),
    "CONN-02": ("127.0.0.1", "http://127.0.0.1:11434"),
    "CONN-03": ("127.0.0.1:1234", "http://127.0.0.1:1234"),
    "CONN-04": ("0.0.0.0", "http://127.0.0.1:11434"),
    "CONN-05": ("0.0.0.0:1234", "http://127.0.0.1:1234"),
    "CONN-06": ("[::]", "http://[::1]:11434"),
    "CONN-07": ("[::]:1234", "http://[::1]:1234"),
    "CONN-08": ("[::1]", "http://[::1]:11434"),
    "CONN-09": ("[::1]:1234", "http://[::1]:1234"),
    "CONN-10": ("192.168.1.5", "http://192.168.1.5:11434"),
    "CONN-11": ("192.168.1.5:8080", "http://192.168.1.5:8080"),
    "CONN-12": ("example.com", "http://example.com:11434"),
    "CONN-13": ("example.com:1234", "http://example.com:1234"),
    "CONN-14": ("https://0.0.0.0:4321", "https://127.0.0.1:4321"),
}
LOCAL = """ |localhost|localhost:11435|127.0.0.1|127.0.0.1:11434|0.0.0.0|0.0.0.0:11434|::1|[::1]:11434|http://localhost:11434"""
REMOTE = (
    """example.com|example.com:11434|192.168.1.1|192.168.1.1:11434|http://example.com:11434|https://example.com:443"""
)


@pytest.mark.parametrize(("text", "url"), HOSTS.values(), ids=HOSTS)
def test_host(text: str, url: str) -> None:
    """The text of OLLAMA_HOST means this URL."""
    host, bad_port = parse_host(trim(text))
    assert (host.url, bad_port) == (url, "")


@pytest.mark.parametrize(("text", "url"), BAD_PORTS.values(), ids=BAD_PORTS)
def test_bad_port(text: str, url: str) -> None:
    """A port that is none becomes the default and is told."""
    host, bad_port = parse_host(text)
    assert host.url == url
    assert bad_port


@pytest.mark.parametrize(("text", "url"), CONNECTABLE.values(), ids=CONNECTABLE)
def test_connectable(text: str, url: str) -> None:
    """A client goes to the loopback address of an unspecified one."""
    assert parse_host(text)[0].connectable().url == url


@pytest.mark.parametrize("text", LOCAL.split("|"))
def test_local(text: str) -> None:
    """LOC-01 to LOC-10: this machine."""
    assert parse_host(text)[0].local


@pytest.mark.parametrize("text", REMOTE.split("|"))
def test_not_local(text: str) -> None:
    """LOC-11 to LOC-16: another machine."""
    assert not parse_host(text)[0].local


def test_whether_a_port_was_named() -> None:
    """Only a text that names a port, or a scheme that implies one, decides about the port."""
    assert not parse_host("1.2.3.4")[0].names_port
    assert parse_host("1.2.3.4:5")[0].names_port
    assert parse_host("http://1.2.3.4")[0].names_port
