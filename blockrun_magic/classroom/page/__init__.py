"""The teacher's page: rendered on the server, without JavaScript."""
