"""Many rows through one task: read, route, write each exactly once."""
