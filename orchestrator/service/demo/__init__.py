"""The demo: a course page with two relaunch buttons, and the platform's own view beside them."""
