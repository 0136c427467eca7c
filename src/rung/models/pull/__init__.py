"""Fetching a model: resolved, fitting, downloaded, verified, scanned, visible, pinned; in this order."""
