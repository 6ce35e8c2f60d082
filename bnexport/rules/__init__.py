"""What the findings say, from which numbers, and what to do about them: NumPy and records only."""
