"""Databases behind one interface: SQLite for everybody, PostgreSQL where several machines share one."""
