"""Numbers and their text form."""

import threading

import pytest

from ollamad.metrics import REGISTRY, Counter, Gauge, Histogram, Registry, counter


def test_the_text_form_is_what_prometheus_reads() -> None:
    """Families are sorted by name, each with help and type; labels are quoted and escaped."""
    registry = Registry()
    requests = registry.declare(Counter("requests_total", "Requests.", ("model", "result")))
    requests.add(1, "demo", "ok")
    requests.add(2, 'a"b\\c\nd', "ok")
    registry.declare(Gauge("loaded", "Loaded\nmodels \\ now.")).set(2.5)
    registry.declare(Counter("never_total", "Nothing yet."))
    assert registry.render() == (
        "# HELP loaded Loaded\\nmodels \\\\ now.\n"
        "# TYPE loaded gauge\n"
        "loaded 2.5\n"
        "# HELP never_total Nothing yet.\n"
        "# TYPE never_total counter\n"
        "never_total 0\n"
        "# HELP requests_total Requests.\n"
        "# TYPE requests_total counter\n"
        'requests_total{model="a\\"b\\\\c\\nd",result="ok"} 2\n'
        'requests_total{model="demo",result="ok"} 1\n'
    )


def test_a_histogram_counts_below_each_bound() -> None:
    """Buckets are cumulative, a value on a bound belongs to it, and +Inf equals the count."""
    histogram = Histogram("load_seconds", "Loads.", ("model",), buckets=(1, 0.5))
    for value in (0.1, 0.5, 0.7, 3):
        histogram.observe(value, "demo")
    assert histogram.render()[2:] == [
        'load_seconds_bucket{model="demo",le="0.5"} 2',
        'load_seconds_bucket{model="demo",le="1"} 3',
        'load_seconds_bucket{model="demo",le="+Inf"} 4',
        'load_seconds_sum{model="demo"} 4.3',
        'load_seconds_count{model="demo"} 4',
    ]


def test_gauges_go_both_ways_and_away() -> None:
    """A gauge is set, moved and removed by its labels."""
    gauge = Gauge("running", "Running.", ("model",))
    gauge.set(3, "a")
    gauge.add(-1, "a")
    gauge.add(1, "b")
    assert (gauge.value("a"), gauge.value("b"), gauge.value("c")) == (2, 1, 0)
    gauge.remove("a")
    assert gauge.render()[2:] == ['running{model="b"} 1']


@pytest.mark.parametrize(
    ("value", "text"), [(float("inf"), "+Inf"), (float("-inf"), "-Inf"), (float("nan"), "NaN"), (1e20, str(10**20))]
)
def test_odd_numbers_have_a_text(value: float, text: str) -> None:
    """Numbers that are no decimals are written as Prometheus reads them."""
    gauge = Gauge("odd", "Odd.")
    gauge.set(value)
    assert gauge.render()[-1] == f"odd {text}"


def test_a_name_is_declared_once() -> None:
    """Declaring the same metric again returns the first; as another kind it is our mistake."""
    registry = Registry()
    first = registry.declare(Counter("a_total", "A."))
    assert registry.declare(Counter("a_total", "A.")) is first
    with pytest.raises(AssertionError):
        registry.declare(Gauge("a_total", "A."))
    with pytest.raises(AssertionError):
        first.add(1, "no such label")
    assert registry.names() == ("a_total",)


def test_the_process_has_one_registry() -> None:
    """What a room declares is shown without anyone passing it on."""
    mine = counter("ollamad_test_of_metrics_total", "Test.")
    mine.add()
    assert "ollamad_test_of_metrics_total 1\n" in REGISTRY.render()


def test_threads_lose_no_count() -> None:
    """Counting from several threads adds up."""
    number = Counter("n_total", "N.")
    threads = [threading.Thread(target=lambda: [number.add() for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert number.value() == 8000
