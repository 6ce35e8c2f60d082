"""PyTorch modules and files."""
