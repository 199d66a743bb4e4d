"""Short-lived children, one per heavy or dangerous task: `job.Jobs` runs them, each kind has a module."""
