"""llama.cpp as a backend: `cpu`, `cuda` and `metal` say what they need, `binding` is the only file that touches it."""
