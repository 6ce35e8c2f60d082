"""Files, limits, processes, the cache and the machine: what every other package may use."""
