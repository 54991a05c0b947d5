"""OPC UA: reads nodes or subscribes to them, and neither writes nor calls."""
