"""What a run found: its summary and tables, curves, drawings, and its page."""
