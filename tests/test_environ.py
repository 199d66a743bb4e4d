"""Where the environment is read."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def uses(path: Path) -> list[int]:
    """Lines of *path* that reach for the environment through `os`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in NAMES and isinstance(node.value, ast.Name):
            found += [node.lineno] if node.value.id == "os" else []
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            found += [node.lineno for one in node.names if one.name in NAMES]
    return found


def test_one_module_reads_the_environment() -> None:
    """`os.environ` and its relatives are named in config/load.py and nowhere else."""
    files = [*ROOT.glob("ollamad/**/*.py"), *ROOT.glob("plugins/**/*.py")]
    assert len(files) > 20
    users = {str(path.relative_to(ROOT)): lines for path in files if (lines := uses(path))}
    assert set(users) == {"ollamad/config/load.py"}, users
