"""What the bytes of values mean."""
