"""The pages' HTML, and what every page shares: base.html, the way it is filled, colours, times."""

import base64
import hashlib
import math
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

FOLDER = Path(__file__).parent

# Okabe and Ito's colours for the colour-blind, without yellow, which is lost on white
COLOURS = ("#d55e00", "#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#0072b2")
BLUE, VERMILION, SKY = COLOURS[5], COLOURS[0], COLOURS[1]


@cache
def template(name: str) -> jinja2.Template:
    """A template of this folder. All that is filled in is escaped, and a name that is not given is
    an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    compact = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    environment.policies["json.dumps_kwargs"] = compact
    environment.filters["clock"] = clock
    environment.filters["csp_hash"] = csp_hash
    return environment.get_template(name)


@cache
def script(name: str) -> Markup:
    """A script of this folder, to be written into a page as it is."""
    return Markup((FOLDER / name).read_text(encoding="utf-8"))


def csp_hash(script: str) -> Markup:
    """What lets a page's Content-Security-Policy run this script, and no other."""
    # a script element begins with the line's end behind its tag
    digest = hashlib.sha256(f"\n{script}".encode()).digest()
    return Markup(f"'sha256-{base64.b64encode(digest).decode()}'")


def clock(second: float) -> str:
    """Seconds as 1:02.3, with hours where there are any."""
    tenths = math.floor(10 * second + 0.5)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
