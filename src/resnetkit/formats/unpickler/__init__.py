"""A pickle interpreter that reads data and never imports or calls anything."""
