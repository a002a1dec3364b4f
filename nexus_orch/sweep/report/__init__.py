"""What a sweep has found, for people and programs: a story made of its outcomes, and the forms in which it is told."""
