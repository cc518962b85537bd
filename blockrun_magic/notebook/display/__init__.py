"""What cells and commands show."""
