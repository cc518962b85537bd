"""Takes of requests: which one to use, and the lock that lets one kernel at a time buy it."""
