"""The resize kernels of other libraries in NumPy, so that what they compute can be recognised where they are not installed."""
