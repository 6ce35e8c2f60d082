"""Frozen records: reports, findings, facts of models and images. They compute nothing."""
