"""The runtime `server`: a model that a server on the network computes."""
