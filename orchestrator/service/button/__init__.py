"""The button: a web component, its style and its texts, and the routes that hand them out."""
