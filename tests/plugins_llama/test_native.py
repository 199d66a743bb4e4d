"""How the C API is imported."""

from __future__ import annotations

import subprocess
import sys


def test_the_c_api_comes_alone() -> None:
    """The binding brings neither numpy nor the package around the C API into a process."""
    heavy = "{'numpy', 'jinja2', 'llama_cpp.llama'}"
    script = f"import sys; from ollamad_llama import binding; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
