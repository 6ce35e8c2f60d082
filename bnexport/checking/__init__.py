"""The main job: `check`, and why runs differ."""
