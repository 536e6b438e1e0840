"""One process, one loop: listening, serving, draining."""
