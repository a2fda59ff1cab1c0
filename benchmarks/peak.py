"""Run a command, and note what it took: ``python -I -S peak.py RESULT COMMAND [ARGUMENT…]``.

A process's peak begins with what the one held that started it (Linux keeps it over an exec), so a
command is started by this bare one, and not by a benchmark that has imported half of Python. What
is below its own 10 MB or so cannot be told.

RESULT is the file that gets seconds, CPU seconds and the peak of memory in bytes, of the command
with its children. The exit code is the command's.
"""

import os
import sys
import time

began = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - began
peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
with open(sys.argv[1], "w", encoding="ascii") as result:  # noqa: PTH123  (pathlib is 1 MB)
    print(seconds, usage.ru_utime + usage.ru_stime, peak, file=result)
sys.exit(abs(os.waitstatus_to_exitcode(status)))
