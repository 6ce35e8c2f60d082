"""The overfit ResNet50: training it, and the whole story in one command."""
