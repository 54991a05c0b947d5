"""What `make demo` runs: simulated PLCs, the gateway, a TLS-only broker, and a table of what the broker received."""
