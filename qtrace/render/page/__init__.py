"""The report's view data: plain numbers and words, computed from the tables and tested without a browser."""
