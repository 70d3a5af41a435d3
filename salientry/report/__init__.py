"""Pages and tables: every one is a query over the frame of numbers, rendered by one function."""
