"""Differences in the terms of a task: one file for each kind of output, batch by batch, in bounded memory."""
