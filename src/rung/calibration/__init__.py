"""From labelled rows to certificates: measure what the rungs do on them, then certify each target."""
