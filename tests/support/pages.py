"""Pages in a browser: waiting for them, and whether everybody can use them."""

import time


def until(page, expression, seconds=10.0):
    """Waits until a JavaScript expression holds.

    Not by Playwright's `wait_for_function`, whose polling the pages' Content-Security-Policy bars.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression} did not come true in {seconds} s"
        time.sleep(0.005)


def accessible(page):
    """Fails where axe-core finds a violation on a page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()
