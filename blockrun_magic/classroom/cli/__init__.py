"""Commands of the classroom for a shell."""
