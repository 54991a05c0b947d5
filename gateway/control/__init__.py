"""The local socket through which commands reach the running daemon, and with it the links that it holds open."""
