"""The two files a user writes, `rung.toml` and task files: read, checked, and described for editors."""
