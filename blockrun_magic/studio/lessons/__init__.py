"""Lessons: notebooks with their images."""
