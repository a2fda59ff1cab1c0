"""The unmodified official clients, pointed at a replica: the oracle of other tests.

Each call is a process of its own and costs about a second of CPU; be sparing.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kagglecrawl.replica.server import Replica


def kaggle_cli(
    replica: Replica, *args: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `kaggle ARGS…` against the replica; raises CalledProcessError if it fails."""
    return _run(replica, [str(Path(sys.executable).with_name("kaggle")), *args], cwd)


def official_json(replica: Replica, code: str, cwd: Path | None = None) -> Any:
    """Run Python code against the replica, and read the last line that it prints as JSON.

    What the clients print before that (notices, `Downloading …`) does not matter. `kaggle`,
    `kagglehub`, `kagglesdk` and `json` are to be imported by the code. Raises CalledProcessError.
    """
    return json.loads(_run(replica, [sys.executable, "-c", code], cwd).stdout.splitlines()[-1])


def _run(
    replica: Replica, command: list[str], cwd: Path | None
) -> subprocess.CompletedProcess[str]:
    """Nothing of this user's (home, credentials, caches, proxies) reaches the process."""
    with tempfile.TemporaryDirectory() as home:
        env = {
            "HOME": home,
            "KAGGLE_CONFIG_DIR": f"{home}/config",
            "KAGGLEHUB_CACHE": f"{home}/cache",
            "PATH": "/usr/bin:/bin",
            "PYTHONUTF8": "1",
            **replica.env(),
        }
        return subprocess.run(
            command, env=env, cwd=cwd or home, capture_output=True, text=True, check=True
        )
