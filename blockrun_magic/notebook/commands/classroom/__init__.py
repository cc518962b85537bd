"""Commands of a student in a classroom."""
