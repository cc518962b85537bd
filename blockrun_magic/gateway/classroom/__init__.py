"""The protocol of a classroom, from the student's side."""
