"""Many checks from one plan: what they are, running them side by side, and what came of them."""
