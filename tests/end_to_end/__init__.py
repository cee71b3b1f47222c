"""The real command and library against real HTTP servers on loopback; then the store is read back."""
