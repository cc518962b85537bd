"""Databases behind one interface: SQLite by default, PostgreSQL for one that several machines share."""
