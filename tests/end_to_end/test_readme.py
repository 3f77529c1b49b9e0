"""The agent of the README does what the README says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from agentplatform import consortium
from agentplatform.console import processes

README = Path(__file__).parents[2] / "README.md"


def code_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_agent_to_be_pasted_moves_and_says_what_is_written(tmp_path: Path) -> None:
    text = README.read_text()
    (block,) = code_blocks(text)
    promised = re.search(r"python hello\.py +# (.*)", text)
    assert promised is not None
    (tmp_path / "hello.py").write_text(block)
    root = tmp_path / "root"
    hosts = ["north", "south"]
    consortium.found(root, hosts)
    try:
        processes.start(root, hosts)
        environment = os.environ | {"AGENTPLATFORM_ROOT": str(root)}
        done = subprocess.run(
            [sys.executable, "hello.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
    finally:
        processes.stop(root, hosts)
    assert (done.stdout.strip(), done.returncode) == (promised[1], 0), done.stderr


def test_the_agent_to_be_pasted_is_short() -> None:
    (block,) = code_blocks(README.read_text())
    assert len([line for line in block.splitlines() if line.strip()]) <= 20


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert links and [link for link in links if not (README.parent / link).exists()] == []
