"""rangeserver: an HTTP range server for objects in an S3 bucket."""

__version__ = "0.2.0"
