"""What a person or a machine on site can learn from the running gateway: health, metrics and a small page."""
