"""The daemon's side of runners: `host.RunnerHost` starts one, `connection.Connection` speaks to it."""
