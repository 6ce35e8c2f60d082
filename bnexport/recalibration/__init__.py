"""New statistics: measured level by level, judged, and what to do about the old ones."""
