"""Commands: parse, print, exit code."""
