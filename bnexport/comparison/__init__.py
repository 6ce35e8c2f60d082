"""The runs of a check and what is compared with what."""
