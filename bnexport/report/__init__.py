"""One file for each way of telling a result. Nothing is computed here."""
