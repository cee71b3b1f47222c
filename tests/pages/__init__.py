"""Pages in a real browser: Chromium, the system's own, driven by Playwright."""
