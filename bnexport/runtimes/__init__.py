"""The runtimes: one file imports each library, and only inside functions."""
