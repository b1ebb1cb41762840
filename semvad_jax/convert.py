"""The old place of `models/convert.py`, kept until the version after this one."""

from semvad_jax.models.convert import *  # noqa: F403
