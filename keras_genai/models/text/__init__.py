"""Models of text: one file each."""
