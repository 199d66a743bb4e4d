"""llama.cpp as a backend: `cpu`, `cuda` and `metal` say what they need, `binding` and `samplers` hold what
touches it, through `native`, the only file that imports it."""
