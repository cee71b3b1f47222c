"""Local files and buckets → something an endpoint can read; probing sizes and durations."""
