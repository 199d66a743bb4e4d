"""`kill -9` at any point of a create leaves a store in order."""

import json
import subprocess
import sys
from pathlib import Path

#: Runs in a process of its own, because it forks. Counts the lines of the store's code that a create runs
#: through, then, for 50 points among them, lets a child kill itself there and looks at what is left.
SCRIPT = '''
import hashlib, json, os, shutil, signal, sys
from pathlib import Path
from ollamad.names import parse_name
from ollamad.store import FileLock, Layer, Manifest, Store

ROOT = Path(sys.argv[1])
POINTS = 50


def store(root):
    return Store(root / "models", lock=FileLock(root / "lock"))


def create(store, text):
    with store.open_writer() as writer:
        for _ in range(20):
            writer.write(text * 100)
        weights = writer.commit()
    with store.pinned() as pins:
        bodies = [pins.write(b"{}"), pins.write(b"system " + text)]
        pins.use(weights.digest)
        layers = [Layer("x/y", body.digest, body.size_bytes) for body in (*bodies, weights)]
        store.write_manifest(parse_name("model"), Manifest(layers[0], tuple(layers[1:])))


def traced(action, kill_at):
    lines = 0
    def trace(frame, event, argument):
        nonlocal lines
        if "ollamad" not in frame.f_code.co_filename:
            return None
        lines += event == "line"
        if lines == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(None)
    return lines


def prepare(number):
    root = ROOT / str(number)
    create(store(root), b"old")
    return root


def look(root):
    """Problems of a store after a crash."""
    found = store(root)
    problems = []
    listed = found.models()
    if len(listed) != 1 or len(found.names()) != 1:
        problems.append("listed")
    for stored in listed:
        for digest in stored.manifest.digests():
            found.verify_blob(digest)
    for path in (root / "models/blobs").iterdir():
        if len(path.name) == 71 and hashlib.sha256(path.read_bytes()).hexdigest() != path.name[7:]:
            problems.append("hash")
    found.prune(now=path.stat().st_mtime + 7200)
    left = {path.name.replace("-", ":") for path in (root / "models/blobs").iterdir()}
    if left != set().union(*(stored.manifest.digests() for stored in listed)):
        problems.append("left")
    files = [path for path in (root / "models/manifests").rglob("*") if path.is_file()]
    if len(files) != 1:
        problems.append("manifests")
    return problems


root = prepare("count")
total = traced(lambda: create(store(root), b"new"), -1)
report = {"lines": total, "killed": 0, "new": 0, "problems": {}}
for point in range(POINTS):
    root = prepare(point)
    kill_at = 1 + point * (total - 1) // (POINTS - 1)
    child = os.fork()
    if child == 0:
        traced(lambda: create(store(root), b"new"), kill_at)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    report["killed"] += os.WIFSIGNALED(status)
    problems = look(root)
    report["new"] += b"new" in (root / "models/blobs").joinpath(
        next(layer.digest for layer in store(root).models()[0].manifest.layers).replace(":", "-")).read_bytes()
    if problems:
        report["problems"][kill_at] = problems
    create(store(root), b"again")
    if look(root):
        report["problems"][kill_at] = ["again"]
print(json.dumps(report))
'''


def test_kill_at_fifty_points_of_a_create(tmp_path: Path) -> None:
    """After each of 50 kills one whole model is listed, every blob hashes to its name, and a prune leaves no rest."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["problems"] == {}
    assert report["killed"] == 50
    # The sample reaches from before the first byte to after the new manifest is published.
    assert 0 < report["new"] < 50
