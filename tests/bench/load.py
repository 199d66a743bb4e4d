"""Measures a flood of posts against a short queue: `python tests/bench/load.py [POSTS] [CONNECTIONS]`.

Prints how long it took, what came back, and the gaps of a stream that ran meanwhile beside those of one alone.
Needs an idle machine to mean anything.
"""

import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "e2e")]

from conftest import Daemon  # noqa: E402 - the tests are no package
from flood import flood_from_outside  # noqa: E402
from unharmed import Bystander, percentile, rss_kib  # noqa: E402


def told(gaps_s: list[float]) -> str:
    """Percentiles of gaps in milliseconds."""
    shares = (0.5, 0.9, 0.99, 1.0)
    return " ".join(f"p{share * 100:.0f}={percentile(gaps_s, share) * 1000:.1f}ms" for share in shares)


def main() -> None:
    posts, connections = (int(text) for text in (*sys.argv[1:], *("10000", "200")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder), OLLAMA_MAX_QUEUE="32").start()
        try:
            with Bystander(daemon) as idle:
                pass
            before = rss_kib(daemon.pid)
            with Bystander(daemon, endless=True) as stream:
                found = flood_from_outside(daemon.port, posts, connections)
            growth = (rss_kib(daemon.pid) - before) / 1024
        finally:
            daemon.close()
    counts = " ".join(f"{status}={count}" for status, count in sorted(found.statuses.items()))
    print(
        f"{posts} posts over {connections} connections: {found.took_s:.1f} s, slowest {found.slowest_s:.2f} s, {counts}"
    )
    print(f"gaps alone:        {told(idle.gaps_s)}")
    ratio = percentile(stream.gaps_s, 0.99) / percentile(idle.gaps_s, 0.99)
    print(f"gaps in the flood: {told(stream.gaps_s)} (p99 {ratio:.1f} times; to reach: 2)")
    print(f"memory right after: {growth:+.1f} MiB")


if __name__ == "__main__":
    main()
