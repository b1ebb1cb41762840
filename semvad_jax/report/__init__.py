"""What a run found, told: summary and tables, curves, drawings, the page of a run."""
