"""The page and the HTTP API over a gallery."""
