"""The tables and figures of the paper, each trained or measured by one command."""
