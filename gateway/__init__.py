"""edge-gateway: PLC readings, kept on disk until the broker has them."""
