"""What travels with mediabatch as data: example manifests and media, token rules, price books, replies."""
