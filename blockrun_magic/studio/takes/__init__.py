"""Takes of requests: the one to use, and the lock that lets one kernel at a time buy it."""
