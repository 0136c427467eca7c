"""What a machine offers a model: memory and bandwidth, detected here or of a known kind of machine."""
