"""The pytest items of pages and of laws, and how one is run again."""
