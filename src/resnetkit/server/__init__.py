"""HTTP inference server for a bundle or an exported file."""
