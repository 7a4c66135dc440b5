"""The HTTP service for relaunch buttons: live progress, and a button to embed in a page."""
