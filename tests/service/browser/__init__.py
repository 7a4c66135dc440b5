"""The button in a real browser, on a real service, on the sandbox."""
