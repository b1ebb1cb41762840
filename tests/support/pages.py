"""Waiting for a page in a browser."""

import time


def until(page, expression, seconds=10.0):
    """Waits until a JavaScript expression holds.

    Not by Playwright's `wait_for_function`, whose polling the pages' Content-Security-Policy bars.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression} did not come true in {seconds} s"
        time.sleep(0.005)
