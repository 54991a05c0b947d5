"""YAML to Config: complete and frozen, or one list of everything that is wrong with it."""

from gateway.config.loader import Loaded, load, load_with_templates
from gateway.config.schema import Config

__all__ = ["Config", "Loaded", "load", "load_with_templates"]
