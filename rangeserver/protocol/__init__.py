"""HTTP decisions as pure functions: no I/O, no clock, no logger (import-linter checks it)."""
