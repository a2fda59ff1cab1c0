"""The private parts of Scrapy that this project uses, all of them, in one place.

``tests/test_internals.py`` fails loudly when a release of Scrapy changes one.
"""

from __future__ import annotations

from scrapy.core.engine import ExecutionEngine


def wake(engine: ExecutionEngine) -> None:
    """Make the engine ask the scheduler for requests now.

    A scheduler that returned None is otherwise asked again at the engine's heartbeat, every 5
    seconds, or when another request ends.
    """
    if engine._slot is not None:
        engine._slot.nextcall.schedule()
