"""Test servers: real HTTP on loopback, playing scripted answers. `server` the machine, `answers` what it plays."""
