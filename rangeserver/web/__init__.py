"""The HTTP face: requests in, planned responses out."""
