"""The real command and the real library against real HTTP servers on loopback; then the store is read back."""
