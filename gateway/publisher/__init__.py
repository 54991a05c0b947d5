"""The way from the buffer to the broker, and of the acknowledgements back."""
