"""What surrounds every request, outermost first: the exchange record, then error answers."""
