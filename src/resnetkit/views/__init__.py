"""What a network looks like: in the terminal, as a drawing, as a page."""
