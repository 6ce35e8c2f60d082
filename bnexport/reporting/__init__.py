"""One file for each output format. Nothing is computed here."""
