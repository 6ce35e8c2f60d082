"""Arrays as what a model is run on: made to fit its inputs, and read from files other than pictures."""
