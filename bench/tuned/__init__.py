"""What tuning is worth and what it costs, from rows to figures: one run, one page."""
