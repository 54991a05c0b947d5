"""Commissioning: what the commands that look at PLCs, registers and tag lists decide, apart from the terminal."""
