"""Test servers: real HTTP on loopback, playing scripted answers. `server` plays, `answers` is what."""
