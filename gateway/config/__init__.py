"""YAML to Config: complete and frozen, or one list of everything that is wrong with it."""

from gateway.config.loader import load
from gateway.config.schema import Config

__all__ = ["Config", "load"]
